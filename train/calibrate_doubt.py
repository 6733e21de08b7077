"""
Measure how far a model's colors are from the true ones where its samples differ so and so much, and note it in the
model, so that its maps of doubt (`output_uncertainty`, `colorize --doubt`) tell errors as they are:

    python train/calibrate_doubt.py runs/mine/pipeline --photos ../shared/photos --files 'validation-*.parquet'

Every second photo is for the fit, the others tell how good it is: how many of their pixels have an error within the
bound (80% are meant to), and how well the order of the pixels by doubt is their order by error.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scoring.painted_photos import generator_of, load_spread
from tqdm import tqdm

from colorize_pipeline import ColorizationPipeline
from colorize_pipeline.color import join
from colorize_pipeline.doubt import delta_e, expected_error, rgb_to_lab


# Of all errors, those within the bound.
_COVERED = 0.8

# Pixels of each photo that are looked at: more would be neighbors of these, and tell the same.
_PIXELS = 4096


def main(arguments: argparse.Namespace) -> None:
    pipeline = ColorizationPipeline.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype))
    pipeline.to(arguments.device).set_progress_bar_config(disable=True)
    photos = list(load_spread(arguments.photos, arguments.files, arguments.split, arguments.max_photos))
    if len(photos) < 2:
        raise ValueError(f"`--photos` must hold at least 2 photos, but {arguments.photos} holds {len(photos)}.")
    pairs = [
        doubts_and_errors(pipeline, photo.convert("RGB"), arguments.samples, number)
        for number, photo in enumerate(tqdm(photos, unit="photo"))
    ]
    numbers = fit(*np.concatenate(pairs[::2], axis=1))
    for name, chosen in (("fitted", pairs[::2]), ("others", pairs[1::2])):
        doubts, errors = np.concatenate(chosen, axis=1)
        expected = numbers["doubt_floor"] + numbers["doubt_scale"] * doubts
        coverage = (errors <= numbers["doubt_bound"] * expected).mean()
        print(
            f"{name}: {len(chosen)} photos, mean error {errors.mean():.2f}, expected {expected.mean():.2f} dE00,"
            f" {coverage:.1%} within the bound, rank correlation {rank_correlation(doubts, errors):.2f}"
            f" (within a photo {np.mean([rank_correlation(*pair) for pair in chosen]):.2f})"
        )
    print(json.dumps(numbers))
    if not arguments.dry_run:
        index = Path(arguments.model) / "model_index.json"
        index.write_text(json.dumps(json.loads(index.read_text()) | numbers, indent=2, sort_keys=True) + "\n")
        print(f"noted in {index}")


def doubts_and_errors(
    pipeline: ColorizationPipeline, photo: Image.Image, samples: int, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """
    Paint a photo, and tell of some of its pixels how much the samples differ and how wrong the answer is.

    Args:
        photo (`PIL.Image.Image`): In mode RGB.
        samples (`int`): How many the answer, which is one more, is compared with.
        number (`int`): Of the photo, for its noise.

    Returns:
        `tuple` of two `np.ndarray` of shape `(_PIXELS)` or less: both in units of CIEDE2000.
    """
    gray = photo.convert("L")
    luma = torch.from_numpy(np.array(gray))
    generators = [generator_of(number, seed) for seed in range(samples + 1)]
    answer, *others = pipeline(
        gray, num_images_per_input=samples + 1, generator=generators, output_type="chroma"
    ).chroma
    doubt = expected_error(luma, answer, torch.stack(others), scale=1.0, floor=0.0)
    doubt = pipeline.image_processor.uncertainty_to_output_type(doubt, tuple(luma.shape), "np")
    painted, truth = (
        rgb_to_lab(codes.permute(2, 0, 1).float() / 255)
        for codes in (join(luma, answer), torch.from_numpy(np.array(photo)))
    )
    errors = delta_e(painted, truth).numpy()
    chosen = np.random.default_rng(number).permutation(errors.size)[:_PIXELS]
    return doubt.ravel()[chosen], errors.ravel()[chosen]


def fit(doubts: np.ndarray, errors: np.ndarray) -> dict[str, float]:
    """
    Find the line through the errors, by least squares, and how many times higher a bound lies.

    Args:
        doubts (`np.ndarray`), errors (`np.ndarray`): Of the same pixels, in units of CIEDE2000.

    Returns:
        `dict`: `doubt_scale`, `doubt_floor` and `doubt_bound`, as the pipeline registers them; none is negative.
    """
    centered = doubts - doubts.mean()
    scale = max(0.0, float((centered * (errors - errors.mean())).mean() / max(1e-9, centered.var())))
    floor = float(errors.mean() - scale * doubts.mean())
    if floor < 0:  # then through the origin
        scale, floor = float((doubts * errors).sum() / (doubts**2).sum()), 0.0
    bound = float(np.quantile(errors / np.maximum(1e-9, floor + scale * doubts), _COVERED))
    return {name: round(value, 4) for name, value in zip(
        ("doubt_scale", "doubt_floor", "doubt_bound"), (scale, floor, bound), strict=True
    )}  # fmt: skip


def rank_correlation(values: np.ndarray, others: np.ndarray) -> float:
    """Give Spearman's rank correlation, in `[-1, 1]`."""
    ranks = (np.argsort(np.argsort(each)) for each in (values, others))
    return float(np.corrcoef(*ranks)[0, 1])


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a pipeline, whose model_index.json is changed")
    parser.add_argument("--photos", required=True, help="folder of photos or shards that it was not trained on")
    parser.add_argument("--files", default="*.parquet", help="which shards of a folder of shards")
    parser.add_argument("--split", default="test", help="of a data set on the Hub")
    parser.add_argument("--max-photos", type=int, default=100, help="only so many, spread over the set")
    parser.add_argument("--samples", type=int, default=6, help="that an answer is compared with")
    parser.add_argument("--dry-run", action="store_true", help="only print")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_arguments())
