"""`colorize video`: a film file in, a film file out."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest
from conftest import make_pipeline
from PIL import Image
from typer.testing import CliRunner

from colorize_pipeline.apps.film_hints import FIRST, read_film_hints
from colorize_pipeline.apps.video import app


av = pytest.importorskip("av", reason="films need PyAV: pip install -e '.[video]'")


@pytest.fixture
def scene() -> np.ndarray:
    from skimage.data import camera

    return np.asarray(Image.fromarray(camera()).resize((256, 256)))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film") / "model"
    make_pipeline().save_pretrained(folder)
    return str(folder)


def write_film(path, frames, pixel_format="yuv420p", codec="ffv1", pts=None, sound=False, options=None, **tags):
    """Write luma planes as a film; `tags` are attributes of the encoder."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=Fraction(25), options=options or {})
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        audio = out.add_stream("pcm_s16le", rate=8000, layout="mono") if sound else None
        out.metadata["title"] = "Čapek at home"
        for number, luma in enumerate(frames):
            frame = av.VideoFrame(luma.shape[1], luma.shape[0], pixel_format)
            for plane in frame.planes:
                codes = np.frombuffer(plane, luma.dtype)
                codes[:] = 128 if luma.dtype == np.uint8 else 512
            plane = np.frombuffer(frame.planes[0], luma.dtype)
            plane.reshape(luma.shape[0], -1)[:, : luma.shape[1]] = luma
            frame.pts, frame.time_base = pts[number] if pts else 40 * number, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound:
            samples = (8000 * np.sin(np.arange(40 * 8 * len(frames)) / 9)).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.rate, frame.pts = 8000, 0
            out.mux(audio.encode(frame))
            out.mux(audio.encode(None))


def read_film(path) -> tuple[list[np.ndarray], list[int]]:
    """The luma planes of a film, code for code, and when they are shown."""
    lumas, times = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            plane = np.frombuffer(frame.planes[0], np.uint8 if frame.format.components[0].bits == 8 else np.uint16)
            lumas.append(plane.reshape(frame.height, -1)[:, : frame.width].copy())
            times.append(round(frame.pts * frame.time_base * 1000))
    return lumas, times


def packets(path, kind: str) -> list[tuple]:
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        found = [(packet.pts, bytes(packet)) for packet in container.demux(stream) if packet.size]
    return found


def run(*arguments) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("suffix", "pixel_format", "tags"),
    [
        (".mkv", "yuv420p", {"color_range": 1}),
        (".mp4", "yuv420p", {"color_range": 1}),
        (".mkv", "gray", {}),
        (".mkv", "yuv422p10le", {"colorspace": 1, "color_range": 1}),
    ],
)
def test_without_a_loss_luma_is_kept_code_for_code_and_the_space_is_told(
    tmp_path, model, scene, suffix, pixel_format, tags
):
    scale = 4 if "10" in pixel_format else 1
    frames = [(scene[9:57, 3 * number : 3 * number + 70] * np.uint16(scale)) for number in range(5)]
    frames = [frame.astype(np.uint8 if scale == 1 else np.uint16) for frame in frames]
    write_film(tmp_path / "in.mkv", frames, pixel_format, **tags)

    run(tmp_path / "in.mkv", tmp_path / f"out{suffix}", "--lossless", "--model", model, "--samples", 1)

    lumas, _ = read_film(tmp_path / f"out{suffix}")
    assert all(np.array_equal(*pair) for pair in zip(lumas, frames, strict=True))
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        frame = next(container.decode(video=0))
        assert "444" in frame.format.name and frame.format.components[0].bits == (10 if scale == 4 else 8)
        assert frame.color_range == (2 if pixel_format == "gray" else 1)
        assert frame.colorspace == tags.get("colorspace", 6)
        gray = frame.to_image().convert("L")
        assert np.ptp(np.asarray(frame.to_image()).astype(int), axis=2).max() > 20  # there is color
        if pixel_format == "gray":  # and whoever shows it sees the gray that went in
            assert np.abs(np.asarray(gray).astype(int) - frames[0]).max() <= 2
    assert not (tmp_path / ".colorize").exists()


def test_sound_times_and_metadata_stay_as_they_are(tmp_path, model, scene):
    times = [0, 40, 80, 200, 240, 500, 503, 600]  # a variable frame rate
    write_film(tmp_path / "in.mkv", [scene[:48, 2 * n : 2 * n + 64] for n in range(8)], pts=times, sound=True)

    for suffix in (".mkv", ".mov"):
        out = tmp_path / f"out{suffix}"
        run(tmp_path / "in.mkv", out, "--model", model, "--samples", 1)

        assert read_film(out)[1] == times
        sound = [b"".join(content for _, content in packets(path, "audio")) for path in (out, tmp_path / "in.mkv")]
        assert sound[0] == sound[1] and len(sound[0]) > 1000  # a .mov has packets of raw samples of its own size
        with av.open(str(out)) as container:
            told = {key.lower(): text for key, text in container.metadata.items()}
        assert told["title"] == "Čapek at home" and "compositeWithTrainedAlgorithmicMedia" in told["comment"]


def test_a_broken_frame_is_repeated_from_the_one_before_it_and_named(tmp_path, model, scene):
    frames = [scene[:48, 4 * number : 4 * number + 64] for number in range(6)]
    write_film(tmp_path / "in.mkv", frames, options={"slicecrc": "1"}, gop_size=1)
    content = bytearray((tmp_path / "in.mkv").read_bytes())
    for number, part in ((3, slice(300, 330)), (5, slice(0, None))):  # a scratch, and a hole of the disk
        packet = bytearray(packets(tmp_path / "in.mkv", "video")[number][1])
        at = content.index(packet)
        packet[part] = bytes(len(packet[part]))
        content[at : at + len(packet)] = packet
    (tmp_path / "in.mkv").write_bytes(content)

    said = run(tmp_path / "in.mkv", tmp_path / "out.mkv", "--lossless", "--model", model, "--samples", 1)

    lumas, times = read_film(tmp_path / "out.mkv")
    assert times == [0, 40, 80, 120, 160, 200]
    assert all(np.array_equal(luma, frames[shown]) for luma, shown in zip(lumas, [0, 1, 2, 2, 4, 4], strict=True))
    assert "0:00:00.120 is broken" in said and "0:00:00.200 is broken" in said


def test_a_run_that_is_killed_and_given_again_makes_the_bytes_of_one_that_was_not(tmp_path, model, scene):
    frames = [scene[number % 9 : number % 9 + 48, number % 150 : number % 150 + 64] for number in range(40)]
    write_film(tmp_path / "in.mkv", frames, sound=True)
    script = (
        "import sys; from colorize_pipeline.apps import film_job, video;"
        "film_job._FRAMES_PER_SEGMENT = 8; video.app(sys.argv[1:])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "in.mkv")]
    how = ["--model", model, "--samples", "1", "--codec", "h264"]
    subprocess.run([*command, str(tmp_path / "whole.mkv"), *how], check=True, capture_output=True)

    done = tmp_path / ".colorize"
    process = subprocess.Popen([*command, str(tmp_path / "killed.mkv"), *how], stderr=subprocess.DEVNULL)
    while len(list(done.glob("film-*/*.packets"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed.mkv").exists() and list(done.glob("film-*/*.packets"))
    last = subprocess.run([*command, str(tmp_path / "killed.mkv"), *how], check=True, capture_output=True, text=True)

    assert "frames that are done" in last.stderr
    assert (tmp_path / "killed.mkv").read_bytes() == (tmp_path / "whole.mkv").read_bytes()
    assert not done.exists()


def test_hints_belong_to_a_time_a_scene_or_the_first_frame_and_are_checked_before_anything_is_painted(
    tmp_path, model, scene
):
    write_film(tmp_path / "in.mkv", [scene[60:108, 60 + number : 124 + number] for number in range(8)])
    how = [str(tmp_path / "in.mkv"), str(tmp_path / "out.mkv"), "--model", model, "--samples", "1", "--lossless"]
    films = {}
    for name, hint in {"none": [], "later": ["--hint", "32,24,#3040a0@0:00.16"]}.items():
        run(*how, "--overwrite", *hint)
        with av.open(str(tmp_path / "out.mkv")) as container:
            films[name] = [frame.to_ndarray() for frame in container.decode(video=0)]
    changed = [not np.array_equal(*pair) for pair in zip(films["none"], films["later"], strict=True)]
    assert changed == [False] * 4 + [True] * 4

    (tmp_path / "known.json").write_text('[{"x": 9, "y": 9, "color": "red", "time": 0, "scene": 1}]')
    for hint, says in {
        "--hint=64,9,red": "outside of the film, which is 64 x 48",
        "--hint=9,9,red@soon": "is no point such as",
        f"--hints={tmp_path / 'known.json'}": '"time" or "scene" or neither',
    }.items():
        result = CliRunner().invoke(app, [*how, "--overwrite", hint], env={"COLUMNS": "400"})
        assert result.exit_code == 2 and says in result.output


def test_hints_of_a_file_are_told_by_frame(tmp_path):
    entries = [
        {"x": 1, "y": 2, "color": "red", "time": "1:30"},
        {"x": 3, "y": 4, "color": "blue", "scene": 3},
        {"x": 5, "y": 6, "color": "#008000"},
    ]
    (tmp_path / "known.json").write_text(json.dumps(entries))

    known = read_film_hints(["7,8,red@90"], str(tmp_path / "known.json"), (64, 48))

    red = "#ff0000"
    assert known.timed == ((FIRST, [(5, 6, "#008000")]), (90, [(7, 8, red), (1, 2, red)]))
    assert known.scenes == {3: [(3, 4, "#0000ff")]}


def test_what_is_no_film_and_what_was_asked_for_in_vain_is_said_in_one_line(tmp_path, model, scene):
    from skimage.io import imsave

    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mkv").write_text("hello")
    (tmp_path / "folder.mp4").mkdir()
    for name, reason in {
        "empty.mp4": "it is no film, or its beginning is lost",
        "text.mkv": "it is no film, or its beginning is lost",
        "folder.mp4": "Is a directory",
        "none.mp4": "No such file or directory",
    }.items():
        result = CliRunner().invoke(app, [str(tmp_path / name), str(tmp_path / "out.mp4")])
        assert result.exit_code == 1
        assert result.output.splitlines() == [f"{tmp_path / name}: it cannot be read: {reason}"]

    imsave(tmp_path / "still.png", scene[:47, :63])  # one frame, of odd sides, without sound
    said = run(
        tmp_path / "still.png", tmp_path / "out.mp4", "--model", model, "--scene-seed", "9=1", "--hint", "1,1,red@99"
    )

    assert "there is no scene 9: the film has 1" in said and "the hint at 99 seconds is after the last frame" in said
    assert len(read_film(tmp_path / "out.mp4")[0]) == 1
