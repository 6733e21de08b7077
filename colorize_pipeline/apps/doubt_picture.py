"""The photo, tinted where its colors are a guess, with a legend in words: `--doubt` writes it, the page shows it."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from colorize_pipeline.apps.photo import round_to_eight_bit
from colorize_pipeline.color import join


# Doubt is coarse: no picture need be larger, and a legend needs some room.
_LONGEST_SIDE, _LEAST_WIDTH = 1600, 480

# Tints at errors of 0, 10 and 20 and above, in units of CIEDE2000, as (Cb, Cr): gray, yellow, red. Who cannot tell the
# two last apart still sees how strong they are.
_STEP = 10
_TINTS = torch.tensor([(0.0, 0.0), (-0.22, 0.06), (-0.08, 0.34)])
# The photo is shown within these codes, where every tint fits into RGB.
_DARKEST, _BRIGHTEST = 70, 200
_MIDDLE_GRAY = torch.tensor([[(_DARKEST + _BRIGHTEST) // 2]], dtype=torch.uint8)
_MOST = _STEP * (len(_TINTS) - 1)

DOUBT_TITLE = "How far the colors may be from the true ones"
DOUBT_NOTE = "in dE00: 2 is hardly seen, from 10 on it is another color"


def draw_doubt(luma: torch.Tensor, doubt: torch.Tensor) -> Image.Image:
    """
    Draw a map of doubt over its photo.

    Args:
        luma (`torch.Tensor` of shape `(height, width)`, `uint8` or `uint16`): The photo's codes.
        doubt (`torch.Tensor` of shape `(rows, columns)`): The error to expect, in units of CIEDE2000.

    Returns:
        `PIL.Image.Image`: In mode RGB; the photo at up to 1600 pixels a side, the legend below.
    """
    photo = tint_photo(luma, doubt)
    legend = _draw_legend(max(_LEAST_WIDTH, photo.width))
    picture = Image.new("RGB", (legend.width, photo.height + legend.height), "white")
    picture.paste(photo, ((legend.width - photo.width) // 2, 0))
    picture.paste(legend, (0, photo.height))
    return picture


def tint_photo(luma: torch.Tensor, doubt: torch.Tensor) -> Image.Image:
    """Draw the photo alone, as [`draw_doubt`] does, without the legend."""
    height, width = luma.shape
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    gray = np.asarray(Image.fromarray(round_to_eight_bit(luma.numpy())).resize(size, Image.Resampling.BOX))
    gray = _DARKEST + gray * ((_BRIGHTEST - _DARKEST) / 255)
    return Image.fromarray(join(torch.from_numpy(gray.round().astype(np.uint8)), _tint(doubt)).numpy())


def legend_steps() -> list[tuple[str, str]]:
    """Give words of the legend, and the color `#rrggbb` at each, at equal distances from sure to guess."""
    steps = []
    for error in range(0, _MOST + 1, _STEP // 2):
        word = {0: "0 sure", _MOST: f"a guess {_MOST}+"}.get(error, str(error))
        red, green, blue = join(_MIDDLE_GRAY, _tint(torch.tensor([[float(error)]])))[0, 0].tolist()
        steps.append((word, f"#{red:02x}{green:02x}{blue:02x}"))
    return steps


def _tint(doubt: torch.Tensor) -> torch.Tensor:
    """Give the chroma `(2, rows, columns)` that stands for doubt `(rows, columns)`."""
    position = (doubt / _STEP).clamp(0, len(_TINTS) - 1)
    below = position.long().clamp(max=len(_TINTS) - 2)
    part = (position - below)[..., None]
    return (_TINTS[below] * (1 - part) + _TINTS[below + 1] * part).movedim(-1, 0)


def _draw_legend(width: int) -> Image.Image:
    unit = max(12, width // 45)  # height of the letters
    font = ImageFont.load_default(unit)
    legend = Image.new("RGB", (width, 7 * unit), "white")
    draw = ImageDraw.Draw(legend)
    draw.text((unit, unit // 2), DOUBT_TITLE, "black", font)
    bar_width = width - 2 * unit
    errors = torch.linspace(0, _MOST, bar_width)[None]  # (1, bar_width)
    bar = join(_MIDDLE_GRAY.expand(unit, bar_width), _tint(errors))
    legend.paste(Image.fromarray(bar.numpy()), (unit, 2 * unit))
    steps = legend_steps()
    for number, (word, _) in enumerate(steps):
        x = unit + bar_width * number / (len(steps) - 1)
        anchor = {0: "la", len(steps) - 1: "ra"}.get(number, "ma")
        draw.text((x, 3 * unit + unit // 3), word, "black", font, anchor)
    draw.text((unit, 5 * unit), DOUBT_NOTE, "dimgray", font)
    return legend
