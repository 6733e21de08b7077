"""Data sets on the Hub: prepared, pushed, and streamed into training, against a server on the loopback interface."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED
from hub_client import run, run_script
from PIL import Image


ROOT = Path(__file__).parents[1]


def photo_crops(pixels, number):
    return [Image.fromarray(pixels).crop((20 * n, 15 * n, 20 * n + 160, 15 * n + 140)) for n in range(number)]


@pytest.fixture(scope="module")
def photo_folders(tmp_path_factory):
    """Two folders with 5 + 4 photos that pass the filters, five files that do not, and one that is hidden."""
    from skimage.data import astronaut, camera, chelsea, coffee

    folder = tmp_path_factory.mktemp("folders")
    (folder / "people" / "more").mkdir(parents=True)
    (folder / "things").mkdir()
    photos = photo_crops(astronaut(), 5)
    for number, photo in enumerate(photos):
        photo.save(folder / "people" / "more" / f"{number}.png")
    for name, pixels in (("cat", chelsea()), ("coffee", coffee())):
        for number, photo in enumerate(photo_crops(pixels, 4)[::2]):
            photo.save(folder / "things" / f"{name} {number}.jpg", quality=95)
    photos[0].resize((320, 280)).save(folder / "people" / "again, larger and worse.jpg", quality=60)
    Image.fromarray(camera()).save(folder / "people" / "gray.png")
    tinted = np.stack([camera(), camera(), np.maximum(camera(), 3) - 3], axis=-1)
    Image.fromarray(tinted).save(folder / "people" / "nearly gray.png")
    photos[1].resize((100, 90)).save(folder / "people" / "small.png")
    (folder / "things" / "broken.jpg").write_bytes((folder / "things" / "cat 0.jpg").read_bytes()[:700])
    (folder / "things" / ".trash").mkdir()
    photos[1].save(folder / "things" / ".trash" / "deleted.png")
    return folder


def test_folders_become_a_data_set_that_streams_from_the_hub_into_training(hub, photo_folders, tmp_path):
    prepare = [ROOT / "train" / "prepare_dataset.py", photo_folders / "people", photo_folders / "things"]
    prepare += ["--license", "CC0-1.0", "MIT", "--output-dir", tmp_path / "shards", "--push-to-hub", "ann/photos"]
    script = f"""
import sys
sys.path.insert(0, {str(ROOT / "train")!r})
from diffusers import DDPMScheduler
from photos.photo_dataset import create_dataloader, load_photos
from optimization.training_config import TrainingConfig
rows = load_photos("ann/photos", "*.parquet", "train", streaming=True)
config = TrainingConfig(
    output_dir="unused", dataset="ann/photos", streaming=True, preset="tiny", resolutions=[32], stage_photos=[8],
    batch_size=8, num_workers=0, shuffle_buffer=4,
)
batches = list(create_dataloader(config, DDPMScheduler(), 0, 0, 1))
print(json.dumps({{
    "rows": [
        [row["image"]["path"], hashlib.sha256(row["image"]["bytes"]).hexdigest(), row["source"], row["license"]]
        for row in rows
    ],
    "batches": [list(batch["clean_sample"].shape) for batch in batches],
    "names": sorted(name for batch in batches for name in batch["name"]),
}}))"""

    printed = run(hub, [*prepare, "--private"], tmp_path / "ann", token="ann-token")
    seen = run_script(hub, script, tmp_path / "trainer", token="ann-token")

    assert sorted(printed.splitlines()[0].split(", ")) == [
        "1 seen before", "1 too small", "1 unreadable", "2 gray or nearly so", "9 kept",
    ]  # fmt: skip
    repository = hub.repositories["datasets/ann/photos"]
    assert repository.private and any(name.endswith(".parquet") for name in repository.files())
    kept = {path.split("/")[-1] for path, *_ in seen["rows"]}
    assert len({"0.png", "again, larger and worse.jpg"} & kept) == 1
    for path, content, source, license in seen["rows"]:
        file = next(photo_folders.rglob(path.split("/")[-1]))
        assert content == hashlib.sha256(file.read_bytes()).hexdigest()
        assert (source, license) == (("people", "CC0-1.0") if "people" in str(file) else ("things", "MIT"))
    assert len(seen["rows"]) == 9 and {row[2] for row in seen["rows"]} == {"people", "things"}
    assert seen["batches"] == [[8, 2, 8, 8]]
    assert set(seen["names"]) <= {row[0] for row in seen["rows"]} and len(seen["names"]) == 8


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "evaluation").exists(), reason="the evaluation photographs are not in this checkout")
def test_a_data_set_streams_from_the_hub_into_a_training_that_pushes_what_it_learned(hub, tmp_path):
    folders = [SHARED / "evaluation" / name for name in ("kodak", "documerica")]
    prepare = [ROOT / "train" / "prepare_dataset.py", *folders, "--license", "unrestricted", "public domain"]
    prepare += ["--output-dir", tmp_path / "shards", "--short-side", "192", "--shard-megabytes", "1"]
    train = [ROOT / "train" / "train.py", "--config", ROOT / "train" / "configs" / "smoke.json"]
    train += ["--dataset", "ann/evaluation", "--streaming", "true", "--output_dir", tmp_path / "run"]
    train += ["--push_to_hub", "true", "--hub_model_id", "ann/learned"]
    load = """
from colorize_pipeline import ColorizationPipeline
print(json.dumps(digest(ColorizationPipeline.from_pretrained({!r}))))"""

    printed = run(hub, [*prepare, "--push-to-hub", "ann/evaluation"], tmp_path / "ann", token="ann-token")
    output = run(hub, train, tmp_path / "trainer", token="ann-token")
    before, after = (
        run_script(hub, load.format(name), tmp_path / f"visitor-{number}")
        for number, name in enumerate((str(tmp_path / "run" / "pipeline"), "ann/learned"))
    )

    kept = int(printed.split()[0])
    assert kept > 0.9 * sum(len(list(folder.iterdir())) for folder in folders)
    assert len(list((tmp_path / "shards").iterdir())) > 1
    assert 'from_pretrained("ann/learned")' in output
    assert before == after
    repository = hub.repositories["models/ann/learned"]
    assert len(repository.commits) == 2 and str(tmp_path) not in repository.files()["training_config.json"].decode()
