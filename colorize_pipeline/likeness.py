"""Which places of gray photos look alike to the image encoder. Needs no training."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline

from .hints import KnownColors, gather_cells
from .image_encoder import encoder_states


# Side in pixels of the square with the area that the encoder sees: more than for painting, since what is compared is a
# place and not a subject. By tests/benchmarks/reference.py.
_RESOLUTION = 320

# Of the three coarsest strides the two finer ones, 8 and 16, each of which counts the same. At stride 32 an encoder
# that was trained for color sees nearly the same everywhere (a cosine of 0.95): it tells nothing apart.
_STRIDES = 3

# Known places are compared with all others on a grid of at most this area.
_SIDE = 64

# How far below the likeness of the known places among themselves a place is fully alike, and not at all. By
# tests/benchmarks/hints.py and strokes.py.
_ALIKE, _UNLIKE = 0.4, 0.8


@dataclass(frozen=True)
class Likeness:
    """
    How the places of a photo resemble those whose colors are known.

    Args:
        places (`torch.Tensor` of shape `(rows, columns)`): From 0, like none of them, to 1; `float32` on the CPU.
        among (`float`): How much the known places resemble each other, in `[-1, 1]`; 1 for a lone one.
        cells (`torch.Tensor` of shape `(known,)`): Which places are known, counted along the rows; `int64`.
        cosines (`torch.Tensor` of shape `(rows * columns, known)`): How much each place resembles these, as
            [`similarity`] tells it.
        luma (`torch.Tensor` of shape `(rows * columns,)`): In `[0, 1]`.
    """

    places: torch.Tensor
    among: float
    cells: torch.Tensor
    cosines: torch.Tensor
    luma: torch.Tensor


@torch.no_grad()
def find_likeness(pipeline: DiffusionPipeline, luma: torch.Tensor, known: KnownColors) -> Likeness | None:
    """
    Find what looks like any of the places of a photo whose colors are known.

    What counts as alike is told by the known places: each by the one of the others that it resembles most. The pixels
    of a stroke resemble each other closely, and so must what takes their color; points all over a photo have little
    in common, and each stands for all that is nearest to it.

    Args:
        pipeline (`ColorizationPipeline`): Its image encoder and its image processor are used.
        luma (`torch.Tensor` of shape `(height, width)`): Codes of the photo.
        known (`KnownColors`): Pixels of it.

    Returns:
        `Likeness`, or `None` without an image encoder.
    """
    if pipeline.image_encoder is None:
        return None
    grid = limit_area(tuple(luma.shape), _SIDE)
    is_known = gather_cells(known, known.chroma, tuple(luma.shape), grid)[-1]
    cells = is_known.flatten().nonzero()[:, 0]
    features, luminance = describe_places(pipeline, luma, grid)
    cosines = similarity(features, features)[:, cells]  # (P, N)
    among = cosines[cells].fill_diagonal_(-1) if len(cells) > 1 else torch.ones(1, 1)
    typical = float(among.amax(dim=1).median())
    places = smooth_share(cosines.amax(dim=1) - typical, -_UNLIKE, -_ALIKE).view(grid)
    return Likeness(places, typical, cells, cosines, (luminance + 1) / 2)


def describe_places(
    pipeline: DiffusionPipeline, luma: torch.Tensor, grid: tuple[int, int]
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """
    Show a gray photo to the image encoder.

    Args:
        pipeline (`ColorizationPipeline`), luma (`torch.Tensor` of shape `(height, width)`): As in [`find_likeness`].
        grid (`tuple`): `(rows, columns)` of the places.

    Returns:
        `tuple`: features `(channels, places)` of each stride, and luminance `(places)` in `[-1, 1]`; on the CPU.
    """
    luminance = pipeline.image_processor.preprocess_for_encoder(luma, _RESOLUTION)[None]  # (1, 1, h, w)
    states = encoder_states(pipeline.image_encoder, luminance.to(pipeline._execution_device), _STRIDES)[:-1]
    features = [F.interpolate(state.cpu(), size=grid, mode="bilinear")[0].flatten(1) for state in states]
    return features, F.interpolate(luminance, size=grid, mode="area").flatten()


def similarity(features: list[torch.Tensor], others: list[torch.Tensor]) -> torch.Tensor:
    """
    Compare all places with all others, by the cosine of their features without what is common to all of them.

    Args:
        features (`list` of `torch.Tensor` of shape `(channels, P)`), others (`list` of `torch.Tensor` of shape
            `(channels, R)`): As [`describe_places`] gives them.

    Returns:
        `torch.Tensor` of shape `(P, R)`: the means over all strides, in `[-1, 1]`.
    """
    cosines = []
    for one, other in zip(features, others, strict=True):
        common = (one.mean(dim=1, keepdim=True) + other.mean(dim=1, keepdim=True)) / 2
        cosines.append(F.normalize(one - common, dim=0).T @ F.normalize(other - common, dim=0))
    return torch.stack(cosines).mean(dim=0)


def smooth_share(values: torch.Tensor, none: float, full: float) -> torch.Tensor:
    """Give 0 where values are at most `none`, 1 where they are at least `full`, without a bend at either."""
    share = ((values - none) / (full - none)).clamp(0, 1)
    return share.square() * (3 - 2 * share)


def limit_area(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Give a size of the same aspect with at most the area of a square."""
    scale = min(1.0, side / math.sqrt(size[0] * size[1]))
    rows, columns = (max(1, int(length * scale)) for length in size)
    rows = min(rows, max(1, side**2 // columns))  # of a line of pixels one side is more than its share
    return rows, min(columns, max(1, side**2 // rows))
