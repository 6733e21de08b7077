"""
Luma and chroma: the arithmetic of the package, in pure torch functions.

A photo is split into a luma plane Y', which is never generated, and two chroma planes Cb and Cr, which are. The space
is ITU-R BT.601 in full range, the one inside JPEG files (Source: ITU-T T.871, section 7). The three luma weights are
those of Pillow's `convert("L")`, in units of 1/65536, so that anyone can check with that one call that gray is kept.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F


# Source: Pillow, libImaging/Convert.c, macro L24: L = (19595 R + 38470 G + 7471 B + 32768) >> 16.
LUMA_CODES = (19595, 38470, 7471)
LUMA_WEIGHTS = tuple(code / 65536 for code in LUMA_CODES)
_K_R, _K_G, _K_B = LUMA_WEIGHTS

# Chroma planes are joined with the photo in blocks of about this many pixels, whose float32 temporaries fit a cache:
# with sixteen times as many it takes a fifth longer, on one core.
_PIXELS_PER_BLOCK = 1 << 16

# Colorfulness is matched on a copy of this longest side, by a factor in [0, 4] or, for pale paintings, in an octave
# above it, in 12 halvings (to 0.001, or a part in 4096). After the last octave, all but gray is at the end of RGB.
_COLORFULNESS_SIDE = 256
_FIRST_CHROMA_GAIN = 4.0
_MAX_CHROMA_GAIN = 256.0
_BISECTIONS = 12


def rgb_to_luma(rgb: torch.Tensor) -> torch.Tensor:
    """
    Compute the gray of integer RGB pixels, exactly as Pillow's `convert("L")` does, at 8 or 16 bit.

    Args:
        rgb (`torch.Tensor` of shape `(height, width, 3)`, `uint8` or `uint16`):
            Gamma-encoded RGB codes.

    Returns:
        `torch.Tensor` of shape `(height, width)`, same dtype:
            Luma codes, rounded half up.
    """
    luma = torch.empty(rgb.shape[:2], dtype=rgb.dtype)  # (H, W)
    for rows in _row_blocks(*rgb.shape[:2]):
        codes = rgb[rows].to(torch.int64)
        luma[rows] = ((codes * torch.tensor(LUMA_CODES)).sum(dim=-1) + 32768 >> 16).to(rgb.dtype)
    return luma


def rgb_to_chroma(rgb: torch.Tensor) -> torch.Tensor:
    """
    Compute the two chroma planes of RGB images.

    Args:
        rgb (`torch.Tensor` of shape `(batch_size, 3, height, width)`, floating point):
            Gamma-encoded RGB in `[0, 1]`.

    Returns:
        `torch.Tensor` of shape `(batch_size, 2, height, width)`:
            Cb and Cr in `[-0.5, 0.5]`; 0 is gray.

    Source: ITU-T T.871, section 7, with the luma weights above.
    """
    red, green, blue = rgb.unbind(dim=1)
    luma = _K_R * red + _K_G * green + _K_B * blue
    return torch.stack(((blue - luma) / (2 * (1 - _K_B)), (red - luma) / (2 * (1 - _K_R))), dim=1)


def chroma_to_rgb_difference(chroma: torch.Tensor) -> torch.Tensor:
    """
    Compute what chroma adds to a gray pixel: the inverse of [`rgb_to_chroma`] without its luma.

    Args:
        chroma (`torch.Tensor` of shape `(2, ...)`): Cb and Cr in `[-0.5, 0.5]`.

    Returns:
        `torch.Tensor` of shape `(3, ...)`: `R - Y'`, `G - Y'`, `B - Y'`; their luma is 0.
    """
    cb, cr = chroma
    red = 2 * (1 - _K_R) * cr
    blue = 2 * (1 - _K_B) * cb
    return torch.stack((red, -(_K_R * red + _K_B * blue) / _K_G, blue))


def gamut_scale(luma: torch.Tensor, difference: torch.Tensor, white: float) -> torch.Tensor:
    """
    Find how far each pixel may go from its gray toward its color before a channel leaves `[0, white]`.

    Args:
        luma (`torch.Tensor` of shape `(...)`): Luma in `[0, white]`.
        difference (`torch.Tensor` of shape `(3, ...)`): `R - Y'`, `G - Y'`, `B - Y'` in the same unit.
        white (`float`): The largest code.

    Returns:
        `torch.Tensor` of shape `(...)`: The factor in `[0, 1]` for `difference`. Scaling all three channels alike
        moves along a line of constant luma and constant hue in this space.
    """
    room = torch.where(difference > 0, white - luma, luma)  # (3, ...)
    # Where a difference is 0 the ratio is huge or 0/tiny = 0 at black and white, and there any color has no room.
    return (room / difference.abs().clamp(min=1e-6)).amin(dim=0).clamp(max=1)


def join(luma: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
    """
    Paint a photo: bring chroma to the size of its luma and join them so that the gray stays what it was.

    Each pixel's chroma is first scaled toward gray until it is inside RGB ([`gamut_scale`]). Then red and blue are
    rounded, and green is the integer that gives the luma back: a code of green weighs 38470 of the 65536 of a code of
    luma, so the nearest integer misses the luma by at most 19235 < 32768 and the rounded luma is the original one. Red
    and blue are off by at most half a code, green by at most 0.5 + 0.5 (K_R + K_B) / K_G = 0.852, which is also why
    no channel leaves its range: at most 0.352 of it comes before green's own rounding.

    Args:
        luma (`torch.Tensor` of shape `(height, width)`, `uint8` or `uint16`):
            The photo's gray, in codes.
        chroma (`torch.Tensor` of shape `(2, chroma_height, chroma_width)`, floating point):
            Cb and Cr, 0 = gray, at any size; resampled bicubically, in blocks of rows.

    Returns:
        `torch.Tensor` of shape `(height, width, 3)`, dtype of `luma`:
            RGB codes with `rgb_to_luma(join(luma, chroma)) == luma` everywhere.
    """
    rgb = torch.empty((*luma.shape, 3), dtype=luma.dtype)
    for rows, block in join_blocks(luma, chroma):
        rgb[rows] = block
    return rgb


def join_blocks(
    luma: torch.Tensor,
    chroma: torch.Tensor,
    adapt: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    to_codes: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
) -> Iterator[tuple[slice, torch.Tensor]]:
    """
    Do the work of [`join`] in blocks of rows, so that a large photo need not be in memory as a whole.

    Args:
        luma (`torch.Tensor`), chroma (`torch.Tensor`): As in [`join`].
        adapt (callable, *optional*):
            Called as `adapt(codes, difference)` with a block of `luma` and the `(3, rows, width)` that chroma adds to
            it, white = 1; gives the difference in another RGB space, whose gray `luma` is.
        to_codes (callable, *optional*): Takes the place of [`round_to_luma`].

    Returns:
        Iterator of `(rows, rgb)`: a slice, and the codes `(rows, width, 3)` of these rows.
    """
    height, width = luma.shape
    white = float(torch.iinfo(luma.dtype).max)
    at_full_size = chroma.shape[1:] == luma.shape
    if not at_full_size:
        vertical = resize_matrix(chroma.shape[1], height)  # (H, h)
        wide_chroma = chroma.float() @ resize_matrix(chroma.shape[2], width).T  # (2, h, W)
    for rows in _row_blocks(height, width):
        gray = luma[rows].float()  # (rows, W)
        block = chroma[:, rows].float() if at_full_size else vertical[rows] @ wide_chroma  # (2, rows, W)
        difference = chroma_to_rgb_difference(block)  # (3, rows, W)
        difference = white * (difference if adapt is None else adapt(luma[rows], difference))
        difference = difference * gamut_scale(gray, difference, white)
        offsets = (round_to_luma if to_codes is None else to_codes)(gray, difference)
        yield rows, torch.stack([(gray + offset).to(luma.dtype) for offset in offsets], dim=-1)


def round_to_luma(gray: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
    """
    Round what is added to a gray, in codes, so that its luma stays: red and blue, and then green as [`join`] says.

    Args:
        gray (`torch.Tensor` of shape `(...)`): Luma; here it makes no difference.
        difference (`torch.Tensor` of shape `(3, ...)`): `R - Y'`, `G - Y'`, `B - Y'`, whose luma is 0.
    """
    red, blue = difference[0].round(), difference[2].round()
    return torch.stack((red, -((_K_R * red + _K_B * blue) / _K_G).round(), blue))


def resize_matrix(in_size: int, out_size: int) -> torch.Tensor:
    """
    Give bicubic resampling of one axis as a matrix: `resize_matrix(h, H) @ plane @ resize_matrix(w, W).T`.

    Args:
        in_size (`int`), out_size (`int`): Number of samples before and after, at least 1.

    Returns:
        `torch.Tensor` of shape `(out_size, in_size)`: Rows sum to 1. Shrinking widens the kernel (antialias).
    """
    identity = torch.eye(in_size)[None, None]  # (1, 1, in, in)
    return F.interpolate(identity, size=(out_size, in_size), mode="bicubic", antialias=True)[0, 0]


def colorfulness(rgb: torch.Tensor) -> float:
    """
    Measure how colorful one image is.

    Args:
        rgb (`torch.Tensor` of shape `(3, height, width)`, floating point): RGB in `[0, 1]`.

    Returns:
        `float`: 0 for gray; about 15 slightly, 33 moderately, 59 quite, 109 extremely colorful.

    Source: Hasler and Süsstrunk, Measuring colourfulness in natural images, SPIE 2003, M^(3), in units of 1/255.
    """
    red, green, blue = 255 * rgb
    opponents = torch.stack((red - green, 0.5 * (red + green) - blue)).flatten(start_dim=1)  # (2, H*W)
    deviation = opponents.std(dim=1, correction=0).norm()
    return float(deviation + 0.3 * opponents.mean(dim=1).norm())


def gain_for_colorfulness(
    luma: torch.Tensor, chroma: torch.Tensor, target_colorfulness: float, fixed: torch.Tensor | None = None
) -> float:
    """
    Find the factor for chroma that gives the joined photo a colorfulness, by bisection on a small copy.

    Args:
        luma (`torch.Tensor` of shape `(height, width)`): The photo's codes.
        chroma (`torch.Tensor` of shape `(2, rows, columns)`): What the factor is for.
        target_colorfulness (`float`): What [`colorfulness`] of the photo is to be.
        fixed (`torch.Tensor` of the shape of `chroma`, *optional*): Chroma that is added whatever the factor is.
    """
    shrink = min(1.0, _COLORFULNESS_SIDE / max(luma.shape))
    size = [max(1, round(side * shrink)) for side in luma.shape]
    small = F.interpolate(luma.float()[None, None], size=size, mode="area")[0, 0].round().to(luma.dtype)
    if fixed is not None:  # as fine as the photo itself: made small once, and not for each factor
        fixed, chroma = (F.interpolate(planes[None], size=size, mode="area")[0] for planes in (fixed, chroma))

    def reached(gain: float) -> float:
        colored = gain * chroma if fixed is None else fixed + gain * chroma
        rgb = join(small, colored).permute(2, 0, 1).float() / torch.iinfo(luma.dtype).max
        return colorfulness(rgb)

    low, high = 0.0, _FIRST_CHROMA_GAIN
    while high < _MAX_CHROMA_GAIN and reached(high) < target_colorfulness:
        low, high = high, 2 * high
    for _ in range(_BISECTIONS):
        gain = (low + high) / 2
        low, high = (gain, high) if reached(gain) < target_colorfulness else (low, gain)
    return gain


def _row_blocks(height: int, width: int) -> list[slice]:
    rows = max(1, _PIXELS_PER_BLOCK // width)
    return [slice(start, min(start + rows, height)) for start in range(0, height, rows)]
