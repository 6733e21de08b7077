"""Colors that the user knows: read as pixels of the photo, and brought to what exists there."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageColor

from .color import chroma_to_rgb_difference, gamut_scale, rgb_to_chroma


# What a hue is called where it is strongest, by the angle of (Cb, Cr) in degrees; the angles are those of #ff0000,
# #ff8000, #ffff00, #00ff00, #00ffff, #0000ff, #8000ff and #ff00ff.
_STRONGEST = {
    109: "reddest", 141: "most orange", 175: "yellowest", 232: "greenest", 289: "most turquoise", 351: "bluest",
    18: "most violet", 52: "pinkest",
}  # fmt: skip

# A color is said to be out of reach if that costs it more chroma than this, about 2 units of CIEDE2000.
_SEEN_LOSS = 0.02


class HintWarning(UserWarning):
    """A color that was asked for does not exist where it was asked for."""


@dataclass(frozen=True)
class KnownColors:
    """
    Pixels of one photo whose colors are known, each once.

    Args:
        rows (`torch.Tensor` of shape `(pixels,)`), columns (`torch.Tensor` of shape `(pixels,)`): Where; `int64`.
        chroma (`torch.Tensor` of shape `(2, pixels)`): Cb and Cr in `[-0.5, 0.5]`.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    chroma: torch.Tensor


def read_hints(hints: Image.Image | list | None, photo_size: tuple[int, int]) -> KnownColors | None:
    """
    Read the colors that the user knows of one photo.

    Args:
        hints (`PIL.Image.Image`, list of points, or `None`):
            An RGBA image laid over the photo, opaque where the color is known; one of another size is stretched. Or
            points `(x, y, color)` in pixels of the photo, with `color` as `(red, green, blue)` codes or a CSS color
            such as `"#7a3b1c"`; of two points at one pixel the later counts.
        photo_size (`tuple`): `(height, width)` of the photo.

    Returns:
        `KnownColors`, or `None` if no color is known.

    Raises:
        `ValueError`: for points outside of the photo, images without alpha, and colors that cannot be read.
    """
    height, width = photo_size
    if isinstance(hints, Image.Image):
        if "A" not in hints.mode.upper():
            raise ValueError(
                f"`hints` as an image must have an alpha channel, opaque where the color is known, but its mode is"
                f" {hints.mode!r}. Paint on a transparent layer, or pass points `[(x, y, color), ...]`."
            )
        layer = hints.convert("RGBA")
        if layer.size != (width, height):
            layer = layer.resize((width, height), Image.Resampling.NEAREST)
        rgba = np.array(layer)  # (H, W, 4)
        rows, columns = np.nonzero(rgba[:, :, 3] >= 128)
        colors = torch.from_numpy(rgba[rows, columns, :3]).float() / 255  # (N, 3)
        rows, columns = torch.from_numpy(rows), torch.from_numpy(columns)
    else:
        if not isinstance(hints, (list, tuple, type(None))):
            raise ValueError(
                f"`hints` must be an image or a list of points (x, y, color), got {type(hints).__name__}."
            )
        pixels = {}
        for point in hints or ():
            try:
                x, y, color = point
                red, green, blue = ImageColor.getrgb(color)[:3] if isinstance(color, str) else color
                rgb = torch.tensor([red, green, blue], dtype=torch.float32) / 255
                inside = 0 <= x < width and 0 <= y < height and 0 <= rgb.min() and rgb.max() <= 1
            except (TypeError, ValueError) as error:
                raise ValueError(f"`hints` must hold points (x, y, color), but got {point!r}: {error}.") from error
            if not inside:
                raise ValueError(
                    f"`hints` holds the point {point!r}, but the photo is {width} x {height} pixels and colors are"
                    " codes from 0 to 255."
                )
            pixels[int(y), int(x)] = rgb
        rows, columns = torch.tensor(list(pixels), dtype=torch.int64).reshape(-1, 2).unbind(dim=1)
        colors = torch.stack(list(pixels.values())) if pixels else torch.zeros(0, 3)
    if not len(rows):
        return None
    return KnownColors(rows, columns, rgb_to_chroma(colors[:, :, None, None])[:, :, 0, 0].T)


def fit_to_gamut(known: list[KnownColors | None], lumas: list[torch.Tensor]) -> list[KnownColors | None]:
    """
    Bring each known color to the nearest of its hue that exists at the brightness of its pixel, with a `HintWarning`
    if the difference can be seen.

    Args:
        known (`list`), lumas (`list` of `torch.Tensor` of shape `(height, width)`): One for each photo.

    Returns:
        `list` of `KnownColors` or `None`: with chroma that `join` leaves as it is.
    """
    fitted, example, number = [], None, 0
    for colors, luma in zip(known, lumas, strict=True):
        if colors is None:
            fitted.append(None)
            continue
        gray = luma[colors.rows, colors.columns].float() / torch.iinfo(luma.dtype).max  # (N,)
        scale = gamut_scale(gray, chroma_to_rgb_difference(colors.chroma), 1.0)
        fitted.append(replace(colors, chroma=scale * colors.chroma))
        changed = ((1 - scale) * colors.chroma.norm(dim=0) > _SEEN_LOSS).nonzero()[:, 0]
        number += len(changed)
        if example is None and len(changed):  # of a stroke the pixel in the middle, not the one white speck
            middle = changed[scale[changed].argsort()[len(changed) // 2]]
            place = (int(colors.columns[middle]), int(colors.rows[middle]))
            example = (place, colors.chroma[:, middle], gray[middle], fitted[-1].chroma[:, middle])
    if example is not None:
        place, asked, gray, chroma = example
        rgb = (255 * (gray + chroma_to_rgb_difference(chroma))).round().clamp(0, 255).int().tolist()
        angle = float(torch.rad2deg(torch.atan2(asked[1], asked[0]))) % 360
        name = _STRONGEST[min(_STRONGEST, key=lambda hue: abs((hue - angle + 180) % 360 - 180))]
        others = f", and so at {number - 1} more" if number > 1 else ""
        warnings.warn(
            f"at pixel {place[0]}, {place[1]} the photo is too {'bright' if gray > 0.5 else 'dark'} for the color that"
            f" was asked for: at this brightness the {name} possible is #{rgb[0]:02x}{rgb[1]:02x}{rgb[2]:02x}, which"
            f" is taken{others}",
            HintWarning,
            stacklevel=4,  # whoever called the pipeline, whose call is wrapped once
        )
    return fitted


def gather_cells(
    known: KnownColors, values: torch.Tensor, photo_size: tuple[int, int], size: tuple[int, int]
) -> torch.Tensor:
    """
    Average values of known pixels in the cells of a coarser grid.

    Args:
        known (`KnownColors`): Where.
        values (`torch.Tensor` of shape `(channels, pixels)`): What.
        photo_size (`tuple`), size (`tuple`): `(height, width)` of the photo and `(rows, columns)` of the grid.

    Returns:
        `torch.Tensor` of shape `(channels + 1, rows, columns)`: The means, 0 where nothing is known, and a mask.
    """
    cells = known.rows * size[0] // photo_size[0] * size[1] + known.columns * size[1] // photo_size[1]
    sums = torch.zeros(len(values) + 1, size[0] * size[1])
    sums.index_add_(1, cells, torch.cat((values, torch.ones(1, len(cells)))))
    means = torch.cat((sums[:-1] / sums[-1:].clamp(min=1), (sums[-1:] > 0).float()))
    return means.unflatten(1, size)
