"""What the colorization pipeline returns."""

from dataclasses import dataclass

import torch
from diffusers.utils import BaseOutput


@dataclass
class ColorizationPipelineOutput(BaseOutput):
    """
    Output of the colorization pipeline. All lists run over the inputs, and within an input over its versions.

    Args:
        images (`list` of `PIL.Image.Image`, `np.ndarray` or `torch.Tensor`):
            Colored photos, each at the size of its input.
        chroma (`list` of `torch.Tensor` of shape `(2, rows, columns)`):
            What is joined with the photo, Cb and Cr (0 is gray): at the network's resolution, or with hints at that of
            the photo.
        uncertainty (`list` or `None`):
            Maps of doubt, at the size of the photos: the CIEDE2000 error to expect at each pixel. At four pixels of
            five the true color is nearer than `doubt_bound` times this. As `PIL.Image.Image` white is 40 and above.
    """

    images: list
    chroma: list[torch.Tensor]
    uncertainty: list | None
