"""The page without its server: the studio that paints for it, and what it asks for."""

import hashlib
import io
import os
import threading
import time
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner
from web_client import QUESTION

from colorize_pipeline.apps import cli
from colorize_pipeline.apps.gray import judge, luma_of
from colorize_pipeline.apps.reading import read_photo
from colorize_pipeline.apps.tasks import Settings
from colorize_pipeline.apps.web.question import hints_of, mask_of, parse_question
from colorize_pipeline.apps.web.studio import Studio
from colorize_pipeline.apps.workers import load_model


DOT = {"color": "#ff0000", "size": 0.03, "points": [[0.5, 0.5]]}
LEFT_HALF = {"color": "area", "size": 0.5, "points": [[0.2, 0], [0.2, 1]]}


@pytest.fixture(scope="module")
def model(model_folder):
    return load_model(Settings(model=model_folder, device="cpu", dtype="float32"))


@pytest.fixture
def studio(model, tmp_path):
    (tmp_path / "uploads").mkdir()
    studio = Studio(model, tmp_path, num_painters=2)
    yield studio
    studio.close()


def put(studio: Studio, data: bytes, name: str = "photo.jpg") -> str:
    folder = studio.uploads / hashlib.sha256(os.urandom(8)).hexdigest()
    folder.mkdir()
    (folder / name).write_bytes(data)
    return str(folder / name)


def last(states) -> dict:
    *_, state = states
    return state


def file_of(url: str) -> Path:
    return Path(unquote(url.removeprefix("gradio_api/file=")))


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def opened(studio: Studio, client: str, data: bytes, name: str = "photo.jpg") -> dict:
    return last(studio.paint(client, {**QUESTION, "serial": 1, "kind": "open", "path": put(studio, data, name)}))


# The studio


def test_a_download_is_byte_for_byte_what_the_command_line_writes(studio, model_folder, jpeg, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(jpeg)

    state = opened(studio, "ann", jpeg)
    saved = studio.save("ann", {**QUESTION, "serial": 2, "version": 2, "format": "png"})
    result = CliRunner().invoke(
        cli.app,
        [str(tmp_path / "photo.jpg"), "--model", model_folder, "--seed", "2", "--dtype", "float32", "--device", "cpu"],
    )

    assert result.exit_code == 0, result.output
    assert [version["seed"] for version in state["versions"]] == [1, 2, 3, 4]
    assert file_of(saved["result"]).read_bytes() == (tmp_path / "photo.color.png").read_bytes()


def test_hints_are_law_with_any_saturation_and_what_they_cannot_be_is_told(studio, model_folder, jpeg, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(jpeg)
    opened(studio, "ann", jpeg)
    asked = {**QUESTION, "strokes": [DOT], "revision": 2}
    painted = last(studio.paint("ann", {**asked, "serial": 2, "kind": "edit"}))
    views, results = {}, {}

    for serial, saturation in ((3, 0), (5, 2)):
        asked["saturation"] = saturation
        state = studio.restyle("ann", {**asked, "serial": serial})
        views[saturation] = pixels_of(file_of(state["versions"][0]["view"]).read_bytes())
        saved = studio.save("ann", {**asked, "serial": serial + 1, "format": "png"})
        results[saturation] = pixels_of(file_of(saved["result"]).read_bytes())
    options = ["--model", model_folder, "--seed", "1", "--dtype", "float32", "--device", "cpu", "--saturation", "2"]
    CliRunner().invoke(cli.app, [str(tmp_path / "photo.jpg"), *options, "--hint", "30,45,#ff0000"])

    assert (results[2] == pixels_of((tmp_path / "photo.color.png").read_bytes())).all()
    assert (results[0][45, 30] == results[2][45, 30]).all() and np.ptp(results[2][45, 30]) > 50
    assert np.ptp(results[0], axis=2).min() == 0 and np.ptp(results[2] - results[0], axis=2).mean() > 20
    for saturation in results:
        assert np.abs(views[saturation] - results[saturation]).mean() < 6  # of JPEG
    assert "the reddest possible is #" in painted["versions"][0]["notes"] and not painted["versions"][1]["notes"]


def test_doubt_is_that_of_the_command_line(studio, model_folder, jpeg, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(jpeg)
    opened(studio, "ann", jpeg)

    asked = {**QUESTION, "version": 3, "saturation": 0.5}
    doubt = last(studio.paint("ann", {**asked, "serial": 2, "kind": "doubt"}))["doubt"]
    options = ["--model", model_folder, "--seed", "3", "--dtype", "float32", "--device", "cpu", "--saturation", "0.5"]
    CliRunner().invoke(cli.app, [str(tmp_path / "photo.jpg"), *options, "--doubt"])

    written = pixels_of((tmp_path / "photo.doubt.png").read_bytes())
    written = written[:90, (written.shape[1] - 60) // 2 :][:, :60]  # the photo is in the middle, above the legend
    assert np.abs(pixels_of(file_of(doubt["view"]).read_bytes()) - written).mean() < 4 < np.ptp(written, axis=2).mean()
    assert (doubt["version"], doubt["saturation"]) == (3, 0.5)
    assert [word for word, _ in doubt["steps"]] == ["0 sure", "5", "10", "15", "a guess 20+"] and "dE00" in doubt[
        "note"
    ]


def test_a_file_that_cannot_be_read_gets_the_line_of_the_command_line(studio, model_folder, jpeg, tmp_path):
    for name, data in (("cut.jpg", jpeg[:900]), ("text.png", b"no photo"), ("raw.cr2", b"II*\0" + bytes(60))):
        (tmp_path / name).write_bytes(data)

        state = opened(studio, name, data, name)
        result = CliRunner().invoke(cli.app, [str(tmp_path / name), "--model", model_folder])

        assert state["photo"] is None and state["error"]
        assert f"not colorized: {state['error']}" in result.output
        assert not list(studio.folder.glob("*/*"))  # nothing of it is kept


def test_strokes_leave_the_gray_and_areas_all_that_is_outside(studio, tmp_path):
    from skimage.data import astronaut

    red = np.asarray(Image.fromarray(astronaut()).resize((90, 61))).astype(np.uint8)
    deep = np.asarray(Image.fromarray(red).convert("L")).astype(np.uint16) * 256 + 7
    for client, pixels in (("color", red), ("deep", deep)):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "TIFF")
        opened(studio, client, stream.getvalue(), "photo.tif")
        for serial, outside in ((10, "painted"), (20, "photo")):
            asked = {**QUESTION, "strokes": [DOT, LEFT_HALF, DOT], "revision": serial, "outside": outside}
            last(studio.paint(client, {**asked, "serial": serial, "kind": "edit"}))
            saved = studio.save(client, {**asked, "serial": serial + 1, "format": "tif"})
            path = file_of(saved["result"])
            photo = read_photo(path)
            codes, inside = (
                np.asarray(photo.image),
                np.asarray(mask_of(parse_question({**asked, "serial": 1}).areas, (90, 61))),
            )
            own = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)
            same = (codes == own).all(axis=2)

            assert judge(path, photo, luma_of(photo))[1].state == "exact"
            assert codes.dtype == pixels.dtype and 0.3 < (inside > 0).mean() < 0.7
            assert (codes[inside > 0] != own[inside > 0]).any()
            assert same[inside == 0].all() == (outside == "photo")


def test_an_area_keeps_the_version_around_it(studio, jpeg):
    opened(studio, "ann", jpeg)
    before = studio.save("ann", {**QUESTION, "serial": 2, "format": "png"})["result"]
    before = np.asarray(Image.open(file_of(before)))
    asked = {**QUESTION, "strokes": [LEFT_HALF, DOT], "revision": 3}

    last(studio.paint("ann", {**asked, "serial": 3, "kind": "edit"}))
    after = np.asarray(Image.open(file_of(studio.save("ann", {**asked, "serial": 4, "format": "png"})["result"])))

    inside = np.asarray(mask_of(parse_question({**asked, "serial": 1}).areas, before.shape[1::-1])) > 0
    assert (after == before).all(axis=2)[~inside].all()
    assert (after != before).any(axis=2)[inside].mean() > 0.05  # a dot on a photo of noise does not get far


def test_who_stops_stops_no_run_but_his_own(studio, jpeg):
    calm = opened(studio, "ann", jpeg)
    views = [file_of(version["view"]).read_bytes() for version in calm["versions"]]
    states = studio.paint("bob", {**QUESTION, "serial": 1, "kind": "open", "path": put(studio, jpeg)})
    others = []
    thread = threading.Thread(target=lambda: others.append(opened(studio, "cleo", jpeg)))
    next(state for state in states if state["progress"])  # the networks are at work
    thread.start()

    studio.halt("bob", 2)
    final = last(states)
    thread.join()

    assert len(final["versions"]) < 4 and final["progress"] is None
    assert [file_of(version["view"]).read_bytes() for version in others[0]["versions"]] == views


def test_files_of_a_visitor_who_has_gone_go(model, jpeg, tmp_path):
    (tmp_path / "uploads").mkdir()
    studio = Studio(model, tmp_path, seconds_to_return=0.2, seconds_idle=1000)
    opened(studio, "ann", jpeg)
    opened(studio, "bob", jpeg)
    forgotten = Path(put(studio, jpeg))
    os.utime(forgotten, (0, 0))

    studio.leave("ann")
    deadline = time.monotonic() + 20
    while len(list(studio.folder.iterdir())) > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    gone = studio.restyle("ann", {**QUESTION, "serial": 2})
    there = studio.restyle("bob", {**QUESTION, "serial": 2})
    studio.close()

    assert gone["photo"] is None and "drop it again" in gone["error"]
    assert there["photo"] and not forgotten.exists()
    assert not list(studio.folder.iterdir())


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/", "uploads/../../x", "", None, {"path": "/etc"}]
)
def test_paths_and_addresses_are_no_uploads(studio, path):
    state = last(studio.paint("eve", {**QUESTION, "serial": 1, "kind": "open", "path": path}))

    assert state["photo"] is None and "no longer here" in state["error"]


def test_what_no_page_sends_is_refused_in_a_line():
    good = {**QUESTION, "serial": 1}
    for bad in (
        None, {}, [], {**good, "serial": "x"}, {**good, "saturation": float("nan")}, {**good, "strokes": [{}]},
        {**good, "strokes": [{**DOT, "color": "javascript:"}]}, {**good, "strokes": [{**DOT, "points": []}]},
        {**good, "strokes": [DOT] * 501}, {**good, "strokes": [{**DOT, "points": [[0, 0]] * 50_001}]},
    ):  # fmt: skip
        with pytest.raises(ValueError) as refused:
            parse_question(bad)
        assert "\n" not in str(refused.value)


def test_clicks_are_points_and_brushed_lines_a_layer():
    click = parse_question({**QUESTION, "serial": 1, "strokes": [DOT, {**DOT, "points": [[1, 1]]}]}).colors
    line = parse_question({**QUESTION, "serial": 1, "strokes": [{**DOT, "points": [[0, 0.5], [1, 0.5]]}]}).colors

    layer = np.asarray(hints_of(line, (200, 100)))

    assert hints_of(click, (200, 100)) == [(100, 50, "#ff0000"), (199, 99, "#ff0000")]
    assert (layer[48:53] == (255, 0, 0, 255)).all() and not layer[:40].any() and not layer[60:].any()
