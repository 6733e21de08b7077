"""
What a reference photo is worth, in mean dE00 to the true colors (lower is better):

    python tests/benchmarks/reference.py MODEL ../shared/evaluation/imagenet-sample --max-photos 20
    python tests/benchmarks/reference.py MODEL ../shared/evaluation/kodak --pair 09.jpg 10.jpg

MODEL has an image encoder. The references are: of each photo its mirror image; of its left two thirds the right two
thirds; another photo of the set, which should do no harm; and of each `--pair` the other one. The photo is painted
without and with it. `palette` is what there is without matching places: the painted chroma, with the mean and the
covariance of the reference's. `matched` are the matched colors alone, where no confidence holds them back.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from colorize_pipeline import ColorizationPipeline
from colorize_pipeline.color import join, rgb_to_chroma
from colorize_pipeline.metrics import mean_delta_e
from colorize_pipeline.reference_matching import match_reference


def main(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    pipeline = ColorizationPipeline.from_pretrained(arguments.model)
    pipeline.set_progress_bar_config(disable=True)
    rows = defaultdict(lambda: defaultdict(list))
    for kind, photo, reference in pairs(arguments.photos, arguments.max_photos, arguments.pair):
        for name, value in measure(pipeline, photo, reference).items():
            rows[kind][name].append(value)
        print(kind, {name: round(values[-1], 2) for name, values in rows[kind].items()}, flush=True)
    for kind, columns in rows.items():
        means = ", ".join(f"{name} {np.mean(values):.2f}" for name, values in columns.items())
        print(f"{kind} ({len(columns['gray'])}): {means}")


def pairs(folder: Path, number: int, named: list[list[str]]) -> Iterator[tuple[str, Image.Image, Image.Image]]:
    """Give the kind of a pair, a photo, and its reference, at most 384 pixels a side."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    photos = [load(paths[index * len(paths) // number]) for index in range(min(number, len(paths)))]
    for index, photo in enumerate(photos):
        part = 2 * photo.width // 3
        left, right = (photo.crop((x, 0, x + part, photo.height)) for x in (0, photo.width - part))
        yield "mirror", photo, ImageOps.mirror(photo)
        yield "overlap", left, right
        yield "unrelated", photo, photos[index - 1]
    for names in named:
        photo, other = (load(folder / name) for name in names)
        yield "pair", photo, other
        yield "pair", other, photo


def load(path: Path) -> Image.Image:
    photo = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    photo.thumbnail((384, 384))
    return photo


def measure(pipeline: ColorizationPipeline, photo: Image.Image, reference: Image.Image) -> dict[str, float]:
    """Paint a photo in every way, and give the mean dE00 of each."""
    luma, truth = torch.from_numpy(np.array(photo.convert("L"))), np.asarray(photo)

    def paint(**arguments) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return pipeline(photo.convert("L"), generator=generator, output_type="chroma", **arguments).chroma[0]

    painted = paint()
    match = match_reference(pipeline, luma, reference, tuple(painted.shape[1:]))
    reference_rgb = torch.from_numpy(np.array(reference)).permute(2, 0, 1)[None].float() / 255
    chromas = {
        "gray": torch.zeros_like(painted),
        "painted": painted,
        "palette": move_palette(painted, rgb_to_chroma(reference_rgb)[0]),
        "matched": match[:2],
        "with reference": paint(reference_image=reference),
    }
    errors = {name: mean_delta_e(join(luma, chroma).numpy(), truth) for name, chroma in chromas.items()}
    return errors | {"confidence": float(match[2].mean())}


def move_palette(chroma: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Give chroma `(2, ...)` the mean and the covariance of another (after Reinhard et al. 2001)."""
    (mean, root), (target_mean, target_root) = (statistics(planes.flatten(1)) for planes in (chroma, target))
    moved = target_root @ torch.linalg.solve(root, chroma.flatten(1) - mean) + target_mean
    return moved.view_as(chroma).clamp(-0.5, 0.5)


def statistics(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return values.mean(dim=1, keepdim=True), torch.linalg.cholesky(torch.cov(values) + 1e-6 * torch.eye(2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub name")
    parser.add_argument("photos", type=Path, help="folder of color photos")
    parser.add_argument("--max-photos", type=int, default=20, help="spread over the folder")
    parser.add_argument(
        "--pair", nargs=2, action="append", default=[], metavar="FILE", help="of one scene, in the folder"
    )
    parser.add_argument("--threads", type=int, default=1)
    main(parser.parse_args())
