"""What the command takes that the user knows of one photo."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from colorize_pipeline.apps.cli import app
from colorize_pipeline.apps.provenance import read_record
from colorize_pipeline.apps.reading import read_photo


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_points_by_option_file_and_strokes_are_those_of_the_upright_photo(tmp_path, checkpoint, photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    photo.transpose(Image.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    x, y, color = 70, 15, (150, 110, 90)
    (tmp_path / "points.json").write_text(json.dumps([{"x": x, "y": y, "color": "#966e5a"}]))
    layer = Image.new("RGBA", photo.size)
    layer.putpixel((x, y), (*color, 255))
    layer.save(tmp_path / "strokes.png")
    plain = [tmp_path / "a.png", "--model", checkpoint, "-o"]

    ways = [
        ("--hint", f"{x},{y},#966e5a"),
        ("--hints", tmp_path / "points.json"),
        ("--hints", tmp_path / "strokes.png"),
    ]
    results = [run(*plain, tmp_path / f"{number}.png", *way) for number, way in enumerate(ways)]
    run(*plain, tmp_path / "plain.png")

    assert all(result.exit_code == 0 for result in results), results
    colored = [np.asarray(Image.open(tmp_path / f"{number}.png")) for number in range(3)]
    assert np.array_equal(colored[0], colored[1]) and np.array_equal(colored[0], colored[2])
    assert not np.array_equal(colored[0], np.asarray(Image.open(tmp_path / "plain.png")))
    red, green, blue = colored[0][y, x].astype(int)
    assert (red - green, green - blue) == pytest.approx((40, 20), abs=2)  # the chroma of #966e5a
    assert np.array_equal(np.asarray(Image.open(tmp_path / "0.png").convert("L")), np.asarray(photo))
    settings = [read_record(read_photo(tmp_path / f"{number}.png").xmp).settings for number in (0, 2)]
    assert settings[0]["hints"] == [[x, y, "#966e5a"]] and settings[1]["hints"].startswith("sha256:")
    assert settings[0]["spread"] == 1


@pytest.mark.parametrize("depth", [8, 16])
def test_outside_of_the_mask_each_code_stays(tmp_path, checkpoint, depth):
    codes = np.random.default_rng(0).integers(0, 2**depth, (40, 50, 3))
    if depth == 8:
        Image.fromarray(codes.astype(np.uint8)).save(tmp_path / "a.tif")
    else:
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(tmp_path / "a.tif", codes.astype(np.uint16), photometric="rgb")
    mask = Image.new("L", (50, 40))
    mask.paste(255, (0, 0, 25, 40))
    mask.save(tmp_path / "mask.png")

    result = run(tmp_path / "a.tif", "--mask", tmp_path / "mask.png", "--model", checkpoint)

    assert result.exit_code == 0, result.output
    output = np.asarray(read_photo(tmp_path / "a.color.png").image)
    assert output.dtype == (np.uint8 if depth == 8 else np.uint16)
    assert np.array_equal(output[:, 25:], codes[:, 25:]) and not np.array_equal(output[:, :25], codes[:, :25])


def test_a_color_that_does_not_exist_is_told_as_a_note(tmp_path, checkpoint):
    Image.new("L", (40, 30), 177).save(tmp_path / "a.png")

    result = run(tmp_path / "a.png", "--hint", "20,10,#ff0000", "--num-images", "2", "--model", checkpoint)

    assert result.exit_code == 0
    assert result.output.count("at this brightness the reddest possible is #ff9090") == 1


def test_hints_and_masks_change_what_the_journal_takes_for_the_same_settings():
    from colorize_pipeline.apps.tasks import Layer, Settings

    same = {Settings(mask=Layer(path, "1f")).of_colors() for path in ("/a/mask.png", "/b/mask.png")}
    others = {Settings().of_colors(), Settings(points=((1, 2, "#ffffff"),)).of_colors()}
    others |= {Settings(mask=Layer("/a/mask.png", "2e")).of_colors(), Settings(target_colorfulness=30).of_colors()}

    assert len(same) == 1 and len(others | same) == 5


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--hint", "20;10;red"], ["--hint", "20;10;red", "120,80,#7a3b1c"]),
        (["--hint", "20,10,#12"], ["--hint", "#12"]),
        (["--hint", "200,10,red"], ["--hint", "200,10,#ff0000", "50 x 40"]),
        (["--hints", "missing.json"], ["--hints", "missing.json", "No such file"]),
        (["--hints", "list.json"], ["--hints", "list.json", '"color"']),
        (["--hints", "odd.json"], ["--hints", "odd.json", "no JSON"]),
        (["--hints", "photo.png"], ["--hints", "photo.png", "transparen"]),
        (["--hints", "layer.png"], ["--hints", "10 x 10", "50 x 40"]),
        (["--hints", "layer.png", "--hint", "1,1,red"], ["--hint", "together"]),
        (["--mask", "small.png"], ["--mask", "10 x 10", "50 x 40"]),
        (["--mask", "odd.json"], ["--mask", "odd.json"]),
        (["--mask", "photo.png", "other.png"], ["one photo", "2"]),
        (["--target-colorfulness", "30", "--saturation", "2"], ["--target-colorfulness", "--saturation"]),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_model_is_loaded(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("colorize_pipeline.apps.workers.load_model", None)  # calling it would be another error
    Image.new("L", (50, 40), 90).save("photo.png")
    Image.new("L", (50, 40), 80).save("other.png")
    Image.new("L", (10, 10), 90).save("small.png")
    Image.new("RGBA", (10, 10), (255, 0, 0, 255)).save("layer.png")
    (tmp_path / "list.json").write_text('[{"x": 1, "y": 2, "colour": "red"}]')
    (tmp_path / "odd.json").write_text("[{")

    result = run("photo.png", *arguments)

    said = "".join(result.output.replace("│", "").split())  # a terminal breaks lines within words
    assert result.exit_code == 2 and all("".join(word.split()) in said for word in words), result.output
    assert not list(tmp_path.glob("*.color*"))
