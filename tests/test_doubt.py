"""How far a painted color may be from the true one, and the picture of it."""

import json
import sys

import calibrate_doubt
import numpy as np
import pytest
import torch
from conftest import make_pipeline, seeded
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from typer.testing import CliRunner

from colorize_pipeline import ColorizationPipeline
from colorize_pipeline.apps.cli import app
from colorize_pipeline.apps.doubt_picture import draw_doubt
from colorize_pipeline.doubt import delta_e, expected_error, rgb_to_lab


def test_lab_and_ciede2000_are_those_of_scikit_image_for_grays_and_all_hues():
    colors, others = np.random.default_rng(0).random((2, 50_000, 3))
    colors[:100] = colors[:100, :1]  # grays, which have no hue
    others[50:200] = others[50:200, :1]
    colors[200:300], others[250:350] = 0, 1

    lab, other_lab = (rgb_to_lab(torch.from_numpy(each.T)) for each in (colors, others))

    expected = rgb2lab(colors), rgb2lab(others)
    assert np.abs(lab.T.numpy() - expected[0]).max() < 1e-3
    assert np.abs(delta_e(lab, other_lab).numpy() - deltaE_ciede2000(*expected)).max() < 1e-3


def test_a_truth_that_is_one_more_sample_is_as_far_away_as_told():
    generator = seeded(0)
    luma = torch.randint(30, 220, (48, 48), generator=generator).to(torch.uint8)
    spread = torch.linspace(0.005, 0.1, 48)  # of the colors, from left to right
    draws = 0.05 + torch.randn(8, 2, 48, 48, generator=generator) * spread
    answer, truth, samples = draws[0], draws[1:2], draws[2:]

    told = expected_error(luma, answer, samples, 1.0, 0.0)
    true = expected_error(luma, answer, truth, 1.0, 0.0)

    for columns in (slice(0, 16), slice(16, 32), slice(32, 48)):
        assert float(told[:, columns].mean()) == pytest.approx(float(true[:, columns].mean()), rel=0.1)
    assert torch.allclose(expected_error(luma, answer, samples, 3.0, 2.0), 2 + 3 * told)
    assert expected_error(luma, answer, answer[None], 1.0, 0.0).max() < 1e-3


def test_where_black_and_white_leave_no_room_for_color_nothing_is_in_doubt():
    luma = torch.tensor([[0, 255, 128]], dtype=torch.uint8).repeat_interleave(8, dim=1).expand(8, 24).contiguous()
    samples = torch.linspace(-0.3, 0.3, 5).view(5, 1, 1, 1).expand(5, 2, 8, 24)

    black, white, gray = (
        expected_error(luma[:, part], samples[0, :, :, part], samples[1:, :, :, part], 1.0, 0.0).max()
        for part in (slice(0, 8), slice(8, 16), slice(16, 24))
    )

    assert black < 0.5 and white < 0.5 and gray > 20


def test_the_maps_of_the_pipeline_are_errors_in_every_form_and_scale_as_the_checkpoint_says(photo, tmp_path):
    pipeline = make_pipeline()
    pipeline.save_pretrained(tmp_path)
    calibrated = ColorizationPipeline.from_pretrained(tmp_path, doubt_scale=2.0, doubt_floor=1.0)
    calibrated.set_progress_bar_config(disable=True)

    def doubt(pipe, output_type="np"):
        arguments = {"ensemble_size": 3, "output_uncertainty": True, "output_type": output_type}
        return pipe(photo, num_inference_steps=1, generator=seeded(0), **arguments).uncertainty[0]

    told = doubt(pipeline)
    assert told.shape == (60, 90) and 1 < told.mean() < 60
    assert np.allclose(doubt(calibrated), 1 + 2 * told, atol=1e-3)
    assert np.abs(np.asarray(doubt(pipeline, "pil")) - np.clip(told / 40, 0, 1) * 255).max() <= 1


def test_calibration_notes_numbers_of_which_the_bound_covers_what_it_says(tmp_path, monkeypatch, capsys):
    generator = np.random.default_rng(0)
    doubts = generator.gamma(2.0, 4.0, 20_000)
    errors = generator.gamma(3.0, (2 + 1.5 * doubts) / 3)  # of mean 2 + 1.5 doubt

    numbers = calibrate_doubt.fit(doubts, errors)

    assert numbers["doubt_scale"] == pytest.approx(1.5, rel=0.05) and numbers["doubt_floor"] == pytest.approx(
        2, abs=0.5
    )
    expected = numbers["doubt_floor"] + numbers["doubt_scale"] * doubts
    assert (errors <= numbers["doubt_bound"] * expected).mean() == pytest.approx(0.8, abs=0.01)
    for least, most in ((0, 4), (4, 8), (8, 16)):  # not only on the whole
        some = (doubts >= least) & (doubts < most)
        assert (errors <= numbers["doubt_bound"] * expected)[some].mean() == pytest.approx(0.8, abs=0.05)

    make_pipeline().save_pretrained(tmp_path / "model")
    (tmp_path / "photos").mkdir()
    for number in range(2):
        pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    command = ["calibrate_doubt.py", str(tmp_path / "model"), "--photos", str(tmp_path / "photos"), "--samples", "2"]
    monkeypatch.setattr(sys, "argv", command)
    calibrate_doubt.main(calibrate_doubt.parse_arguments())

    noted = json.loads((tmp_path / "model" / "model_index.json").read_text())
    loaded = ColorizationPipeline.from_pretrained(tmp_path / "model")
    assert loaded.config.doubt_scale == noted["doubt_scale"] and loaded.config.doubt_bound == noted["doubt_bound"] > 0
    assert "within the bound" in capsys.readouterr().out


def test_the_picture_is_gray_where_the_colors_are_sure_and_red_where_they_are_a_guess():
    luma = torch.full((300, 900), 90, dtype=torch.uint8)
    doubt = torch.zeros(10, 30)
    doubt[:, 20:] = 25

    picture = draw_doubt(luma, doubt)

    assert picture.size[0] == 900 and 300 < picture.size[1] < 600  # the legend is below
    pixels = np.asarray(picture).astype(int)
    assert np.ptp(pixels[:300, :500], axis=-1).max() <= 4
    assert (pixels[:300, 700:, 0] - pixels[:300, 700:, 1]).min() > 60
    assert draw_doubt(torch.zeros(4000, 3000, dtype=torch.uint16), doubt).size[1] < 2000
    assert draw_doubt(torch.zeros(2, 1, dtype=torch.uint8), doubt).size[0] == 480


def test_doubt_is_written_beside_a_result_that_is_the_same_without_it(tmp_path, checkpoint, photo):
    photo.save(tmp_path / "a.png")
    command = [str(tmp_path), "--model", checkpoint, "--num-images", "2", "-o"]

    plain = CliRunner().invoke(app, [*command, str(tmp_path / "plain")])
    with_doubt = CliRunner().invoke(app, [*command, str(tmp_path / "doubt"), "--doubt"])

    assert plain.exit_code == with_doubt.exit_code == 0, with_doubt.output
    names = {path.name for path in (tmp_path / "doubt").glob("*.png")}
    assert names == {f"a.{kind}-{seed}.png" for kind in ("color", "doubt") for seed in (0, 1)}
    for seed in (0, 1):
        results = [(tmp_path / folder / f"a.color-{seed}.png").read_bytes() for folder in ("plain", "doubt")]
        assert results[0] == results[1]
    assert Image.open(tmp_path / "doubt" / "a.doubt-0.png").size[0] == 480

    (tmp_path / "album").mkdir()
    photo.save(tmp_path / "album" / "b.doubt.png")  # a picture of doubt is no photo
    assert CliRunner().invoke(app, [str(tmp_path / "album"), "--model", checkpoint]).exit_code == 2
