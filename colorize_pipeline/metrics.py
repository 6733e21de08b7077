"""How far colorized photos are from the true ones. Needs scikit-image: `pip install colorize-pipeline[train]`."""

from dataclasses import dataclass

import numpy as np
import torch
from skimage.color import deltaE_ciede2000, rgb2lab

from .color import colorfulness


@dataclass(frozen=True)
class ColorScores:
    """
    One colorized photo against the true one.

    Args:
        delta_e (`float`): Mean CIEDE2000 over the pixels; 0 is equal, 2.3 about the least that is noticed.
        psnr (`float`): Peak signal-to-noise ratio of RGB, in dB; infinite for equal photos.
        colorfulness (`float`): Of the colorized photo (Hasler and Suesstrunk).
        true_colorfulness (`float`): Of the true photo.
    """

    delta_e: float
    psnr: float
    colorfulness: float
    true_colorfulness: float


def score_colors(colorized: np.ndarray, truth: np.ndarray) -> ColorScores:
    """
    Compare a colorized photo with the true one.

    Args:
        colorized (`np.ndarray` of shape `(height, width, 3)`, `uint8`): sRGB codes.
        truth (`np.ndarray` of the same shape and type): sRGB codes.

    Source: CIEDE2000 and Lab (D65, 2 degrees) as in scikit-image.
    """
    difference = deltaE_ciede2000(rgb2lab(truth), rgb2lab(colorized))
    return ColorScores(
        delta_e=float(difference.mean()),
        psnr=psnr(colorized, truth),
        colorfulness=_colorfulness(colorized),
        true_colorfulness=_colorfulness(truth),
    )


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Give the peak signal-to-noise ratio in dB of 8-bit images of equal shape."""
    squared_error = np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / squared_error)) if squared_error else float("inf")


def _colorfulness(rgb: np.ndarray) -> float:
    return colorfulness(torch.tensor(rgb).permute(2, 0, 1).float() / 255)
