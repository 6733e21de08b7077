"""How far colorized photos are from the true ones. Needs scikit-image: `pip install colorize-pipeline[train]`."""

from dataclasses import dataclass

import numpy as np
import torch
from skimage.metrics import structural_similarity

from .color import colorfulness
from .doubt import delta_e, rgb_to_lab


# Side of the window of SSIM in pixels: 11 are what Gaussian weights of deviation 1.5 cover in scikit-image.
SSIM_WINDOW = 11

# Largest error of (a, b) on the curve of Zhang et al.
_LARGEST_AB_ERROR = 150


@dataclass(frozen=True)
class ColorScores:
    """
    One colorized photo against the true one.

    Args:
        delta_e (`float`): Mean CIEDE2000 over the pixels; 0 is equal.
        auc (`float`): Area under the curve of the share of pixels whose (a, b) is within a distance, in percent.
        psnr (`float`): Peak signal-to-noise ratio of RGB, in dB; infinite for equal photos.
        ssim (`float`): Mean structural similarity of the three channels, at most 1. Equal gray alone makes it high.
        colorfulness (`float`): Of the colorized photo (Hasler and Suesstrunk).
        true_colorfulness (`float`): Of the true photo.
    """

    delta_e: float
    auc: float
    psnr: float
    ssim: float
    colorfulness: float
    true_colorfulness: float


def score_colors(colorized: np.ndarray, truth: np.ndarray) -> ColorScores:
    """
    Compare a colorized photo with the true one.

    Args:
        colorized (`np.ndarray` of shape `(height, width, 3)`, `uint8`): sRGB codes, at least 11 pixels a side.
        truth (`np.ndarray` of the same shape and type): sRGB codes.

    Source: SSIM with the Gaussian window of Wang et al. 2004.
    """
    return ColorScores(
        delta_e=mean_delta_e(colorized, truth),
        auc=ab_auc(colorized, truth),
        psnr=psnr(colorized, truth),
        ssim=float(
            structural_similarity(
                colorized, truth, gaussian_weights=True, use_sample_covariance=False, channel_axis=-1, data_range=255
            )
        ),
        colorfulness=_colorfulness(colorized),
        true_colorfulness=_colorfulness(truth),
    )


def mean_delta_e(image: np.ndarray, other: np.ndarray) -> float:
    """Give the CIEDE2000 difference of 8-bit sRGB images of equal shape, averaged over the pixels."""
    return float(pixel_delta_e(image, other).mean())


def pixel_delta_e(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Give the CIEDE2000 difference of 8-bit sRGB images `(height, width, 3)` at each pixel, `(height, width)`."""
    return delta_e(_to_lab(other), _to_lab(image)).numpy()


def ab_auc(image: np.ndarray, truth: np.ndarray) -> float:
    """
    Give the area under the curve of (a, b) errors of 8-bit sRGB images of equal shape, in percent.

    The curve is the share of pixels whose distance in the (a, b) plane of Lab is at most a threshold, for thresholds
    from 0 to 150. A pixel at distance d counts for the part of the thresholds above d, so the area is a mean.

    Source: Zhang, Isola and Efros 2016 (Colorful Image Colorization), section 3.1, "raw accuracy (AuC)".
    """
    distance = torch.hypot(*(_to_lab(image) - _to_lab(truth))[1:])
    return float(100 * (1 - distance.clamp(max=_LARGEST_AB_ERROR).mean() / _LARGEST_AB_ERROR))


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Give the peak signal-to-noise ratio in dB of 8-bit images of equal shape."""
    squared_error = np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / squared_error)) if squared_error else float("inf")


def frechet_distance(features: torch.Tensor, other: torch.Tensor) -> float:
    """
    Give the squared Fréchet distance of two sets of features, each taken for a Gaussian.

    It is the FID where the features are those of the InceptionV3 of 2015.

    Args:
        features (`torch.Tensor` of shape `(n, D)`): At least 2 rows. The distance is biased upwards, the more so the
            fewer rows: compare only values of equal numbers.
        other (`torch.Tensor` of shape `(m, D)`): Likewise.

    Source: Heusel et al. 2017, |mu - mu'|^2 + tr(S + S' - 2 (S S')^(1/2)). With S = A^T A and S' = B^T B the last
    trace is the sum of the singular values of A B^T, which needs no root of a singular matrix.
    """
    shapes = tuple(features.shape), tuple(other.shape)
    if any(len(shape) != 2 or shape[0] < 2 for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise ValueError(f"`features` and `other` must be at least 2 rows of equal length, but got {shapes}.")
    (mean, root), (other_mean, other_root) = _gaussian_of(features), _gaussian_of(other)
    traces = root.square().sum() + other_root.square().sum() - 2 * torch.linalg.svdvals(root @ other_root.T).sum()
    return max(0.0, ((mean - other_mean).square().sum() + traces).item())


def _gaussian_of(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the mean `(D,)` and a matrix A with at most D rows such that A^T A is the covariance."""
    mean = features.double().mean(dim=0)
    deviations = (features.double() - mean) / (len(features) - 1) ** 0.5
    return mean, torch.linalg.qr(deviations, mode="r").R


def _to_lab(rgb: np.ndarray) -> torch.Tensor:
    return rgb_to_lab(torch.tensor(rgb).movedim(-1, 0).double() / 255)


def _colorfulness(rgb: np.ndarray) -> float:
    return colorfulness(torch.tensor(rgb).permute(2, 0, 1).float() / 255)
