"""The colors of a reference photo, carried over to a gray one."""

import hashlib

import numpy as np
import pytest
import torch
from conftest import make_pipeline, seeded
from PIL import Image, ImageOps
from skimage.data import astronaut
from typer.testing import CliRunner

from colorize_pipeline.apps.cli import app
from colorize_pipeline.apps.color_space import PRIMARIES_ADOBE, build_profile, gamma_curve, space_of
from colorize_pipeline.apps.provenance import read_record
from colorize_pipeline.apps.reading import read_photo
from colorize_pipeline.apps.reference import read_reference
from colorize_pipeline.color import rgb_to_chroma
from colorize_pipeline.reference_matching import match_reference


@pytest.fixture
def color():
    return Image.fromarray(astronaut()).resize((128, 128))


@pytest.fixture
def pipeline():
    return make_pipeline(with_encoder=True)


def luma_of(photo):
    return torch.from_numpy(np.array(photo.convert("L")))


def test_things_take_their_own_color_wherever_they_are_in_the_reference(pipeline, color):
    moved = Image.fromarray(np.roll(np.asarray(color), (64, 64), axis=(0, 1)))

    match = match_reference(pipeline, luma_of(color), moved, (32, 32))

    rgb = torch.from_numpy(np.array(color.resize((32, 32), Image.Resampling.BOX))).permute(2, 0, 1)[None] / 255
    truth = rgb_to_chroma(rgb)[0]
    error = (match[:2] - truth).norm(dim=0).mean()
    assert error < 0.6 * (truth - truth.mean(dim=(1, 2), keepdim=True)).norm(dim=0).mean()  # of one mean color
    assert match[2].mean() > 0.8 and 0 <= match[2].min() and match[2].max() <= 1


def test_what_looks_like_nothing_in_the_reference_is_not_trusted(pipeline, color):
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = (255, 0, 0)

    alien = match_reference(pipeline, luma_of(color), Image.fromarray(stripes), (32, 32))
    own = match_reference(pipeline, luma_of(color), color, (32, 32))

    assert alien[2].mean() < 0.5 * own[2].mean()  # for an encoder that was never trained


def test_references_are_each_photos_own_and_the_gray_is_kept(pipeline, color, photo):
    generators = [seeded(0), seeded(1)]
    plain = pipeline(photo, generator=seeded(0)).images[0]

    alone, matched = pipeline(
        [photo, color], reference_image=[None, ImageOps.mirror(color)], generator=generators
    ).images
    shared = pipeline([photo, color], reference_image=ImageOps.mirror(color), generator=[seeded(0), seeded(1)]).images

    assert np.abs(np.asarray(alone).astype(int) - np.asarray(plain)).max() <= 1  # another size goes alone
    assert shared[1].tobytes() == matched.tobytes() and shared[0].tobytes() != alone.tobytes()
    assert np.array_equal(np.asarray(matched.convert("L")), np.asarray(color.convert("L")))
    wild, true = (
        np.abs(np.asarray(image).astype(int) - np.asarray(color)).mean()
        for image in (pipeline(color, generator=seeded(1)).images[0], matched)
    )
    assert true < 0.5 * wild


def test_photos_and_references_of_any_size_and_depth_go_together(pipeline, color):
    deep = np.asarray(color).astype(np.uint16)[:50, :97] * 257
    for photo, reference in ((color.crop((0, 0, 1, 70)), color), (color, color.crop((0, 0, 3, 1))), (color, deep)):
        output = pipeline(photo, reference_image=reference, processing_resolution=300, generator=seeded(0)).images[0]

        assert np.array_equal(np.asarray(output.convert("L")), np.asarray(photo.convert("L")))


@pytest.mark.parametrize(
    "with_encoder, reference, words",
    [
        (False, Image.new("RGB", (9, 9), "teal"), "`reference_image` came, but this checkpoint has no image encoder"),
        (True, Image.new("RGB", (9, 9), "gray"), "`reference_image` has no colors"),
        (
            True,
            [Image.new("RGB", (9, 9), "teal")] * 2,
            "`reference_image` must be a list of one entry for each of the 1",
        ),
        (True, "teal.png", "`reference_image` must be a PIL image"),
    ],
)
def test_a_reference_that_cannot_serve_is_refused_in_a_line(photo, with_encoder, reference, words):
    with pytest.raises(ValueError, match=words):
        make_pipeline(with_encoder=with_encoder)(photo, reference_image=reference)


def test_the_command_takes_a_reference_and_tells_of_it_in_the_result(tmp_path, pipeline, color, photo):
    pipeline.save_pretrained(tmp_path / "model")
    make_pipeline().save_pretrained(tmp_path / "blind")
    color.save(tmp_path / "reference.png")
    color.convert("L").save(tmp_path / "a.png")

    def run(model, output, *options):
        return CliRunner().invoke(
            app, [str(tmp_path / "a.png"), "--model", str(tmp_path / model), "-o", str(tmp_path / output), *options]
        )

    assert run("model", "plain.png").exit_code == 0
    result = run("model", "matched.png", "--reference", str(tmp_path / "reference.png"))
    assert result.exit_code == 0, result.output
    refused = run("blind", "c.png", "--reference", str(tmp_path / "reference.png"))
    missing = run("model", "d.png", "--reference", str(tmp_path / "none.png"))

    plain, matched = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("plain.png", "matched.png"))
    truth = np.asarray(color).astype(int)
    assert np.abs(matched - truth).mean() < 0.5 * np.abs(plain - truth).mean()
    checksum = hashlib.sha256((tmp_path / "reference.png").read_bytes()).hexdigest()
    settings = read_record(read_photo(tmp_path / "matched.png").xmp).settings
    assert settings["reference"] == f"sha256:{checksum}"
    assert refused.exit_code == 1 and "no image encoder" in refused.output
    assert missing.exit_code == 1 and "none.png cannot be read: No such file" in missing.output


def test_a_reference_is_read_upright_and_in_srgb(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    profile = build_profile(space_of(PRIMARIES_ADOBE, gamma_curve(2.2)))
    picture = Image.new("RGB", (20, 10), (150, 90, 80))
    picture.save(tmp_path / "wide.jpg", exif=exif, icc_profile=profile, quality=95)

    reference = read_reference(tmp_path / "wide.jpg")

    assert reference.size == (10, 20)
    red, green, blue = reference.getpixel((5, 10))
    assert red > 160 and abs(green - 90) < 5 and abs(blue - 80) < 8  # more saturated than the same codes in sRGB
