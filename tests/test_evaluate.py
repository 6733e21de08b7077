"""The evaluation script, with the arguments of a user, on the photos inside scikit-image."""

import io
import json
import runpy
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import datasets
import pytest
import torch
from conftest import make_pipeline
from PIL import Image
from scoring import two_sample_test
from scoring.painted_photos import load_spread
from skimage import data


TRAIN = Path(__file__).parents[1] / "train"


class ChannelStatistics(torch.nn.Module):
    """A feature network whose output can be checked: mean and deviation of each channel."""

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        flat = photos.float().flatten(start_dim=2)
        return torch.cat((flat.mean(dim=2), flat.std(dim=2)), dim=1)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Two sets of four photos each, evaluated apart and together, with everything that can be switched on."""
    folder = tmp_path_factory.mktemp("evaluation")
    for name, pixels in (("people", data.astronaut()), ("animals", data.chelsea())):
        (folder / name).mkdir()
        for number in range(4):
            Image.fromarray(pixels[number * 40 : number * 40 + 150, number * 30 : number * 30 + 190]).save(
                folder / name / f"{number}.png"
            )
    make_pipeline().save_pretrained(folder / "checkpoint")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(ChannelStatistics()).save(str(folder / "statistics.pt"))
    options = ["--size", "64", "--samples", "3", "--two-sample", "--bits-per-dimension", "4"]
    options += ["--checkpoint", folder / "checkpoint", "--features", folder / "statistics.pt"]
    options += ["--photos", folder / "people", folder / "animals", "--output", folder / "out"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.setattr(sys, "argv", [*map(str, (TRAIN / "evaluate.py", *options))])
        patch.setattr(two_sample_test, "_UPDATES", 20)  # how well it judges is for the test of it to tell
        runpy.run_path(str(TRAIN / "evaluate.py"), run_name="__main__")
    return folder / "out", printed.getvalue()


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def test_baselines_have_the_scores_that_their_names_say(evaluated):
    rows = results_of(evaluated[0])["rows"]
    assert rows["gray input"]["CF"] == 0
    assert rows["gray input"]["abs dCF of means"] == rows["gray input"]["true CF"] > 0
    assert rows["true colors"]["dE00"] == 0 and rows["true colors"]["PSNR"] is None
    assert rows["true colors"]["FID (statistics) paired"] == 0 < rows["true colors"]["FID (statistics) disjoint"]
    assert rows["chroma-resolution floor"]["dE00"] < rows["one oracle mean color"]["dE00"] < rows["gray input"]["dE00"]
    assert rows["best of 3"]["dE00"] <= rows["one sample"]["dE00"]
    assert rows["one sample"]["diversity"] > 0 and rows["one sample"]["seconds"] > 0
    assert 0.5 <= rows["gray input"]["told from real"] <= 1
    assert rows["one sample"]["bits/dim"] > 0


def test_photos_of_the_training_shards_can_be_left_out(tmp_path):
    for split, size in (("train", 20), ("validation", 30)):
        file = io.BytesIO()
        Image.new("RGB", (size, size)).save(file, "PNG")
        rows = {"image": [{"bytes": file.getvalue(), "path": f"{split}.png"}]}
        datasets.Dataset.from_dict(rows).to_parquet(tmp_path / f"{split}-00000.parquet")

    every, scored = (
        list(load_spread(str(tmp_path), files, "test", None)) for files in ("*.parquet", "validation-*.parquet")
    )

    assert [photo.size for photo in every] == [(20, 20), (30, 30)]
    assert [photo.size for photo in scored] == [(30, 30)]


def test_the_sets_together_are_the_average_of_the_sets_apart(evaluated):
    output, _ = evaluated
    apart = [results_of(output / name)["rows"] for name in ("people", "animals")]
    together = results_of(output)
    assert together["num_images"] == 8 and together["dataset"] == "people + animals"
    for row in ("gray input", "1-step mean", "one sample", "best of 3"):
        for column in ("dE00", "SSIM", "CF"):
            mean = sum(rows[row][column] for rows in apart) / 2
            assert together["rows"][row][column] == pytest.approx(mean, rel=1e-9), (row, column)


def test_the_table_names_the_feature_network_and_what_a_classifier_judged(evaluated):
    output, printed = evaluated
    table = (output / "results.md").read_text()
    assert table in printed and "FID (statistics) paired" in table and "| FID |" not in table
    results = results_of(output)
    assert all(isinstance(value, (int, float)) for value in results["metrics"].values())
    judged = {row for row, scores in results["rows"].items() if scores.get("told from real") is not None}
    assert set(results["told_from_real_95_percent"]) == judged == {"gray input", "1-step mean", "one sample"}
    with Image.open(output / "sheet.jpg") as sheet:
        assert sheet.width > 900


def test_a_feature_network_that_is_none_is_refused(tmp_path):
    from scoring.feature_network import load_feature_network

    with pytest.raises(ValueError, match="TorchScript file or user/repository/file"):
        load_feature_network(str(tmp_path / "missing.pt"))
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(ValueError, match="is not a TorchScript file"):
        load_feature_network(str(tmp_path / "text.pt"))
