"""
Can a network tell colorized photos from real ones? A two-sample test that needs no pretrained weights.

Source: Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests".
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from colorize_pipeline.color import LUMA_WEIGHTS, rgb_to_chroma


_SIDE = 64
_CROP = 56
_UPDATES = 200
_PAIRS_PER_BATCH = 32
_CHROMA_DEVIATION = 0.14
_WIDTHS = (32, 64, 96, 128)


@dataclass(frozen=True)
class TwoSampleAccuracy:
    """
    How often the classifier is right on photos that it was not trained on.

    Args:
        accuracy (`float`): Share in [0, 1]; 0.5: it cannot tell.
        low (`float`), high (`float`): 95% interval (Wilson), with the photos as independent trials.
    """

    accuracy: float
    low: float
    high: float


def two_sample_accuracy(painted: torch.Tensor, real: torch.Tensor, generator: torch.Generator) -> TwoSampleAccuracy:
    """
    Train a small classifier on one half of the photos, score it on the other, and the other way round.

    A photo and its colorized version always fall into the same half, so nothing is learned about single photos.

    Args:
        painted (`torch.Tensor` of shape `(N, 3, height, width)`, `uint8`): Colorized photos.
        real (`torch.Tensor` of the same shape): The true colors of the same photos, in the same order.
        generator (`torch.Generator`): Of the CPU; draws initial weights, batches, crops and flips.

    Raises:
        `ValueError`: if the shapes differ or there are fewer than 4 photos.
    """
    if painted.shape != real.shape or len(real) < 4:
        raise ValueError(
            f"`painted` and `real` must be at least 4 photos of equal shape, but got {tuple(painted.shape)} and"
            f" {tuple(real.shape)}."
        )
    photos = torch.stack([_shrink(painted), _shrink(real)], dim=1)  # (N, 2, 3, s, s): label 0 is painted, 1 is real
    shares = torch.empty(len(photos))
    for part in (0, 1):
        classifier = _train(photos[part::2], generator)
        with torch.no_grad():
            tested = photos[1 - part :: 2]
            logits = classifier(tested.flatten(end_dim=1)).view(-1, 2)
            # A classifier that answers everything alike is at 0.5, whichever answer it gives.
            shares[1 - part :: 2] = ((logits[:, 0] < 0).float() + (logits[:, 1] >= 0).float()) / 2
    return TwoSampleAccuracy(shares.mean().item(), *wilson_interval(shares.mean().item(), len(shares)))


def wilson_interval(share: float, trials: int) -> tuple[float, float]:
    """Give the 95% confidence interval of a share seen in so many trials (Wilson 1927)."""
    z = 1.959964
    center = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)) / (1 + z**2 / trials)
    return center - spread, center + spread


def _shrink(photos: torch.Tensor) -> torch.Tensor:
    """Give what the classifier sees, `(N, 3, s, s)`: luma and, enlarged to about its deviation, chroma."""
    rgb = F.interpolate(photos.float() / 255, size=(_SIDE, _SIDE), mode="bilinear", antialias=True)
    luma = torch.einsum("c,nchw->nhw", torch.tensor(LUMA_WEIGHTS), rgb)[:, None]
    return torch.cat((2 * luma - 1, rgb_to_chroma(rgb) / _CHROMA_DEVIATION), dim=1)


def _train(photos: torch.Tensor, generator: torch.Generator) -> nn.Module:
    """Train on pairs `(n, 2, 3, s, s)`; the same crop and flip for both of a pair, so that only colors differ."""
    classifier = _create_classifier(generator)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _UPDATES)
    for _ in range(_UPDATES):
        pairs = photos[torch.randint(len(photos), (min(_PAIRS_PER_BATCH, len(photos)),), generator=generator)]
        top, left = torch.randint(_SIDE - _CROP + 1, (2,), generator=generator).tolist()
        pairs = pairs[..., top : top + _CROP, left : left + _CROP]
        if torch.rand((), generator=generator) < 0.5:
            pairs = pairs.flip(-1)
        labels = torch.tensor([0.0, 1.0]).repeat(len(pairs))
        loss = F.binary_cross_entropy_with_logits(classifier(pairs.flatten(end_dim=1))[:, 0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return classifier.eval()


def _create_classifier(generator: torch.Generator) -> nn.Module:
    layers, channels = [], 3
    for width in _WIDTHS:
        convolution = nn.Conv2d(channels, width, kernel_size=3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, generator=generator)
        layers += [convolution, nn.GroupNorm(8, width), nn.SiLU()]
        channels = width
    head = nn.Linear(channels, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
