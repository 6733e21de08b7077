"""
Measure films in color against the truth of synthetic motion, and the command on long and interrupted runs:

    python tests/benchmarks/video.py PHOTOS [--photos 8] [--frames 48] [--only motion,speed,memory,kills]

Pans, zooms and parallax (a patch of one photo moving before another) are made of the photos, so that it is known where
each pixel was in the frame before. Flicker is the dE00 between a frame and the same frame with the colors that its
pixels had before (its own luma in both), where they were visible; the warping error is the mean squared difference
of these two in RGB, x 10^4 (Source: Lai et al., ECCV 2018). Compared are the film, each frame painted alone (with one
noise for all, and with its own), and keys that are painted alone with their colors blended linearly between them.
"""

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from colorize_pipeline import DEFAULT_CHECKPOINT, ColorizationPipeline
from colorize_pipeline.brush import Brush
from colorize_pipeline.color import colorfulness, join, rgb_to_chroma
from colorize_pipeline.metrics import mean_delta_e
from colorize_pipeline.scenes import Frame


WIDTH, HEIGHT = 640, 480
KEY_EVERY = 24
COMMAND = [sys.executable, "-c", "from colorize_pipeline.apps.cli import main; main()", "video"]


@dataclass(frozen=True)
class Shown:
    """A frame: luma `(H, W)`, and where each pixel was in the one before `(H, W, 2)`, NaN where it was not visible."""

    luma: np.ndarray
    before: np.ndarray


def camera(kind: str, number: int) -> tuple[float, float, float]:
    """Center and width of what is seen, in pixels of a photo of 960 x 720."""
    if kind == "zoom":
        return 480, 360, 640 * (1 - 0.006 * number)
    return 320 + 5.3 * number, 240 + 1.7 * number, 640


def positions(view: tuple[float, float, float]) -> np.ndarray:
    """Where in the photo the pixels of a frame are."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    scale = view[2] / WIDTH
    return np.stack(((x - WIDTH / 2) * scale + view[0], (y - HEIGHT / 2) * scale + view[1]), axis=2)


def in_frame(places: np.ndarray, view: tuple[float, float, float]) -> np.ndarray:
    """The inverse of `positions`, NaN outside of the frame."""
    scale = view[2] / WIDTH
    pixels = (places - np.array(view[:2])) / scale + np.array([WIDTH / 2, HEIGHT / 2])
    outside = (pixels < 0) | (pixels > np.array([WIDTH, HEIGHT]))
    return np.where(outside.any(axis=2, keepdims=True), np.nan, pixels)


def make_clip(kind: str, photo: Path, other: Path, frames: int) -> Iterator[Shown]:
    """Make a clip of known motion."""
    pictures = [Image.open(path).convert("L").resize((960, 720)) for path in (photo, other)]
    last_view, last_patch = None, None
    for number in range(frames):
        view = camera(kind, number)
        half = view[2] / 2, view[2] * HEIGHT / WIDTH / 2
        corners = (view[0] - half[0], view[1] - half[1], view[0] + half[0], view[1] + half[1])
        luma = np.asarray(pictures[0].resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=corners))
        last = last_view or view
        before = in_frame(positions(view), last)
        if kind == "parallax":  # an ellipse that goes against the pan
            center = np.array([480 - 4 * number, 260 + number])
            pixels = np.mgrid[:HEIGHT, :WIDTH][::-1].transpose(1, 2, 0) + 0.5
            inside = (((pixels - center) / np.array([90, 130])) ** 2).sum(axis=2) < 1
            left, top = 300 - center[0], 360 - center[1]
            patch = pictures[1].transform(
                (WIDTH, HEIGHT), Image.Transform.AFFINE, (1, 0, left, 0, 1, top), Image.Resampling.BICUBIC
            )
            luma = np.where(inside, np.asarray(patch), luma)
            if last_patch is not None:
                covered = (((before - last_patch) / np.array([90, 130])) ** 2).sum(axis=2) < 1
                before = np.where(covered[..., None], np.nan, before)
                before = np.where(inside[..., None], pixels - center + last_patch, before)
            last_patch = center
        last_view = view
        yield Shown(luma, before)


def flicker(colors: list[np.ndarray], clip: list[Shown]) -> tuple[float, float, float]:
    """dE00 and warping error from frame to frame, and colorfulness, on average."""
    distances, errors = [], []
    for number in range(1, len(clip)):
        now = colors[number]
        before = torch.from_numpy(clip[number].before)
        visible = ~before.isnan().any(dim=2).numpy()
        places = before.nan_to_num(0) / torch.tensor([WIDTH, HEIGHT]) * 2 - 1
        old = torch.from_numpy(np.array(colors[number - 1])).permute(2, 0, 1)[None].double() / 255
        moved = F.grid_sample(rgb_to_chroma(old), places[None], mode="bicubic", align_corners=False)[0]
        kept = join(torch.from_numpy(np.array(clip[number].luma)), moved).numpy()
        distances.append(mean_delta_e(now[visible][None], kept[visible][None]))
        errors.append(1e4 * np.mean((now[visible] / 255.0 - kept[visible] / 255.0) ** 2))
    vivid = [colorfulness(torch.from_numpy(np.array(frame)).permute(2, 0, 1).float() / 255) for frame in colors]
    return float(np.mean(distances)), float(np.mean(errors)), float(np.mean(vivid))


def alone(pipe: ColorizationPipeline, frames: list[np.ndarray], same_noise: bool) -> list[torch.Tensor]:
    """Paint each frame for itself: all with the noise that the film has for its scene, or each with its own."""
    brush = Brush(pipe, None, None, 1, int(torch.randint(2**63 - 1, (), generator=seeded(0))), {})
    first = torch.from_numpy(np.array(frames[0]))
    seed = brush.noise_seed(Frame(first, first), 1)
    return [
        pipe(luma, generator=seeded(seed if same_noise else n), output_type="chroma").chroma[0]
        for n, luma in enumerate(frames)
    ]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def measure_motion(pipe: ColorizationPipeline, photos: list[Path], frames: int) -> None:
    table = {}
    for kind in ("still", "pan", "zoom", "parallax"):
        for photo, other in zip(photos, photos[1:] + photos[:1], strict=True):
            clip = list(make_clip(kind, photo, other, frames))
            if kind == "still":
                clip = [Shown(clip[0].luma, positions((WIDTH / 2, HEIGHT / 2, WIDTH)))] * frames
            lumas = [shown.luma for shown in clip]
            film = list(pipe.colorize_video(lumas, generator=seeded(0)))
            ways = {"film": [np.asarray(image) for image in film]}
            if kind == "still":
                table.setdefault((kind, "film"), []).append(flicker(ways["film"], clip))
                print(
                    photo.name, "still: pixels that differ:", sum((a != ways["film"][0]).sum() for a in ways["film"])
                )
                continue
            painted = {name: alone(pipe, lumas, same) for name, same in (("same noise", True), ("own noise", False))}
            keys = painted["same noise"][::KEY_EVERY] + [painted["same noise"][-1]]
            shares = [(number // KEY_EVERY, number % KEY_EVERY / KEY_EVERY) for number in range(frames)]
            painted["blended keys"] = [torch.lerp(keys[key], keys[key + 1], share) for key, share in shares]
            for name, chromas in painted.items():
                pairs = zip(lumas, chromas, strict=True)
                ways[name] = [join(torch.from_numpy(np.array(luma)), chroma).numpy() for luma, chroma in pairs]
            for name, colors in ways.items():
                table.setdefault((kind, name), []).append(flicker(colors, clip))
                print(photo.name, kind, name, *(f"{value:.3f}" for value in table[kind, name][-1]), flush=True)
    print("\n| motion | way | flicker dE00 | warping error | colorfulness |\n|---|---|---|---|---|")
    for (kind, name), rows in table.items():
        print(f"| {kind} | {name} | " + " | ".join(f"{value:.3f}" for value in np.mean(rows, axis=0)) + " |")


def write_clip(path: Path, photos: list[Path], frames: int, size: tuple[int, int]) -> None:
    """A film of pans over photos, each a scene of 120 frames, with grain."""
    grain = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(24), options={"preset": "ultrafast", "crf": "12"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            scene, step = divmod(number, 120)
            if step == 0:
                picture = Image.open(photos[scene % len(photos)]).convert("L").resize((size[0] + 120, size[1] + 60))
            luma = np.asarray(picture.crop((step, step // 2, step + size[0], step // 2 + size[1])))
            luma = (luma + grain.normal(0, 4, luma.shape)).clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(luma, format="gray").reformat(format="yuv420p")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def measure_speed(photos: list[Path], folder: Path, frames: int) -> None:
    write_clip(folder / "speed.mkv", photos, frames, (WIDTH, HEIGHT))
    clock = time.perf_counter()
    subprocess.run([*COMMAND, folder / "speed.mkv", folder / "speed.mp4"], check=True)
    seconds = time.perf_counter() - clock
    print(f"{frames} frames of {WIDTH} x {HEIGHT}: {frames / seconds:.1f} frames/s, with the start of the command")


def measure_memory(photos: list[Path], folder: Path, frames: int) -> None:
    write_clip(folder / "long.mkv", photos, frames, (320, 240))
    process = subprocess.Popen([*COMMAND, folder / "long.mkv", folder / "long.mp4", "--steps", "1", "--samples", "1"])
    sizes = []
    while process.poll() is None:
        time.sleep(2)
        try:
            text = Path(f"/proc/{process.pid}/status").read_text()
            sizes.append(int(text.split("VmRSS:")[1].split()[0]) / 1024)
        except (OSError, IndexError):  # it has just ended
            break
    process.wait()
    parts = [sizes[min(len(sizes) - 1, len(sizes) * tenth // 10)] for tenth in (2, 4, 6, 8, 9)]
    print(f"memory over {frames} frames, in MB at 20, 40, 60, 80, 90%:", *(f"{size:.0f}" for size in parts))
    print(f"peak {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MB")


def measure_kills(photos: list[Path], folder: Path, kills: int) -> None:
    write_clip(folder / "kills.mkv", photos, 3000, (160, 120))
    how = ["--steps", "1", "--samples", "1"]
    clock = time.perf_counter()
    subprocess.run([*COMMAND, folder / "kills.mkv", folder / "whole.mp4", *how], check=True)
    longest, chance, done = time.perf_counter() - clock, random.Random(0), 0
    while done < kills and not (folder / "killed.mp4").exists():
        process = subprocess.Popen([*COMMAND, folder / "kills.mkv", folder / "killed.mp4", *how])
        try:  # all of them together take about as long as an undisturbed run, with the starts
            process.wait(chance.uniform(0, 2 * longest / kills))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            done += 1
    if not (folder / "killed.mp4").exists():
        subprocess.run([*COMMAND, folder / "kills.mkv", folder / "killed.mp4", *how], check=True)
    same = (folder / "killed.mp4").read_bytes() == (folder / "whole.mp4").read_bytes()
    print(f"killed {done} times and continued: {'byte-identical' if same else 'DIFFERENT'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=8)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--only", default="motion,speed,memory,kills")
    parser.add_argument("--long", type=int, default=5000, help="frames for the memory")
    parser.add_argument("--kills", type=int, default=10)
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    photos = paths[:: max(1, len(paths) // arguments.photos)][: arguments.photos]
    wanted = arguments.only.split(",")
    with tempfile.TemporaryDirectory() as folder:
        if "motion" in wanted:
            pipe = ColorizationPipeline.from_pretrained(DEFAULT_CHECKPOINT)
            pipe.set_progress_bar_config(disable=True)
            measure_motion(pipe, photos, arguments.frames)
        if "speed" in wanted:
            measure_speed(photos, Path(folder), 480)
        if "memory" in wanted:
            measure_memory(photos, Path(folder), arguments.long)
        if "kills" in wanted:
            measure_kills(photos, Path(folder), arguments.kills)


if __name__ == "__main__":
    main()
