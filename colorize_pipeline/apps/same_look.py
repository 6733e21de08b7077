"""
Colors for photos of other color spaces than sRGB, for which they are made.

They are carried over, so that the photo looks as its twin in sRGB would; its gray is the luma codes of the values in
the file, and stays what it is, code for code.
"""

from collections.abc import Callable

import numpy as np
import torch

from colorize_pipeline.apps.color_space import CODES, RgbSpace, srgb, srgb_value
from colorize_pipeline.color import LUMA_CODES, LUMA_WEIGHTS, gamut_scale, round_to_luma


# L*, a*, b* near gray by X, Y and Z of white = 1, up to a factor.
_LAB_NEAR_GRAY = np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]])


def look_in_srgb(luma: torch.Tensor, space: RgbSpace) -> torch.Tensor:
    """Give the gray that a photo of another space would have in sRGB, at 16 bit."""
    tone = torch.from_numpy(_srgb_gray(space).astype(np.int32))
    looked_up = torch.empty(luma.shape, dtype=torch.uint16)
    factor = 257 if luma.dtype == torch.uint8 else 1
    for start in range(0, len(luma), 512):
        rows = slice(start, start + 512)
        looked_up[rows] = tone[luma[rows].to(torch.int32) * factor].to(torch.uint16)
    return looked_up


def carry_over(space: RgbSpace) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """
    Give the function by which [`colorize_pipeline.color.join_blocks`] paints a photo of this space.

    It takes codes of gray and what chroma adds to their look in sRGB, and gives what is to be added to the codes, so
    that the colors are the same ones.
    """
    weights = torch.tensor(LUMA_WEIGHTS)[:, None, None]
    tone = torch.from_numpy(_srgb_gray(space).astype(np.float32) / 65_535)
    light = torch.from_numpy(srgb().curves[0].astype(np.float32))
    matrix = torch.from_numpy(np.linalg.solve(space.matrix, srgb().matrix).astype(np.float32))
    # Steps of equal size in the square root of light: as fine near black as curves are steep there.
    values = [np.interp(CODES**2, np.maximum.accumulate(curve), CODES) for curve in space.curves]
    values = torch.from_numpy(np.stack(values).astype(np.float32))  # (3, 65536)

    def adapt(codes: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
        steps = codes.to(torch.int32) * (257 if codes.dtype == torch.uint8 else 1)
        gray = tone[steps]  # (rows, W)
        seen = gray + difference * gamut_scale(gray, difference, 1.0)  # (3, rows, W) in sRGB
        linear = light[(seen.clamp(0, 1) * 65_535).round().to(torch.int32)]
        linear = torch.einsum("ij,jhw->ihw", matrix, linear)
        steps = (linear.clamp(0, 1).sqrt() * 65_535).round().to(torch.int32)
        stored = torch.stack([table[channel] for table, channel in zip(values, steps, strict=True)])
        # What looks the same has another luma in each space, and gives way to the gray. (To go along the gray is as
        # good as the shortest way in CIELAB, within 0.03.)
        return stored - (weights * stored).sum(dim=0)

    return adapt


def round_as_seen(space: RgbSpace) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """
    Give the function by which [`colorize_pipeline.color.join_blocks`] rounds colors of this space to 8 bit.

    Of the codes beside each channel it takes those that look nearest (in CIELAB) and have the luma. What a step of a
    channel does to CIELAB is taken from gray, where its proportions are the same at any brightness.
    """
    steps = _LAB_NEAR_GRAY @ (space.matrix / space.matrix.sum(axis=1, keepdims=True))
    (rr, rg, rb), (_, gg, gb), (_, _, bb) = (steps.T @ steps).tolist()
    red, green, blue = LUMA_CODES

    def to_codes(gray: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
        best = round_to_luma(gray, difference)  # inside RGB, whatever the others are
        least = torch.full_like(gray, torch.inf)
        low = torch.maximum(difference.floor(), -gray)
        high = torch.minimum(low + 1, 255 - gray)
        for choice in np.ndindex(2, 2, 2):
            codes = torch.stack([(low, high)[side][channel] for channel, side in enumerate(choice)])
            luma = red * codes[0] + green * codes[1] + blue * codes[2]  # exact in float32: below 2^24
            r, g, b = codes - difference
            far = r * (rr * r + 2 * rg * g + 2 * rb * b) + g * (gg * g + 2 * gb * b) + bb * b * b
            nearer = (luma >= -32_768) & (luma < 32_768) & (far < least)
            least, best = torch.where(nearer, far, least), torch.where(nearer, codes, best)
        return best

    return to_codes


def _srgb_gray(space: RgbSpace) -> np.ndarray:
    """The gray of sRGB that looks as each gray of a space does, `(65536,)` of type `uint16`."""
    return np.rint(np.clip(srgb_value(space.gray_light()), 0, 1) * 65_535).astype(np.uint16)
