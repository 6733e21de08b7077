"""The colors of a reference photo, carried over to what looks like the same thing in a gray one. Needs no training."""

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from PIL import Image

from .color import rgb_to_chroma, rgb_to_luma
from .likeness import describe_places, limit_area, similarity, smooth_share


# All numbers by tests/benchmarks/reference.py. Places are compared on grids of at most this area: every one of the
# photo with every one of the reference.
_PHOTO_SIDE, _REFERENCE_SIDE = 64, 48

# Each place takes the mean color of the places of the reference, weighted by
# exp(similarity / temperature - luma weight * (difference of luminance)^2): within a thing, edges decide.
_TEMPERATURE = 0.03
_LUMA_WEIGHT = 20.0

# Mean similarity of the matched places from where on a color counts at all, and from where on it counts fully. Half of
# the places of unrelated photos reach 0.27, one of twenty 0.45; of photos of one scene half reach 0.44 to 0.6.
_UNLIKE, _ALIKE = 0.3, 0.55

# Chroma below that of one 8-bit code is no color.
_GRAY = 1 / 255


@torch.no_grad()
def match_reference(
    pipeline: DiffusionPipeline,
    luma: torch.Tensor,
    reference: Image.Image | np.ndarray | torch.Tensor,
    size: tuple[int, int],
) -> torch.Tensor:
    """
    Find for each place of a gray photo the color of the places in a reference that look alike.

    Both grays go through the image encoder; what is common to all their places is taken off the features, and places
    are compared by the cosine of the rest.

    Args:
        pipeline (`ColorizationPipeline`): With an image encoder; this and its image processor are used.
        luma (`torch.Tensor` of shape `(height, width)`): Codes of the photo.
        reference (`PIL.Image.Image`, `np.ndarray` or `torch.Tensor`): A color photo of any size.
        size (`tuple`): `(rows, columns)` of the chroma of the photo.

    Returns:
        `torch.Tensor` of shape `(3, rows, columns)`, `float32` on the CPU: Cb and Cr in `[-0.5, 0.5]`, and the
        confidence in `[0, 1]` with which they are those of the photo.

    Raises:
        `ValueError`: if the reference cannot be read, or has no colors.
    """
    codes = pipeline.image_processor.to_codes(reference, "RGB", name="reference_image")
    grid = limit_area(tuple(codes.shape[:2]), _REFERENCE_SIDE)
    rgb = codes.permute(2, 0, 1)[None].float() / torch.iinfo(codes.dtype).max
    chroma = rgb_to_chroma(F.interpolate(rgb, size=grid, mode="area"))[0].flatten(1)  # (2, R)
    if chroma.abs().max() < _GRAY:
        raise ValueError("`reference_image` has no colors that could be carried over: pass a color photo.")

    photo_grid = limit_area(size, _PHOTO_SIDE)
    features, luminance = describe_places(pipeline, luma, photo_grid)
    others, other_luminance = describe_places(pipeline, rgb_to_luma(codes), grid)
    cosines = similarity(features, others)  # (P, R)
    distance = (luminance[:, None] - other_luminance).square()
    weights = (cosines / _TEMPERATURE - _LUMA_WEIGHT * distance).softmax(dim=1)
    confidence = smooth_share((weights * cosines).sum(dim=1), _UNLIKE, _ALIKE)

    matched = torch.cat((chroma @ weights.T, confidence[None])).unflatten(1, photo_grid)
    return F.interpolate(matched[None], size=size, mode="bilinear")[0]
