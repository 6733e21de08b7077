"""The command line, by its own runner."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import SRGB
from PIL import Image
from typer.testing import CliRunner

from colorize_pipeline.apps.cli import app
from colorize_pipeline.apps.reading import read_photo
from colorize_pipeline.color import rgb_to_luma


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_gray_comes_back_as_sixteen_bit_color_with_the_same_gray(tmp_path, checkpoint, suffix):
    codes = np.random.default_rng(0).integers(0, 65536, (45, 61), dtype=np.uint16)
    Image.fromarray(codes).save(tmp_path / f"scan{suffix}", dpi=(600, 600))

    target = tmp_path / f"result{suffix}"
    result = CliRunner().invoke(app, [str(tmp_path / f"scan{suffix}"), "-o", str(target), "--model", checkpoint])

    assert result.exit_code == 0, result.output
    photo = read_photo(target)
    assert photo.image.dtype == np.uint16 and photo.image.shape == (45, 61, 3)
    assert np.array_equal(rgb_to_luma(torch.from_numpy(photo.image)).numpy(), codes)
    assert [round(value) for value in photo.dpi] == [600, 600]


def test_one_bad_file_is_named_and_the_others_are_done(tmp_path, checkpoint, photo):
    folder = tmp_path / "album" / "1936"
    folder.mkdir(parents=True)
    photo.save(folder / "good one.jpg")
    (folder / "truncated.jpg").write_bytes((folder / "good one.jpg").read_bytes()[:300])
    (folder / "empty.png").touch()
    os.mkfifo(folder / "pipe.png")
    before = hashlib.sha256((folder / "good one.jpg").read_bytes()).digest()

    result = CliRunner().invoke(app, [str(tmp_path / "album"), "-o", str(tmp_path / "out"), "--model", checkpoint])

    assert result.exit_code == 1
    lines = [line for line in result.output.splitlines() if "not colorized" in line]
    assert len(lines) == 3 and all(name in "".join(lines) for name in ("truncated.jpg", "empty.png", "pipe.png"))
    assert [path.name for path in (tmp_path / "out").rglob("*.png")] == ["good one.color.png"]
    assert (tmp_path / "out" / "1936" / "good one.color.png").exists()
    assert hashlib.sha256((folder / "good one.jpg").read_bytes()).digest() == before


def test_what_many_photos_have_in_common_is_said_once_and_counted(tmp_path, checkpoint, photo):
    for number in range(3):
        photo.save(tmp_path / f"{number}.png", icc_profile=SRGB[:16] + b"GRAY" + SRGB[20:])

    result = CliRunner().invoke(app, [str(tmp_path), "--model", checkpoint])

    said = [line for line in result.output.splitlines() if "ICC profile" in line]
    assert len(said) == 2 and str(tmp_path / "0.png") in said[0] and said[1].startswith("3 photos: ")


def test_a_photo_of_more_megapixels_than_allowed_is_refused_and_the_limit_can_be_raised(
    tmp_path, checkpoint, monkeypatch
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # what the command sets ends here
    Image.new("L", (1500, 1000), 90).save(tmp_path / "poster.png")
    command = [str(tmp_path / "poster.png"), "--model", checkpoint, "--max-megapixels"]

    refused, allowed = (CliRunner().invoke(app, [*command, limit]) for limit in ("1", "2"))

    assert refused.exit_code == 1 and "more than 1 megapixels (--max-megapixels)" in refused.output
    assert allowed.exit_code == 0 and "Warning" not in allowed.output, allowed.output


def test_a_second_run_keeps_results_and_overwrite_makes_them_again_byte_for_byte(tmp_path, checkpoint, photo):
    photo.save(tmp_path / "a.png")
    command = [str(tmp_path / "a.png"), "--model", checkpoint, "--num-images", "2"]
    assert CliRunner().invoke(app, command).exit_code == 0
    command += ["--compare"]  # a comparison can be had later
    assert CliRunner().invoke(app, command).exit_code == 0
    targets = [tmp_path / f"a.color-{number}.png" for number in range(2)]
    first = [target.read_bytes() for target in targets]
    targets[1].write_bytes(b"mine")

    kept = CliRunner().invoke(app, command)
    assert "kept" in kept.output and targets[1].read_bytes() == b"mine"
    CliRunner().invoke(app, [*command, "--overwrite"])

    assert [target.read_bytes() for target in targets] == first
    assert first[0] != first[1]
    assert np.array_equal(np.asarray(Image.open(targets[0]).convert("L")), np.asarray(photo))
    assert Image.open(tmp_path / "a.compare-0.jpg").size == (2 * photo.width, photo.height)


def test_a_scan_and_its_copy_side_by_side_are_told_apart_by_their_whole_names(tmp_path, checkpoint, photo):
    (tmp_path / "sub").mkdir()
    for name in ("a.tif", "a.jpg", "b.jpg", "sub/a.jpg"):
        photo.save(tmp_path / name)

    result = CliRunner().invoke(app, [str(tmp_path), str(tmp_path / "sub"), "--model", str(checkpoint)])

    assert result.exit_code == 0, result.output
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert written == {"a.tif.color.png", "a.jpg.color.png", "b.color.png", "sub/a.color.png"}


def test_versions_of_other_seeds_join_those_that_are_there(tmp_path, checkpoint, photo):
    photo.save(tmp_path / "a.png")
    command = [str(tmp_path / "a.png"), "--model", str(checkpoint), "--num-images", "2"]
    assert CliRunner().invoke(app, command).exit_code == 0
    first = (tmp_path / "a.color-1.png").read_bytes()

    assert CliRunner().invoke(app, [*command, "--seed", "1"]).exit_code == 0
    assert CliRunner().invoke(app, [*command, "--seed", "1", "-o", str(tmp_path / "again")]).exit_code == 0

    assert {path.name for path in tmp_path.glob("*.color*")} == {f"a.color-{seed}.png" for seed in (0, 1, 2)}
    assert first == (tmp_path / "a.color-1.png").read_bytes() == (tmp_path / "again" / "a.color-1.png").read_bytes()


def test_photos_of_two_folders_that_would_share_a_result_are_refused(tmp_path, photo):
    for roll in ("roll1", "roll2"):
        (tmp_path / roll).mkdir()
        photo.save(tmp_path / roll / "a.jpg")

    result = CliRunner().invoke(app, [str(tmp_path / "roll1"), str(tmp_path / "roll2"), "-o", str(tmp_path / "out")])

    assert result.exit_code == 2 and "own -o" in result.output.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_an_output_that_ends_like_another_kind_of_file_is_refused_and_a_folder_may_hold_a_dot(
    tmp_path, checkpoint, photo
):
    photo.save(tmp_path / "a.jpg")
    command = [str(tmp_path / "a.jpg"), "--model", checkpoint, "-o"]

    refused = CliRunner().invoke(app, [*command, str(tmp_path / "out.psd")])
    taken = CliRunner().invoke(app, [*command, str(tmp_path / "album.1936")])

    assert refused.exit_code == 2 and not (tmp_path / "out.psd").exists()
    assert taken.exit_code == 0 and (tmp_path / "album.1936" / "a.color.png").exists(), taken.output


def test_the_photo_itself_is_never_a_target(tmp_path, photo):
    (tmp_path / "album").mkdir()
    photo.save(tmp_path / "album" / "a.png")
    photo.save(tmp_path / "album" / "b.compare.jpg")
    before = {path: path.read_bytes() for path in (tmp_path / "album").iterdir()}

    for arguments in (
        ["album/a.png", "-o", "album/a.png"],
        ["album/b.compare.jpg", "-o", "album/b.png", "--compare"],
        ["album/../album/a.png", "album/b.compare.jpg", "-o", "album/a.png"],
    ):
        paths = [str(tmp_path / part) if "/" in part else part for part in arguments]
        assert CliRunner().invoke(app, [*paths, "--overwrite"]).exit_code == 2

    assert {path: path.read_bytes() for path in (tmp_path / "album").iterdir()} == before


def test_results_are_told_from_photos_by_their_whole_name(tmp_path, checkpoint, photo):
    for name in ("trip.colorado.png", "trip.color-1.png", "trip.compare.jpg", "._trip.png"):
        photo.save(tmp_path / name)

    result = CliRunner().invoke(app, [str(tmp_path), "-o", str(tmp_path / "out"), "--model", checkpoint])

    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "out").glob("*.*g")] == ["trip.colorado.color.png"]


def test_help_answers_without_importing_torch():
    code = """
import sys
from colorize_pipeline.apps.cli import app
app(["--help"], standalone_mode=False)
sys.exit("torch" in sys.modules)"""

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert result.returncode == 0 and "Turn gray photographs into color" in result.stdout
