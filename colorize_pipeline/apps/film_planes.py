"""Luma and chroma as video has them: several matrices, two ranges, 8 to 16 bit, chroma at full size or at half."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from colorize_pipeline.color import chroma_to_rgb_difference, gamut_scale, resize_matrix, rgb_to_luma


if TYPE_CHECKING:
    import av


# Numbers of ITU-T H.273: matrix coefficients, of which those for 601 have two, primaries and transfer of BT.709.
BT709, BT601_PAL, BT601, BT2020 = 1, 5, 6, 9
LIMITED_RANGE, FULL_RANGE = 1, 2
UNSPECIFIED = 2
# Source: ITU-R BT.601-7, BT.709-6, BT.2020-2: weights of red and blue in luma.
_WEIGHTS = {BT601: (0.299, 0.114), BT601_PAL: (0.299, 0.114), BT709: (0.2126, 0.0722), BT2020: (0.2627, 0.0593)}
# Formats whose first plane holds luma and nothing else.
_LUMA_FIRST = re.compile(r"(yuvj?a?4\d\dp|gray)(9|10|12|14|16)?(le)?|nv(12|16|21|24)")
# Lines of standard definition; above, video that does not say is BT.709.
_SD_LINES = 576


@dataclass(frozen=True)
class Space:
    """
    How codes stand for light.

    Args:
        matrix (`int`), primaries (`int`), transfer (`int`): Numbers of ITU-T H.273.
        full_range (`bool`): Whether luma goes from 0 to the largest code, or from 16 to 235 (at 8 bit).
        bits (`int`): Of a code.
    """

    matrix: int
    primaries: int
    transfer: int
    full_range: bool
    bits: int

    @property
    def black(self) -> float:
        return 0.0 if self.full_range else float(16 << self.bits - 8)

    @property
    def white(self) -> float:
        return float((1 << self.bits) - 1) if self.full_range else float(235 << self.bits - 8)


def space_of(frame: "av.VideoFrame") -> Space:
    """Tell how the codes of a frame are meant; where it does not say, as players take it."""
    name = frame.format.name
    components = frame.format.components
    is_rgb = not _LUMA_FIRST.fullmatch(name) and (frame.format.is_rgb or frame.format.has_palette)
    bits = max(8, components[0].bits)
    # Gray that does not say is full range in FFmpeg, and so is what it calls yuvj.
    is_full = is_rgb or name.startswith(("yuvj", "mono")) or (name.startswith("gray") and frame.color_range == 0)
    matrix = int(frame.colorspace)
    if is_rgb:
        matrix = BT601  # its luma is made with these weights
    elif matrix not in _WEIGHTS:
        matrix = BT601 if frame.height <= _SD_LINES else BT709
    known = (value if value not in (0, UNSPECIFIED) else BT709 for value in (frame.color_primaries, frame.color_trc))
    primaries, transfer = (int(value) for value in known)
    return Space(matrix, primaries, transfer, is_full or frame.color_range == FULL_RANGE, bits)


def read_luma(frame: "av.VideoFrame", space: Space) -> np.ndarray:
    """
    Take the luma of a frame, code for code where it has one.

    Returns:
        `np.ndarray` of shape `(height, width)`: `uint8`, or `uint16` for more than 8 bit; a copy.
    """
    if _LUMA_FIRST.fullmatch(frame.format.name) is None:
        if frame.format.is_rgb or frame.format.has_palette:
            rgb = frame.to_ndarray(format="rgb24" if space.bits == 8 else "rgb48le")
            luma = rgb_to_luma(torch.from_numpy(rgb)).numpy()
            return luma if space.bits in (8, 16) else luma >> 16 - space.bits
        depth = "" if space.bits == 8 else f"{space.bits}le"
        frame = frame.reformat(format=f"gray{depth}" if frame.format.name.startswith("mono") else f"yuv444p{depth}")
    plane = frame.planes[0]
    codes = np.frombuffer(plane, np.uint8 if space.bits == 8 else "<u2")
    codes = codes.reshape(-1, plane.line_size // codes.itemsize)
    return codes[: frame.height, : frame.width].copy()


def to_full_eight_bit(luma: np.ndarray, space: Space) -> np.ndarray:
    """Give the gray that is painted: `uint8`, 0 black and 255 white."""
    if space.full_range and space.bits == 8:
        return luma
    gray = (luma.astype(np.float32) - space.black) * (255 / (space.white - space.black))
    return gray.round().clip(0, 255).astype(np.uint8)


def change_depth(luma: np.ndarray, space: Space, bits: int) -> np.ndarray:
    """Bring luma to another number of bits; to more of them in limited range exactly."""
    if bits == space.bits:
        return luma
    if space.full_range:
        codes = luma.astype(np.float64) * (((1 << bits) - 1) / space.white)
    else:
        codes = luma.astype(np.float64) * 2.0 ** (bits - space.bits)
    return (codes + 0.5).clip(0, (1 << bits) - 1).astype(np.uint8 if bits == 8 else np.uint16)


def chroma_planes(luma: np.ndarray, chroma: torch.Tensor, space: Space, half_size: bool) -> tuple[np.ndarray, ...]:
    """
    Give the chroma planes that belong to a luma plane, as codes.

    Luma is not touched. Chroma is brought nearer to gray where the color would leave RGB, in the matrix of the video:
    the color difference of the painting is kept but for the part along luma, which the matrix weighs otherwise.

    Args:
        luma (`np.ndarray` of shape `(height, width)`): Codes in `space`.
        chroma (`torch.Tensor` of shape `(2, rows, columns)`): Cb and Cr of BT.601 in `[-0.5, 0.5]`, at any size.
        space (`Space`): Of the result.
        half_size (`bool`): Give 4:2:0 instead of 4:4:4.

    Returns:
        `tuple` of `np.ndarray`: Cb and Cr, of the type of `luma`.
    """
    height, width = luma.shape
    red, blue = _WEIGHTS[space.matrix]
    gray = (torch.from_numpy(luma.astype(np.float32)) - space.black) / (space.white - space.black)
    gray = gray.clamp(0, 1)
    wide = resize_matrix(chroma.shape[1], height) @ chroma @ resize_matrix(chroma.shape[2], width).T
    difference = chroma_to_rgb_difference(wide)  # (3, H, W)
    if space.matrix not in (BT601, BT601_PAL):
        green = 1 - red - blue
        difference = difference - (red * difference[0] + green * difference[1] + blue * difference[2])
    scale = gamut_scale(gray, difference, 1.0)
    planes = torch.stack((difference[2] / (2 * (1 - blue)), difference[0] / (2 * (1 - red)))) * scale
    if half_size:
        planes = F.avg_pool2d(planes[None], 2, ceil_mode=True)[0]
    span = (1 << space.bits) - 1 if space.full_range else 224 << space.bits - 8
    codes = (planes * span + (1 << space.bits - 1)).round().clamp(0, (1 << space.bits) - 1)
    return tuple(codes.numpy().astype(luma.dtype))
