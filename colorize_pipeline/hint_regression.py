"""
What known colors tell about the rest of a photo: Gaussian process regression of what the network got wrong.

Where a color is known, so is the error of the painted one; and the errors at two places resemble each other the more,
the more the places look alike to the image encoder, are as bright, and were painted alike. By this covariance the
errors at the known places tell the likeliest error everywhere, which is taken off.

Source: Rasmussen and Williams 2006 (Gaussian Processes for Machine Learning), equation 2.23.
"""

import torch
import torch.nn.functional as F

from .color import resize_matrix
from .hints import KnownColors, gather_cells
from .likeness import Likeness, smooth_share


# The covariance of the errors at two places, in units of their variance, is
#   exp((cosine - 1) / _FEATURES - (difference of luma / _LUMA)^2 / 2 - distance of painted chroma / _CHROMA),
# and _NOISE more of a place with itself. (How near places are tells nothing beyond that.) Chosen on 40 photos of
# imagenet-sample that tests/benchmarks/hints.py does not take.
_FEATURES, _LUMA, _CHROMA = 1.5, 0.25, 0.12
_NOISE = 0.03

# Errors of chroma beyond this, which are one of twelve, count as this: a color so different is more often a wish for
# the thing that it lies on.
_LARGEST_ERROR = 0.12

# Known places that resemble each other so much are one thing, whose color tells nothing about other things: strokes
# reach 0.88 and more, a hundred points all over a photo 0.45 to 0.79.
_ONE_THING, _MANY_THINGS = 0.85, 0.75


def follow_known(chroma: torch.Tensor, luma: torch.Tensor, known: KnownColors, likeness: Likeness) -> torch.Tensor:
    """
    Correct painted chroma by what known colors of different things tell about the rest of the photo.

    Args:
        chroma (`torch.Tensor` of shape `(2, rows, columns)`): What was painted, in `[-0.5, 0.5]`.
        luma (`torch.Tensor` of shape `(height, width)`): The photo's codes.
        known (`KnownColors`): Pixels of it.
        likeness (`Likeness`): Of these pixels, as [`find_likeness`] gives it.

    Returns:
        `torch.Tensor` of shape `(2, rows, columns)`: in `[-0.5, 0.5]`; unchanged where all that is known is one thing.
    """
    trust = 1 - float(smooth_share(torch.tensor(likeness.among), _MANY_THINGS, _ONE_THING))
    if trust == 0:
        return chroma
    rows, columns = grid = tuple(likeness.places.shape)
    brightness = luma[known.rows, known.columns].float() / torch.iinfo(luma.dtype).max
    told = gather_cells(known, torch.cat((known.chroma, brightness[None])), tuple(luma.shape), grid)
    told = told.flatten(1)[:-1, likeness.cells]  # (3, N): asked chroma, luma
    painted = (resize_matrix(chroma.shape[1], rows) @ chroma @ resize_matrix(chroma.shape[2], columns).T).flatten(1)

    def covariance(cosines: torch.Tensor, brightness: torch.Tensor, index: torch.Tensor | slice) -> torch.Tensor:
        """Compare places with the known ones: `(places, N)`."""
        unlike = (1 - cosines) / _FEATURES + ((brightness[:, None] - told[2]) / _LUMA).square() / 2
        unlike += torch.cdist(painted[:, index].T, painted[:, likeness.cells].T) / _CHROMA
        return torch.exp(-unlike)

    among_known = covariance(likeness.cosines[likeness.cells], told[2], likeness.cells)
    among_known.diagonal().add_(_NOISE)
    errors = told[:2] - painted[:, likeness.cells]  # (2, N)
    errors *= _LARGEST_ERROR / errors.norm(dim=0).clamp(min=_LARGEST_ERROR)
    to_all = covariance(likeness.cosines, likeness.luma, slice(None))  # (P, N)
    correction = (to_all @ torch.linalg.solve(among_known, errors.T)).T.unflatten(1, grid)
    correction = F.interpolate(correction[None], size=chroma.shape[1:], mode="bilinear", antialias=True)[0]
    return (chroma + trust * correction).clamp(-0.5, 0.5)
