"""The model that ships with the package."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from conftest import seeded
from PIL import Image
from skimage.data import astronaut, camera, coffee, rocket

from colorize_pipeline import DEFAULT_CHECKPOINT, ColorizationPipeline
from colorize_pipeline.color import colorfulness


def test_it_fits_into_a_wheel_and_holds_no_path_of_the_machine_it_was_made_on():
    files = [file for file in Path(DEFAULT_CHECKPOINT).rglob("*") if file.is_file()]

    assert {file.suffix for file in files} == {".json", ".safetensors"}
    assert sum(file.stat().st_size for file in files) <= 64e6
    assert not any("_name_or_path" in file.read_text() for file in files if file.suffix == ".json")


def test_what_it_paints_is_neither_gray_nor_garish():
    pipeline = ColorizationPipeline.from_pretrained(DEFAULT_CHECKPOINT)
    photos = [Image.fromarray(pixels).convert("L") for pixels in (astronaut(), camera(), coffee(), rocket())]

    images = pipeline(photos, generator=[seeded(0) for _ in photos], output_type="pt").images

    # 15 is "slightly" and 59 "quite colorful" to the people asked by Hasler and Suesstrunk.
    assert 10 < np.mean([colorfulness(image) for image in images]) < 60
    for photo, image in zip(photos, images, strict=True):
        codes = (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        assert np.array_equal(np.asarray(Image.fromarray(codes).convert("L")), np.asarray(photo))


def test_a_seed_paints_the_same_alone_as_among_others():
    pipeline = ColorizationPipeline.from_pretrained(DEFAULT_CHECKPOINT)
    photo = Image.fromarray(coffee()).convert("L")

    among = pipeline(photo, num_images_per_input=2, generator=[seeded(0), seeded(1)], output_type="pt").images[1]
    alone = pipeline(photo, generator=seeded(1), output_type="pt").images[0]
    other = pipeline(photo, generator=seeded(2), output_type="pt").images[0]

    assert (among - alone).abs().max() < 2 / 255 < 0.1 < (alone - other).abs().max()


def test_the_command_paints_with_it_offline(tmp_path, photo):
    photo.save(tmp_path / "photo.jpg")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")}

    subprocess.run([Path(sys.executable).parent / "colorize", tmp_path / "photo.jpg"], env=environment, check=True)

    with Image.open(tmp_path / "photo.jpg") as before, Image.open(tmp_path / "photo.color.png") as after:
        assert np.array_equal(np.asarray(after.convert("L")), np.asarray(before))


def test_a_line_of_pixels_is_painted_in_bfloat16_in_either_direction():
    pipeline = ColorizationPipeline.from_pretrained(DEFAULT_CHECKPOINT, dtype=torch.bfloat16)
    line = np.random.default_rng(0).integers(0, 256, (1, 3000), dtype=np.uint8)

    for pixels in (line, line.T):
        (chroma,) = pipeline(pixels, num_inference_steps=1, generator=seeded(0), output_type="chroma").chroma
        assert chroma.abs().max() <= 0.5  # also false of NaN
