"""
How long a 12-megapixel photo takes, and where the time goes:

    python tests/benchmarks/speed.py

The photo is made of the sample photos inside scikit-image. Prints seconds for reading, colorizing (with the network's
share) and writing as PNG and JPEG with a warm pipeline, the peak of memory, and a cold `colorize photo.jpg`.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage.data import astronaut

from colorize_pipeline import DEFAULT_CHECKPOINT, ColorizationPipeline
from colorize_pipeline.apps.reading import read_photo
from colorize_pipeline.apps.writing import write_photo


SIZE = (4000, 3000)
REPEATS = 3


def main(folder: Path) -> None:
    path = folder / "photo.jpg"
    noise = np.random.default_rng(0).normal(
        0, 4, (SIZE[1], SIZE[0], 1)
    )  # the grain of a real photo: JPEG works for it
    pixels = np.asarray(Image.fromarray(astronaut()).resize(SIZE)) + noise
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=92)
    del pixels, noise

    pipeline = ColorizationPipeline.from_pretrained(DEFAULT_CHECKPOINT)
    pipeline.set_progress_bar_config(disable=True)
    network = Stopwatch(pipeline.unet)
    times = {}
    for _ in range(REPEATS):
        network.seconds, clock = 0.0, time.perf_counter()
        photo = read_photo(path)
        photo.image.load()
        times.setdefault("read", []).append(time.perf_counter() - clock)
        clock = time.perf_counter()
        color = pipeline(photo.image, generator=torch.Generator().manual_seed(0)).images[0]
        times.setdefault("colorize", []).append(time.perf_counter() - clock)
        times.setdefault("  of it the network", []).append(network.seconds)
        for suffix in ("jpg", "png"):
            clock = time.perf_counter()
            write_photo(folder / f"color.{suffix}", color, photo, overwrite=True)
            times.setdefault(f"write {suffix}", []).append(time.perf_counter() - clock)
        small = photo.image.resize((256, 256))
        clock = time.perf_counter()
        pipeline(small, generator=torch.Generator().manual_seed(0))
        times.setdefault("colorize 256 x 256", []).append(time.perf_counter() - clock)
    for name, seconds in times.items():
        print(f"{name:20s} {min(seconds):6.2f} s")
    without_png = sum(min(times[name]) for name in ("read", "colorize", "write jpg"))
    print(f"read + colorize + write jpg: {without_png:.2f} s")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")

    clock = time.perf_counter()
    subprocess.run([Path(sys.executable).parent / "colorize", path, "-o", folder / "cold.jpg"], check=True)
    print(f"cold command: {time.perf_counter() - clock:.2f} s")


class Stopwatch:
    """Add up the seconds spent in a module."""

    def __init__(self, module: torch.nn.Module):
        self.seconds = 0.0
        module.register_forward_pre_hook(lambda *_: setattr(self, "start", time.perf_counter()))
        module.register_forward_hook(self.stop)

    def stop(self, *_) -> None:
        self.seconds += time.perf_counter() - self.start


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
