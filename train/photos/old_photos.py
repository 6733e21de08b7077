"""What age does to a gray photograph, as an augmentation: the network should not need a clean scan to know a sky."""

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image


_MAX_GAMMA = 1.8
_MAX_FADING = 0.3
_MAX_GRAIN = 0.03
_JPEG_QUALITY = (30, 95)


def degrade(gray: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """
    Blur, expose wrongly, fade, grain and compress a gray photo, each by a random amount.

    Args:
        gray (`torch.Tensor` of shape `(1, height, width)`): In `[0, 1]`.
        generator (`torch.Generator`): Of the CPU; the only source of randomness.

    Returns:
        `torch.Tensor` like `gray`, in steps of 1/255.
    """
    blur, gamma, black, white, grain, quality = torch.rand(6, generator=generator).tolist()
    blurred = F.avg_pool2d(F.pad(gray, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    gray = gray + blur**2 * (blurred - gray)
    gray = gray ** math.exp((2 * gamma - 1) * math.log(_MAX_GAMMA))
    darkest, brightest = _MAX_FADING * black**2, 1 - _MAX_FADING * white**2
    gray = darkest + (brightest - darkest) * gray
    gray = gray + _MAX_GRAIN * grain**2 * torch.randn(gray.shape, generator=generator)

    codes = gray.mul(255).round().clamp(0, 255).to(torch.uint8)[0].numpy()
    file = io.BytesIO()
    lowest, highest = _JPEG_QUALITY
    Image.fromarray(codes).save(file, "JPEG", quality=round(lowest + (highest - lowest) * quality))
    return torch.from_numpy(np.array(Image.open(file))).float()[None] / 255
