"""`colorize info` and `colorize restore`, and what goes with them on the command line."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from conftest import SHARED
from PIL import Image
from typer.testing import CliRunner

from colorize_pipeline.apps import info, restore
from colorize_pipeline.apps.cli import app
from colorize_pipeline.apps.reading import read_photo


REPORTED = SHARED / "badimages" / "reported"


def colorize(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_the_gray_comes_back_exactly_and_an_edit_is_noticed(tmp_path, checkpoint, photo, suffix, bits):
    if bits == 16 and suffix == ".webp":
        pytest.skip("WebP holds 8 bit")
    gray = np.asarray(photo) if bits == 8 else np.random.default_rng(0).integers(0, 65_536, (45, 61), dtype=np.uint16)
    Image.fromarray(gray).save(tmp_path / "scan.png")
    result = tmp_path / f"scan.color{suffix}"
    assert colorize(tmp_path / "scan.png", "-o", result, "--model", checkpoint, "--seed", 3).exit_code == 0

    restored = CliRunner().invoke(restore.app, [str(result)])
    said = json.loads(CliRunner().invoke(info.app, [str(result), "--json"]).output)

    assert restored.exit_code == 0 and "code for code" in restored.output, restored.output
    back = tmp_path / f"scan.gray{'.tif' if suffix == '.tif' else '.png'}"
    assert np.array_equal(np.asarray(read_photo(back).image), gray)
    assert said["synthetic"] and said["gray"]["state"] == "exact" and said["record"]["seed"] == 3
    assert said["record"]["model"] == "model" and said["record"]["revision"].startswith("sha256:")
    assert not json.loads(CliRunner().invoke(info.app, [str(back), "--json"]).output)["synthetic"]

    photo_of_result = read_photo(result)
    pixels = np.asarray(photo_of_result.image).copy()
    pixels[:20, :20] = pixels.max()
    edited = tmp_path / f"edited{suffix}"
    from colorize_pipeline.apps.writing import write_photo  # as an editor does that keeps the metadata

    write_photo(edited, pixels, photo_of_result, synthetic=False)
    answer = CliRunner().invoke(restore.app, [str(edited)])
    assert answer.exit_code == 1 and "edited since it was made" in answer.output and "codes of 255" in answer.output
    cut = tmp_path / f"cut{suffix}"
    write_photo(cut, pixels[5:], photo_of_result, synthetic=False)
    assert "its size was" in CliRunner().invoke(info.app, [str(cut)]).output


def test_info_speaks_in_words_of_results_of_photos_and_of_what_cannot_be_read(tmp_path, checkpoint, photo):
    photo.save(tmp_path / "a.png")
    colorize(tmp_path / "a.png", "-o", tmp_path / "a.color.jpg", "--model", checkpoint, "--saturation", 0.5)
    (tmp_path / "broken.png").write_bytes(b"nothing")

    answer = CliRunner().invoke(info.app, [str(tmp_path / name) for name in ("a.color.jpg", "a.png", "broken.png")])

    assert answer.exit_code == 1
    for words in (
        "trained model",
        "seed      0",
        "saturation 0.5",
        "as JPEG keeps it",
        "Nothing in it",
        "no JPEG, PNG",
    ):
        assert words in answer.output, answer.output
    assert CliRunner().invoke(restore.app, [str(tmp_path / "a.color.jpg")]).exit_code == 1


def test_the_commands_have_names_and_photos_of_these_names_are_reached_by_their_folder(tmp_path, photo):
    photo.save(tmp_path / "info", "PNG")
    command = [sys.executable, "-c", "from colorize_pipeline.apps.cli import main; main()"]

    answer = subprocess.run([*command, "info", "info"], cwd=tmp_path, capture_output=True, text=True)
    photo_named_so = subprocess.run(
        [*command, "./info", "--model", "nosuch/"], cwd=tmp_path, capture_output=True, text=True
    )

    assert answer.returncode == 0 and answer.stdout.startswith("info: 90 x 60 pixels")
    assert "model" in photo_named_so.stderr and photo_named_so.returncode == 1


def test_pages_formats_and_depth_are_as_asked_for(tmp_path, checkpoint, photo):
    gray = np.asarray(photo)
    with tifffile.TiffWriter(tmp_path / "album.tif") as file:
        for page in (gray, gray.astype(np.uint16) * 257):
            file.write(page, photometric="minisblack")
    model = ("--model", checkpoint)

    assert colorize(tmp_path / "album.tif", "--pages", "all", "--format", "same", *model).exit_code == 0
    assert colorize(tmp_path / "album.tif", "--format", "webp", *model).exit_code == 0
    depth = colorize(tmp_path / "album.tif", "--pages", "all", "--format", "jpg", "--depth", 8, *model)

    assert depth.exit_code == 0, depth.output
    names = {path.name for path in tmp_path.iterdir()} - {"album.tif", "model"}
    pages = {f"album.page-{number}.color.{suffix}" for number in (1, 2) for suffix in ("tif", "jpg")}
    assert names == pages | {"album.color.webp"}
    second = read_photo(tmp_path / "album.page-2.color.tif")
    assert second.sixteen_bit and second.size == photo.size
    for option in (["--format", "psd"], ["--pages", "2"], ["--depth", "12"]):
        assert colorize(tmp_path / "album.tif", *option, *model).exit_code == 2


@pytest.mark.skipif(not REPORTED.is_dir(), reason="the reported files are not part of the project")
def test_a_folder_of_reported_files_is_done_or_refused_in_a_line_each(tmp_path, checkpoint):
    result = colorize(REPORTED, "-o", tmp_path / "out", "--model", checkpoint)

    assert result.exit_code == 1 and result.output.count("not colorized") == 2
    assert "fax.tif: not colorized: black-and-white pixels (1 bit) have no room for color" in result.output
    assert "not_supported.heic: not colorized:" in result.output and "HEIC" in result.output
    assert "lab8.tif: CIELab is read by its lightness" in result.output
    written = {path.name.split(".")[0] for path in (tmp_path / "out").glob("*.color.*")}
    assert written == {path.stem for path in REPORTED.iterdir()} - {"fax", "not_supported", "README"}
    assert Image.open(tmp_path / "out" / "dnglike.color.png").size == (240, 180)
    for name in ("chrome.jfif", "gama.png", "wide_prophoto.png", "gray_dotgain20.jpg", "motion_photo.jpg"):
        with (
            Image.open(REPORTED / name) as before,
            Image.open(tmp_path / "out" / f"{name[:-4].strip('.')}.color.png") as after,
        ):
            assert np.array_equal(np.asarray(before.convert("L")), np.asarray(after.convert("L"))), name
    turned = read_photo(tmp_path / "out" / "turned_with_faces_and_dpi.color.png")
    assert turned.size == (180, 240) and [round(value) for value in turned.dpi] == [150, 300]
