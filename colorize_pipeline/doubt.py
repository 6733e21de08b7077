"""How far a painted color may be from the true one, told by how much the samples of a network differ."""

import torch
import torch.nn.functional as F

from .color import chroma_to_rgb_difference, gamut_scale


# The matrix of sRGB to XYZ and its white, D65 of the 2-degree observer. Source: IEC 61966-2-1:1999.
_RGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)

# Where Lab leaves its straight line at black for the cube root. Source: CIE 15, section 8.2.1.
_DELTA = 6 / 29

_LARGE_CHROMA = 25.0**7


def expected_error(
    luma: torch.Tensor, answer: torch.Tensor, samples: torch.Tensor, scale: float, floor: float
) -> torch.Tensor:
    """
    Tell what CIEDE2000 error to expect of an answer, at each place.

    If the samples of the network were as likely as the truth is, the truth would be one more of them: then the error
    of the answer is, on average, its mean difference from the other samples. The difference from this ideal is what
    `train/calibrate_doubt.py` measures for a checkpoint.

    Args:
        luma (`torch.Tensor` of shape `(height, width)`, `uint8` or `uint16`): The photo's codes.
        answer (`torch.Tensor` of shape `(2, height, width)`): Cb and Cr of the answer, as it is joined, at any size.
        samples (`torch.Tensor` of shape `(n, 2, rows, columns)`): Cb and Cr of other samples for the same photo.
        scale (`float`), floor (`float`): Of the checkpoint: error = floor + scale * difference.

    Returns:
        `torch.Tensor` of shape `(rows, columns)`: In units of CIEDE2000, at least `floor`.
    """
    size = samples.shape[2:]
    gray = F.interpolate(luma.float()[None, None], size=size, mode="area")[0, 0]
    answer = F.interpolate(answer[None], size=size, mode="area")[0]  # itself, if it has this size
    gray = gray / torch.iinfo(luma.dtype).max  # (rows, columns)
    return floor + scale * delta_e(_to_lab(gray, answer[:, None]), _to_lab(gray, samples.movedim(0, 1))).mean(dim=0)


def rgb_to_lab(rgb: torch.Tensor) -> torch.Tensor:
    """
    Convert sRGB pixels to CIE Lab under D65.

    Args:
        rgb (`torch.Tensor` of shape `(3, ...)`, floating point): Gamma-encoded sRGB in `[0, 1]`.

    Returns:
        `torch.Tensor` of shape `(3, ...)`: `L` in `[0, 100]`, `a` and `b` in about `[-110, 100]`.
    """
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = torch.einsum("ij,j...->i...", rgb.new_tensor(_RGB_TO_XYZ), linear)
    ratio = ratio / rgb.new_tensor(_WHITE).view(3, *[1] * (rgb.ndim - 1))
    x, y, z = torch.where(ratio > _DELTA**3, ratio ** (1 / 3), ratio / (3 * _DELTA**2) + 4 / 29)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)))


def delta_e(lab: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """
    Give the CIEDE2000 difference of colors: about 1 is just noticeable side by side, above 10 is another color.

    Args:
        lab (`torch.Tensor` of shape `(3, ...)`), other (`torch.Tensor` of a shape that broadcasts with it): CIE Lab.

    Returns:
        `torch.Tensor` of shape `(...)`: At least 0.

    Source: Sharma, Wu and Dalal 2005 (The CIEDE2000 Color-Difference Formula), equations 2 to 22, all k = 1.
    """
    (light, a, b), (other_light, other_a, other_b) = lab, other
    mean_chroma = (torch.hypot(a, b) + torch.hypot(other_a, other_b)) / 2
    stretch = 1.5 - 0.5 * _saturating(mean_chroma)  # of a, so that grays differ as they look
    a, other_a = stretch * a, stretch * other_a
    chroma, other_chroma = torch.hypot(a, b), torch.hypot(other_a, other_b)
    hue, other_hue = torch.atan2(b, a).rad2deg() % 360, torch.atan2(other_b, other_a).rad2deg() % 360

    turn = other_hue - hue
    turn = torch.where(turn.abs() > 180, turn - 360 * turn.sign(), turn)  # the short way round
    colored = chroma * other_chroma > 0  # grays have no hue
    turn = torch.where(colored, turn, 0)
    hue_distance = 2 * (chroma * other_chroma).sqrt() * torch.sin(torch.deg2rad(turn / 2))
    mean_hue = torch.where(colored, hue + turn / 2, hue + other_hue)
    mean_light, mean_chroma = (light + other_light) / 2, (chroma + other_chroma) / 2

    def cosine(factor: int, degrees: float) -> torch.Tensor:
        return torch.cos(torch.deg2rad(factor * mean_hue + degrees))

    uneven = 1 - 0.17 * cosine(1, -30) + 0.24 * cosine(2, 0) + 0.32 * cosine(3, 6) - 0.2 * cosine(4, -63)
    off_middle = (mean_light - 50).square()
    light_term = (other_light - light) / (1 + 0.015 * off_middle / (20 + off_middle).sqrt())
    chroma_term = (other_chroma - chroma) / (1 + 0.045 * mean_chroma)
    hue_term = hue_distance / (1 + 0.015 * mean_chroma * uneven)
    angle = 60 * torch.exp(-(((mean_hue % 360 - 275) / 25).square()))  # of blue, where chroma and hue are not apart
    rotation = -2 * _saturating(mean_chroma) * torch.sin(torch.deg2rad(angle))
    squared = light_term**2 + chroma_term**2 + hue_term**2 + rotation * chroma_term * hue_term
    return squared.clamp(min=0).sqrt()


def _to_lab(gray: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
    """Join gray `(rows, columns)` in `[0, 1]` and chroma `(2, n, rows, columns)` to Lab `(3, n, rows, columns)`."""
    difference = chroma_to_rgb_difference(chroma)
    return rgb_to_lab((gray + difference * gamut_scale(gray, difference, 1.0)).clamp(0, 1))


def _saturating(chroma: torch.Tensor) -> torch.Tensor:
    seventh = chroma**7
    return (seventh / (seventh + _LARGE_CHROMA)).sqrt()
