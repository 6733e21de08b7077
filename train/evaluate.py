"""
Score a checkpoint on color photographs:

    python train/evaluate.py --checkpoint runs/small/pipeline --photos ../shared/evaluation/kodak --output runs/kodak

writes `results.json`, `results.md` and `sheet.jpg`; of several sets, also those of each in a folder of its name. Each
photo is shrunk to a short side of `--size` and cropped to its central square, its gray is colorized, and the result is
compared with the true colors. Beside the checkpoint stand rows that need no model: the gray photo, one mean color per
photo told by an oracle, the true chroma at the resolution the checkpoint paints at, which is the best any such model
could do, and the true colors themselves.

    python train/evaluate.py --photos ../shared/historical --output runs/historical --sheet-only

only paints 24 photos, whole, on a sheet: for gray photographs, whose true colors nobody knows.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from scoring.contact_sheet import contact_sheet
from scoring.feature_network import disjoint_distance, extract_features, load_feature_network, load_lite2_features
from scoring.painted_photos import (
    FLOOR,
    GRAY,
    MEAN,
    ORACLE,
    SAMPLE,
    SCHEDULERS,
    TRUTH,
    PaintedPhoto,
    Painter,
    generator_of,
    load_spread,
    set_scheduler,
)
from scoring.two_sample_test import two_sample_accuracy
from tqdm import tqdm

from colorize_pipeline import DEFAULT_CHECKPOINT, ColorizationPipeline
from colorize_pipeline.metrics import ColorScores, frechet_distance


SHEET_PHOTOS = 24
SHEET_SAMPLES = 3

# Half of them train the classifier of the two-sample test, and stand for the others in the disjoint distance.
_MIN_PHOTOS = 4

# Of the bound, per photo. Each takes two passes of the network; more make the standard error of the photos smaller.
_BOUND_TIMESTEPS = 32


def main(arguments: argparse.Namespace) -> None:
    # 1. The checkpoint
    pipeline = ColorizationPipeline.from_pretrained(arguments.checkpoint, dtype=getattr(torch, arguments.dtype))
    if arguments.scheduler:
        set_scheduler(pipeline, arguments.scheduler)
    pipeline.to(arguments.device).set_progress_bar_config(disable=True)
    painter = Painter(
        pipeline,
        arguments.samples,
        arguments.bits_per_dimension,
        arguments.steps,
        arguments.processing_resolution,
        arguments.guidance_scale,
        arguments.spread,
    )
    networks = {"FD EfficientNet-Lite2": load_lite2_features()}
    if arguments.features:
        networks[f"FID ({Path(arguments.features).stem})"] = load_feature_network(arguments.features)
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    if arguments.sheet_only:
        photos = [
            photo
            for source in arguments.photos
            for photo in load_spread(source, arguments.files, arguments.split, arguments.max_photos or SHEET_PHOTOS)
        ]
        grays = [photo.convert("L") for photo in photos]
        rows = [
            [gray, painter.mean(gray, 0), *painter.samples(gray, SHEET_SAMPLES, 0)]
            for gray in tqdm(grays, unit="photo")
        ]
        titles = ["gray", "mean (1 step)", *(f"seed {seed}" for seed in range(SHEET_SAMPLES))]
        contact_sheet(rows, titles, arguments.cell, blocks=2).save(output / "sheet.jpg", quality=90)
        return

    # 2. Paint every photo in every way, and score it
    squares = [
        (Path(source).name, ImageOps.fit(photo, (arguments.size, arguments.size), Image.Resampling.LANCZOS))
        for source in arguments.photos
        for photo in load_spread(source, arguments.files, arguments.split, arguments.max_photos)
    ]
    names = [Path(source).name for source in arguments.photos]
    fewest = min(sum(dataset == name for dataset, _ in squares) for name in names)
    needed = _MIN_PHOTOS if arguments.two_sample or arguments.features else 2 if arguments.bits_per_dimension else 1
    if fewest < needed or len(set(names)) < len(names):
        raise ValueError(
            f"`--photos` must name sets of different names, with at least {needed} photos each for these columns, but"
            f" got {', '.join(names)}, the smallest with {fewest}."
        )
    photos = [
        painter.paint(dataset, truth, number) for number, (dataset, truth) in enumerate(tqdm(squares, unit="photo"))
    ]

    # 3. Write what came out, of each set and of all together
    for name in names if len(names) > 1 else []:
        write_results(
            [photo for photo in photos if photo.dataset == name], name, output / name, painter, networks, arguments
        )
    write_results(photos, " + ".join(names), output, painter, networks, arguments)


def write_results(
    photos: list[PaintedPhoto],
    name: str,
    output: Path,
    painter: Painter,
    networks: dict[str, Callable],
    arguments: argparse.Namespace,
) -> None:
    """Write `results.json`, `results.md` and `sheet.jpg` of one set of photos."""
    output.mkdir(parents=True, exist_ok=True)
    rows = {row: color_columns([photo.scores[row] for photo in photos]) for row in photos[0].rows}
    for row in (MEAN, SAMPLE):
        rows[row]["seconds"] = float(np.mean([photo.seconds[row] for photo in photos]))
    if painter.num_samples > 1:
        rows[SAMPLE]["diversity"] = float(np.mean([photo.diversity for photo in photos]))

    batches = {row: stack_photos([photo.rows[row] for photo in photos]) for row in photos[0].rows}
    for head, network in networks.items() if len(photos) >= _MIN_PHOTOS else ():
        extracted = {row: extract_features(network, batch) for row, batch in batches.items()}
        for row, values in extracted.items():
            rows[row][f"{head} paired"] = frechet_distance(values, extracted[TRUTH])
            rows[row][f"{head} disjoint"] = disjoint_distance(values, extracted[TRUTH])
    intervals = {}
    if arguments.two_sample:
        for row in (GRAY, MEAN, SAMPLE):
            result = two_sample_accuracy(batches[row], batches[TRUTH], generator_of(0, 0))
            rows[row]["told from real"] = result.accuracy
            intervals[row] = [result.low, result.high]
    errors = {}
    if painter.bound_timesteps:
        bounds = np.array([(photo.bound.total, photo.bound.standard_error) for photo in photos])
        rows[SAMPLE]["bits/dim"] = float(bounds[:, 0].mean())
        errors = {
            "of these photos": float(np.sqrt((bounds[:, 1] ** 2).sum()) / len(photos)),
            "of all such photos": float(bounds[:, 0].std(ddof=1) / len(photos) ** 0.5),
        }

    settings = {
        "size": arguments.size,
        "processing_resolution": painter.resolution,
        "num_inference_steps": painter.steps,
        "scheduler": type(painter.pipeline.scheduler).__name__,
        "guidance_scale": painter.guidance_scale,
        "spread": painter.spread,
        "samples": painter.num_samples,
        "bound_timesteps": painter.bound_timesteps,
        "dtype": arguments.dtype,
    }
    results = {
        "dataset": name,
        "num_images": len(photos),
        "settings": settings,
        "metrics": {
            f"{column} ({row})": value
            for row, values in rows.items()
            for column, value in values.items()
            if value is not None
        },
        "baselines": [GRAY, ORACLE, FLOOR, TRUTH],
        "told_from_real_95_percent": intervals,
        "bits_per_dimension_standard_errors": errors,
        "rows": rows,
    }
    (output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    table = markdown_table(rows)
    (output / "results.md").write_text(table)
    print(f"{name}: {len(photos)} photos, {settings}\n{table}")
    for row, (low, high) in intervals.items():
        print(f"told from real, {row}: 95% interval {low:.2f} to {high:.2f} (0.5: cannot be told)")
    for name, error in errors.items():
        print(f"bits/dim: standard error {error:.4f} for the mean {name}")
    shown = photos[:: max(1, len(photos) // SHEET_PHOTOS)][:SHEET_PHOTOS]
    pictures = [
        (photo.rows[GRAY], photo.rows[MEAN], *photo.samples[:SHEET_SAMPLES], photo.rows[TRUTH]) for photo in shown
    ]
    sheet = [[Image.fromarray(picture) for picture in row] for row in pictures]
    titles = ["gray", "mean (1 step)", *(f"sample {number}" for number in range(len(sheet[0]) - 3)), "truth"]
    contact_sheet(sheet, titles, arguments.cell, blocks=2).save(output / "sheet.jpg", quality=90)


def stack_photos(photos: list[np.ndarray]) -> torch.Tensor:
    """Stack photos `(height, width, 3)` to `(N, 3, height, width)`."""
    return torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).contiguous()


def color_columns(scores: list[list[ColorScores]]) -> dict[str, float | None]:
    """Average over the photos of one row; the difference in colorfulness in both conventions of the literature."""

    def mean(name: str) -> float:
        return float(np.mean([np.mean([getattr(score, name) for score in photo]) for photo in scores]))

    differences = [np.mean([abs(score.colorfulness - score.true_colorfulness) for score in photo]) for photo in scores]
    return {
        "PSNR": mean("psnr") if np.isfinite(mean("psnr")) else None,
        "SSIM": mean("ssim"),
        "dE00": mean("delta_e"),
        "AuC": mean("auc"),
        "CF": mean("colorfulness"),
        "true CF": mean("true_colorfulness"),
        "mean of abs dCF": float(np.mean(differences)),
        "abs dCF of means": abs(mean("colorfulness") - mean("true_colorfulness")),
    }


def markdown_table(rows: dict[str, dict[str, float | None]]) -> str:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = ("" if row.get(column) is None else f"{row[column]:.{_digits(column)}f}" for column in columns)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _digits(column: str) -> int:
    return 3 if column in ("SSIM", "seconds", "bits/dim") else 2


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint", default=DEFAULT_CHECKPOINT, help="folder or Hub name; default: the one shipped"
    )
    parser.add_argument(
        "--photos", required=True, nargs="+", help="folders of photos or parquet shards, or Hub data sets"
    )
    parser.add_argument("--files", default="*.parquet", help="which shards of a folder of shards")
    parser.add_argument("--split", default="test", help="of data sets on the Hub")
    parser.add_argument("--output", required=True, help="folder for results.json, results.md and sheet.jpg")
    parser.add_argument("--sheet-only", action="store_true", help="paint whole photos on a sheet, score nothing")
    parser.add_argument("--max-photos", type=int, help="score only so many of each set, spread over it")
    parser.add_argument("--size", type=int, default=256, help="side of the square photos, in pixels")
    parser.add_argument("--samples", type=int, default=8, help="samples of each photo")
    parser.add_argument("--steps", type=int, help="denoising steps; default: the checkpoint's")
    parser.add_argument("--scheduler", choices=SCHEDULERS, help="default: the checkpoint's")
    parser.add_argument("--processing-resolution", type=int, help="default: the checkpoint's")
    parser.add_argument("--guidance-scale", type=float, help="default: the checkpoint's")
    parser.add_argument("--spread", type=float, help="of the samples around their mean; default: the checkpoint's")
    parser.add_argument(
        "--features", help="TorchScript file (or user/repository/file on the Hub) of the network for FID"
    )
    parser.add_argument("--two-sample", action="store_true", help="train a classifier to tell painted from real")
    parser.add_argument(
        "--bits-per-dimension",
        type=int,
        nargs="?",
        const=_BOUND_TIMESTEPS,
        default=0,
        metavar="TIMESTEPS",
        help=f"add the bound on the likelihood, from so many timesteps of each photo (default: {_BOUND_TIMESTEPS})",
    )
    parser.add_argument("--cell", type=int, default=160, help="longest side of a picture on the sheet, in pixels")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    main(parser.parse_args())
