"""
Hints are law: what the network painted is brought to the colors that the user knows, at full size.

Each known color is spread over what it lies on: weights fall with the way from the known pixels, and with every
difference of luma on that way, so that a color stays on its side of an edge. Where the weights are high the known
colors replace the painted ones, as far as the place looks like one that is known; where they vanish nothing changes,
and at the known pixels themselves the color is the one that was asked for.

Source: normalized convolution with recursive filters whose feedback the edges weaken, as in Gastal and Oliveira 2011
(Domain transform for edge-aware image and video processing), sections 4 and 6, which spreads strokes so.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from .color import gain_for_colorfulness, resize_matrix
from .hints import KnownColors, gather_cells
from .likeness import Likeness


# Colors are spread on a grid of about as many cells: edges are found to a pixel in small photos, and in large ones
# finer than color is seen.
_GRID_CELLS = 300_000

# A weight falls by e over this share of the photo's side (the root of its area), and over this difference of luma.
# Chosen, with the next ones, for photos at which 10 true points help the whole photo most while strokes move what lies
# outside of their thing by less than 1 (CIEDE2000).
_REACH = 0.07
_CONTRAST = 0.02

# So many such falls away from the pixel half of the color is a known one. What the smallest weight adds up to is far
# below: where no color gets to, nothing changes.
_FALLS = 8

# By this difference of luma to the pixels that a color comes from, its share falls to 0.6 (as a Gaussian does): a
# color that got around an edge through a gap is on another thing all the same.
_OTHER_LUMA = 0.15

# What the wide spreading leaves at the known pixels (two of them near each other, of different colors) is spread
# once more, near them only.
_NEAR_REACH = 0.004
_NEAR_HALF_WEIGHT = 0.02

# Grain is no edge: it goes by the median of so many cells a side, which keeps edges, and so do differences of luma up
# to so many of their medians (where most are 0, half a step of 8 bit: what medians leave of grain is such steps).
_MEDIAN_SIDE = 5
_GRAIN = 2.5
_LEAST_GRAIN = 0.5 / 255

# Rows and columns are gone through twice, so that a color also gets around corners.
_PASSES = 2

# Keeps weights above the smallest floats, with which processors are slow; far below any weight that counts. What is
# averaged is kept so, too, by still less.
_TINY, _TINY_VALUE = 1e-25, 1e-29


def finish_chroma(
    luma: torch.Tensor,
    chroma: torch.Tensor,
    known: KnownColors | None,
    saturation: float,
    target_colorfulness: float | None,
    likeness: Likeness | None = None,
) -> torch.Tensor:
    """
    Give painted chroma the strength that the user wants, and known pixels their colors, which no strength changes.

    Args:
        luma (`torch.Tensor` of shape `(height, width)`): The photo's codes.
        chroma (`torch.Tensor` of shape `(2, rows, columns)`): What was painted, in `[-0.5, 0.5]`.
        known (`KnownColors` or `None`): Colors that exist at their pixels, as [`fit_to_gamut`] gives them.
        saturation (`float`): Factor for the painted chroma.
        target_colorfulness (`float` or `None`): Chooses that factor.
        likeness (`Likeness`, *optional*): As [`find_likeness`] gives it.

    Returns:
        `torch.Tensor`: Cb and Cr to be joined with the photo: of shape `(2, rows, columns)`, or with known colors
        `(2, height, width)`.
    """
    spread = None
    if known is not None:
        spread, chroma = _spread_colors(luma, chroma, known, likeness)
    gain = saturation
    if target_colorfulness is not None:
        gain = gain_for_colorfulness(luma, chroma, target_colorfulness, spread)
    chroma = gain * chroma
    if known is None:
        return chroma
    chroma = chroma + spread
    if chroma.shape[1:] != luma.shape:
        chroma = F.interpolate(chroma[None], size=luma.shape, mode="bilinear")[0]
    chroma[:, known.rows, known.columns] = known.chroma
    return chroma


def _spread_colors(
    luma: torch.Tensor, chroma: torch.Tensor, known: KnownColors, likeness: Likeness | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the known colors as they spread, and what is left of the painted ones; their sum is the photo's chroma."""
    shrink = min(1.0, math.sqrt(_GRID_CELLS / luma.numel()))
    size = tuple(max(1, round(side * shrink)) for side in luma.shape)
    guide = luma.float()[None, None] / torch.iinfo(luma.dtype).max
    if size != tuple(luma.shape):
        guide = F.interpolate(guide, size=size, mode="area")
    guide = _without_grain(guide)  # (h, w)
    painted = resize_matrix(chroma.shape[1], size[0]) @ chroma @ resize_matrix(chroma.shape[2], size[1]).T
    cells = gather_cells(known, known.chroma, tuple(luma.shape), size)
    asked, mask = cells[:2], cells[2]  # (2, h, w), (h, w)

    side = math.sqrt(guide.numel())
    edges = _edges(guide)
    values = torch.cat((asked, guide[None]))
    spread, share = _spread(values, mask, _falls(edges, _REACH * side), math.exp(-_FALLS))
    unlike = (spread[2] / share - guide) / _OTHER_LUMA  # than where the color comes from
    alike = torch.exp(-unlike.square() / 2)
    if likeness is not None:
        alike = alike * F.interpolate(likeness.places[None, None], size=size, mode="bilinear")[0, 0]
    spread, share = alike * spread[:2], alike * share
    painted = (1 - share) * painted
    left = torch.stack((asked - spread, -painted))  # (2, 2, h, w)
    corrections, _ = _spread(left, mask, _falls(edges, _NEAR_REACH * side), _NEAR_HALF_WEIGHT)
    return spread + corrections[0], painted + corrections[1]


def _without_grain(guide: torch.Tensor) -> torch.Tensor:
    """Give `(1, 1, h, w)` as `(h, w)` of the medians around each cell."""
    padded = F.pad(guide, (_MEDIAN_SIDE // 2,) * 4, mode="replicate")[0, 0]
    windows = padded.unfold(0, _MEDIAN_SIDE, 1).unfold(1, _MEDIAN_SIDE, 1)  # (h, w, side, side)
    return windows.flatten(2).median(dim=2).values


def _edges(guide: torch.Tensor) -> list[torch.Tensor]:
    """Give by how many e a weight falls over the edges from each cell to the next: `(h - 1, w)` down, `(w - 1, h)`."""
    differences = [(plane[1:] - plane[:-1]).abs() for plane in (guide, guide.T)]
    grain = _LEAST_GRAIN
    if guide.numel() > 1:
        median = torch.cat([difference.flatten() for difference in differences]).median()
        grain = max(_GRAIN * float(median), grain)
    return [(difference - grain).clamp(min=0) / _CONTRAST for difference in differences]


def _falls(edges: list[torch.Tensor], reach: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the factor by which a weight falls from each cell to the next, down and across."""
    down, across = (torch.exp(-(1 / max(reach, 1.0) + edge)) for edge in edges)
    return down, across


def _spread(
    values: torch.Tensor,
    mask: torch.Tensor,
    falls: tuple[torch.Tensor, torch.Tensor],
    half_weight: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Average what is known by its weights at each cell.

    Args:
        values (`torch.Tensor` of shape `(..., h, w)`): What is known, where `mask` is 1.
        mask (`torch.Tensor` of shape `(h, w)`): Where it is.
        falls (`tuple`): As [`_falls`] gives them.
        half_weight (`float`): Where weights are this, the share is a half.

    Returns:
        `tuple`: averages `(..., h, w)`, which go to 0 where the weights do, and the share `(h, w)` of what is known.
    """
    # A pixel of a stroke counts less than a lone one, so that each has about the same say at its place.
    weights = mask / _diffuse(mask[None] + _TINY, falls)[0].clamp(min=1)
    planes = torch.cat((weights[None] + _TINY, weights * values.flatten(end_dim=-3) + _TINY_VALUE))
    planes = _diffuse(planes, falls)
    share = 1 / (1 + half_weight / planes[0])
    return (share * planes[1:] / planes[0]).view_as(values), share


def _diffuse(planes: torch.Tensor, falls: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Add up at each cell of `(channels, h, w)` what comes from all others, along columns and rows in turn."""
    down, across = falls
    for _ in range(_PASSES):
        planes = _sweep(planes.permute(2, 0, 1), across).permute(2, 1, 0)  # (h, C, w)
        planes = _sweep(planes, down).permute(1, 0, 2)  # (C, h, w)
    return planes


def _sweep(lines: torch.Tensor, falls: torch.Tensor) -> torch.Tensor:
    """Go through lines `(lines, channels, cells)` forth and back, and hand on to each what came before."""
    both = torch.cat((lines, lines.flip(0)), dim=1)  # (lines, 2 C, cells): both ways at once
    falls = torch.stack((falls, falls.flip(0)), dim=1)  # (lines - 1, 2, cells)
    steps = _pairs(both.unflatten(1, (2, -1)).unbind())
    for (before, line), fall in zip(steps, falls[:, :, None].unbind(), strict=True):
        line.addcmul_(before, fall)
    forth, back = both.chunk(2, dim=1)
    return forth + back.flip(0) - lines


def _pairs(lines: tuple[torch.Tensor, ...]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return zip(lines[:-1], lines[1:], strict=True)
