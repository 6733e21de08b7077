"""
What hints are worth, and whether they are obeyed:

    python tests/benchmarks/hints.py FOLDER_OR_PARQUET [--photos 50] [--minutes 30] [--checkpoint FOLDER]

True colors are told at random points of color photos, which are painted from their gray. Prints the mean CIEDE2000 of
whole photos for each number of points, and how many of 100 points end within 2 of the color that was asked for. All
columns have the same photos, points and noise.
"""

import argparse
import time
import warnings
from collections import defaultdict
from pathlib import Path

import datasets
import numpy as np
import torch
from PIL import Image

from colorize_pipeline import DEFAULT_CHECKPOINT, ColorizationPipeline
from colorize_pipeline.apps.reading import find_photos
from colorize_pipeline.color import join, rgb_to_luma
from colorize_pipeline.hint_propagation import finish_chroma
from colorize_pipeline.hint_regression import follow_known
from colorize_pipeline.hints import HintWarning, fit_to_gamut, read_hints
from colorize_pipeline.likeness import find_likeness
from colorize_pipeline.metrics import mean_delta_e, pixel_delta_e


NUMBERS = (0, 1, 3, 10, 30, 100)
OBEYED = 2.0  # CIEDE2000: a difference that is seen side by side, if at all


def main() -> None:
    parser = argparse.ArgumentParser(description="What hints are worth, and whether they are obeyed.")
    parser.add_argument("source", type=Path)
    parser.add_argument("--photos", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=30.0, help="Stop before the first photo after that.")
    parser.add_argument("--longest-side", type=int, default=512)
    parser.add_argument("--checkpoint", default=str(DEFAULT_CHECKPOINT))
    arguments = parser.parse_args()

    pipe = ColorizationPipeline.from_pretrained(arguments.checkpoint)
    pipe.set_progress_bar_config(disable=True)
    warnings.simplefilter("ignore", HintWarning)  # the true colors exist where they come from
    errors, obeyed, seconds = defaultdict(list), [], []
    start = time.perf_counter()
    photos = load(arguments.source, arguments.photos)
    for index, photo in enumerate(photos):
        if time.perf_counter() - start > 60 * arguments.minutes:
            print(f"stopped after {index} of {len(photos)} photos: {arguments.minutes:g} minutes are over")
            break
        photo.thumbnail((arguments.longest_side, arguments.longest_side))
        seconds += measure(pipe, torch.from_numpy(np.array(photo)), index, errors, obeyed)
    print(f"{len(errors[0])} photos; mean dE00 of whole photos, and the change against no point")
    for number in NUMBERS:
        mean = np.mean(errors[number])
        print(f"{number:>4d} points {mean:8.2f} {100 * (mean / np.mean(errors[0]) - 1):+5.0f}%")
    print(f"of 100 points within dE00 {OBEYED:g}: {100 * np.mean(obeyed):.1f}%")
    print(f"colors are spread in {np.median(seconds):.2f} s of a core (median of {len(seconds)})")


def load(source: Path, number: int) -> list[Image.Image]:
    """Photos from all over a folder or a parquet file."""
    if source.is_dir():
        paths = [str(path) for path in find_photos(source)]
        return [Image.open(path).convert("RGB") for path in spread_over(paths, number)]
    rows = datasets.load_dataset("parquet", data_files=str(source), split="train")
    return [rows[index]["image"].convert("RGB") for index in spread_over(range(len(rows)), number)]


def spread_over(entries: list | range, number: int) -> list:
    number = min(number, len(entries))
    return [entries[len(entries) * index // number] for index in range(number)]


def measure(pipe: ColorizationPipeline, rgb: torch.Tensor, index: int, errors: dict, obeyed: list) -> list[float]:
    """Paint one photo with each number of points. Returns the processor's seconds that it took to spread them."""
    height, width = rgb.shape[:2]
    luma, seconds = rgb_to_luma(rgb), []
    draw = np.random.default_rng(index)
    points = list(zip(draw.integers(width, size=100).tolist(), draw.integers(height, size=100).tolist(), strict=True))
    generator = torch.Generator().manual_seed(index)
    painted = pipe(luma.numpy(), generator=generator, output_type="chroma").chroma[0]  # with any hint the same
    for number in NUMBERS:
        hints = [(x, y, tuple(rgb[y, x].tolist())) for x, y in points[:number]]
        known = fit_to_gamut([read_hints(hints, (height, width))], [luma])[0]
        start = time.process_time()
        likeness = find_likeness(pipe, luma, known) if hints else None
        chroma = follow_known(painted, luma, known, likeness) if hints else painted
        colored = join(luma, finish_chroma(luma, chroma, known, 1.0, None, likeness))
        if hints:
            seconds.append(time.process_time() - start)
        errors[number].append(mean_delta_e(colored[1::3, 1::3].numpy(), rgb[1::3, 1::3].numpy()))
    x, y = torch.tensor(points).T
    obeyed += (pixel_delta_e(colored[y, x][None].numpy(), rgb[y, x][None].numpy()) <= OBEYED).flatten().tolist()
    return seconds


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
