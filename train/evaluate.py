"""
Score a checkpoint on color photographs:

    python train/evaluate.py --checkpoint runs/small/pipeline --photos ../shared/evaluation/kodak --output runs/kodak

writes `results.json`, `results.md` and `sheet.jpg`. Each photo is shrunk to a short side of `--size` and cropped to
its central square, its gray is colorized, and the result is compared with the true colors. Beside the checkpoint stand
three rows that need no model: the gray photo, one mean color per photo told by an oracle, and the true chroma at the
resolution the checkpoint paints at, which is the best any such model could do.

    python train/evaluate.py --photos ../shared/historical --output runs/historical --sheet-only

only paints 24 photos, whole, on a sheet: for gray photographs, whose true colors nobody knows.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from contact_sheet import contact_sheet
from photo_dataset import first_readable, load_photos
from PIL import Image, ImageOps
from tqdm import tqdm

from colorize_pipeline import DEFAULT_CHECKPOINT, ColorizationPipeline
from colorize_pipeline.color import join, resize_matrix, rgb_to_chroma
from colorize_pipeline.metrics import score_colors


SHEET_PHOTOS = 24
SHEET_SAMPLES = 3

# The first rows of the table need no model.
BASELINES = 3


def main(arguments: argparse.Namespace) -> None:
    # 1. The checkpoint, the photos, and two ways to paint one
    pipeline = ColorizationPipeline.from_pretrained(arguments.checkpoint, dtype=getattr(torch, arguments.dtype))
    pipeline.to(arguments.device).set_progress_bar_config(disable=True)
    num_inference_steps = arguments.steps or pipeline.config.default_num_inference_steps
    resolution = arguments.processing_resolution or pipeline.config.default_processing_resolution
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    titles = ["gray", "mean (1 step)", *(f"seed {seed}" for seed in range(SHEET_SAMPLES))]

    def paint_mean(gray: Image.Image) -> Image.Image:
        return pipeline(
            gray, num_inference_steps=1, processing_resolution=resolution, generator=generator_of(0)
        ).images[0]

    def paint_samples(gray: Image.Image, number: int) -> list[Image.Image]:
        return pipeline(
            gray,
            num_inference_steps=num_inference_steps,
            num_images_per_input=number,
            processing_resolution=resolution,
            guidance_scale=arguments.guidance_scale,
            generator=[generator_of(seed) for seed in range(number)],
        ).images

    if arguments.sheet_only:
        photos = load_spread(arguments.photos, arguments.max_photos or SHEET_PHOTOS)
        grays = [photo.convert("L") for photo in photos]
        rows = [[gray, paint_mean(gray), *paint_samples(gray, SHEET_SAMPLES)] for gray in tqdm(grays, unit="photo")]
        contact_sheet(rows, titles, arguments.cell, blocks=2).save(output / "sheet.jpg", quality=90)
        return
    photos = [
        ImageOps.fit(photo, (arguments.size, arguments.size), Image.Resampling.LANCZOS)
        for photo in load_spread(arguments.photos, arguments.max_photos)
    ]
    best_name = f"best of {arguments.samples}"

    # 2. Paint every photo in every way, and score it
    scores, sheet_rows, seconds = {}, [], 0.0
    for number, truth in enumerate(tqdm(photos, unit="photo")):
        gray = truth.convert("L")
        luma, chroma = torch.from_numpy(np.array(gray)), true_chroma(truth)
        floor_size = max(1, round(resolution / pipeline.config.luminance_patch))
        mean = paint_mean(gray)
        clock = time.perf_counter()
        samples = paint_samples(gray, arguments.samples)
        seconds += time.perf_counter() - clock

        painted = {
            "gray input": [gray.convert("RGB")],
            "one oracle mean color": [Image.fromarray(join(luma, chroma.mean(dim=(1, 2), keepdim=True)).numpy())],
            "chroma-resolution floor": [Image.fromarray(join(luma, shrink(chroma, floor_size)).numpy())],
            "1-step mean": [mean],
            "one sample": samples,
        }
        for name, images in painted.items():
            scored = [score_colors(np.asarray(image), np.asarray(truth)) for image in images]
            scores.setdefault(name, []).append(average([asdict(score) for score in scored]))
            if name == "one sample":
                best = min(scored, key=lambda score: score.delta_e)
                scores.setdefault(best_name, []).append(asdict(best))
        if number < SHEET_PHOTOS:
            sheet_rows.append([gray, mean, *samples[:SHEET_SAMPLES], truth])

    # 3. Write what came out
    contact_sheet(sheet_rows, [*titles, "truth"], arguments.cell, blocks=2).save(output / "sheet.jpg", quality=90)
    rows = {name: summary(values) for name, values in scores.items()}
    settings = {
        "size": arguments.size,
        "processing_resolution": resolution,
        "num_inference_steps": num_inference_steps,
        "scheduler": type(pipeline.scheduler).__name__,
        "guidance_scale": arguments.guidance_scale or pipeline.config.default_guidance_scale,
        "samples": arguments.samples,
        "dtype": arguments.dtype,
    }
    results = {
        "dataset": Path(arguments.photos).name,
        "num_images": len(photos),
        "settings": settings,
        "metrics": {f"{column} ({name})": value for name, row in rows.items() for column, value in row.items()},
        "baselines": list(rows)[:BASELINES],
        "seconds_per_sample": seconds / len(photos) / arguments.samples,
        "rows": rows,
    }
    (output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    table = markdown_table(rows)
    (output / "results.md").write_text(table)
    print(f"{results['dataset']}: {len(photos)} photos, {settings}")
    print(table)


def load_spread(source: str, number: int | None) -> list[Image.Image]:
    """Load so many photos (`None`: all), evenly spread over the set: files are often sorted by subject."""
    photos = load_photos(source, "*.parquet", "test", streaming=False)
    number = len(photos) if number is None else min(number, len(photos))
    rows = (photos[index * len(photos) // number]["image"] for index in range(number))
    return [first_readable(lambda _, row=row: row)[0] for row in rows]


def true_chroma(photo: Image.Image) -> torch.Tensor:
    """Give the chroma of a color photo, `(2, height, width)` in `[-0.5, 0.5]`."""
    return rgb_to_chroma(torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255)[0]


def shrink(chroma: torch.Tensor, size: int) -> torch.Tensor:
    """Resample square chroma planes to `size`."""
    matrix = resize_matrix(chroma.shape[-1], size)
    return matrix @ chroma @ matrix.T


def generator_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def average(values: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([value[name] for value in values])) for name in values[0]}


def summary(values: list[dict[str, float]]) -> dict[str, float]:
    """Average the photos of one row; the difference in colorfulness in both conventions of the literature."""
    mean = average(values)
    differences = [abs(value["colorfulness"] - value["true_colorfulness"]) for value in values]
    return {
        "PSNR": mean["psnr"],
        "dE00": mean["delta_e"],
        "CF": mean["colorfulness"],
        "true CF": mean["true_colorfulness"],
        "mean of abs dCF": float(np.mean(differences)),
        "abs dCF of means": abs(mean["colorfulness"] - mean["true_colorfulness"]),
    }


def markdown_table(rows: dict[str, dict[str, float]]) -> str:
    columns = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(f"{row[column]:.2f}" for column in columns) + " |" for name, row in rows.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint", default=DEFAULT_CHECKPOINT, help="folder or Hub name; default: the one shipped"
    )
    parser.add_argument("--photos", required=True, help="folder of photos or parquet shards, or a Hub data set")
    parser.add_argument("--output", required=True, help="folder for results.json, results.md and sheet.jpg")
    parser.add_argument("--sheet-only", action="store_true", help="paint whole photos on a sheet, score nothing")
    parser.add_argument("--max-photos", type=int, help="score only so many, spread over the set")
    parser.add_argument("--size", type=int, default=256, help="side of the square photos, in pixels")
    parser.add_argument("--samples", type=int, default=8, help="samples of each photo")
    parser.add_argument("--steps", type=int, help="denoising steps; default: the checkpoint's")
    parser.add_argument("--processing-resolution", type=int, help="default: the checkpoint's")
    parser.add_argument("--guidance-scale", type=float, help="default: the checkpoint's")
    parser.add_argument("--cell", type=int, default=160, help="longest side of a picture on the sheet, in pixels")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    main(parser.parse_args())
