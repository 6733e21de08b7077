"""Photos that are decoded once train the same network as photos that are decoded every time."""

import io

import datasets
import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from optimization.training_config import TrainingConfig
from photos.photo_dataset import PhotoDataset, SampleMaker, load_photos
from photos.photo_rows import decode_once, read_row
from PIL import Image
from skimage import data

from colorize_pipeline.apps.photo import PHOTO_ERRORS


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Three photos of different formats, one of them to be turned, and a file that is none."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    rows = []
    for name, pixels in (("PNG", data.astronaut()), ("JPEG", data.coffee()), ("WEBP", data.chelsea())):
        file, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = 6 if name == "JPEG" else 1  # orientation: turn by 90 degrees
        Image.fromarray(pixels[:90, :120]).save(file, name, exif=exif)
        rows.append({"bytes": file.getvalue(), "path": f"{name}.{name.lower()}"})
    rows.append({"bytes": b"no photo", "path": "broken.jpg"})
    features = datasets.Features({"image": datasets.Image(decode=False)})
    return datasets.Dataset.from_dict({"image": rows}, features=features)


def samples_of(photos):
    config = TrainingConfig(output_dir="unused", dataset="unused", preset="tiny", resolutions=[32], stage_photos=[64])
    dataset = PhotoDataset(photos, config, SampleMaker(config, DDPMScheduler()))
    with pytest.warns(UserWarning, match="broken.jpg is passed over"):
        return [dataset[position] for position in range(8)]


def test_samples_of_photos_that_were_decoded_once_are_the_same_bits(photos):
    for before, after in zip(samples_of(photos), samples_of(decode_once(photos, "image", 90)), strict=True):
        assert before["name"] == after["name"] and before["unreadable"] == after["unreadable"]
        for name in ("clean_sample", "luminance", "hints", "noise", "timesteps"):
            assert torch.equal(before[name], after[name]), name


def test_a_folder_of_photos_is_decoded_once_for_all_processes_and_runs(photos, tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    Image.fromarray(data.coffee()).save(folder / "coffee.png")
    (folder / "lost.png").symlink_to(folder / "nowhere.png")

    def cache_files():
        album = load_photos(str(folder), "*.parquet", "train", streaming=False)
        return [file["filename"] for file in decode_once(album, "image", 90).cache_files]

    first, second = cache_files(), cache_files()
    Image.fromarray(data.chelsea()).save(folder / "coffee.png")
    changed = cache_files()

    assert len(first) == 1 and first == second
    assert changed != first


def test_photos_larger_than_training_needs_are_shrunk_once(photos):
    for row, name in zip(decode_once(photos, "image", 45)["image"][:3], ("PNG", "JPEG", "WEBP"), strict=True):
        photo, gray = read_row(row)
        assert photo.size == ((45, 60) if name == "JPEG" else (60, 45)) and gray is None
        assert np.asarray(photo).std() > 10
        assert len(row["bytes"]) < 45 * 60 * 3 + 20


def test_a_sixteen_bit_scan_keeps_its_tones(tmp_path):
    codes = np.linspace(0, 65_535, 256).astype(np.uint16).repeat(4).reshape(32, 32)
    Image.fromarray(codes).save(tmp_path / "scan.png")

    photo, _ = read_row({"bytes": None, "path": str(tmp_path / "scan.png")})

    assert np.array_equal(np.asarray(photo), np.rint(codes / 257)[:, :, None].repeat(3, axis=2))


def test_a_format_that_no_photo_has_is_not_parsed():
    file = io.BytesIO()
    Image.new("RGB", (9, 9)).save(file, "EPS")  # Pillow hands it to Ghostscript

    with pytest.raises(PHOTO_ERRORS, match="cannot identify"):
        read_row({"bytes": file.getvalue(), "path": "photo.jpg"})
