"""How fast a training run is, against what the machine could do."""

import ctypes
import sys
import time

import torch
from diffusers import UNet2DModel
from diffusers.models.resnet import ResnetBlock2D
from optimization.pretrained_encoder import encoder_config, prepare_fine_tuning
from optimization.training_config import TrainingConfig
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import EfficientNetModel

from colorize_pipeline import create_unet
from colorize_pipeline.image_encoder import encode_luminance


# A 3 x 3 convolution of the kind that the network spends its time in, large enough to fill any machine.
_PEAK_BATCH, _PEAK_CHANNELS, _PEAK_SIDE = 64, 128, 32
_PEAK_SECONDS = 1.0

# Source: malloc.h of glibc, mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_THRESHOLD = 2**31 - 1


def keep_freed_memory() -> None:
    """
    Let this process keep the memory that it frees: each update on a CPU asks for the same large blocks again.

    Else glibc returns every block of more than 32 MB, and the top of its heap, to Linux, which clears them anew page
    by page: a tenth of the time of an update. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_THRESHOLD)


def lay_out_group_norms(unet: UNet2DModel) -> None:
    """
    Let the group norms of ResNet blocks take planes and give channels last, as the convolutions beside them do.

    Those of bfloat16 channels last take PyTorch 20 times as long on a CPU as those of planes, forward and backward: an
    eighth of an update, where turning takes a hundredth. What they compute stays the same.
    """
    for block in unet.modules():
        if isinstance(block, ResnetBlock2D):
            for norm in (block.norm1, block.norm2):
                norm.register_forward_pre_hook(lambda _, arguments: (arguments[0].contiguous(),))
                norm.register_forward_hook(lambda _, __, planes: planes.contiguous(memory_format=torch.channels_last))


def training_flops(config: TrainingConfig, resolution: int) -> float:
    """Count the floating-point operations of one photo, forward and backward, at so many luma pixels a side."""
    side = resolution // config.luminance_patch
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        unet = create_unet(**config.network)
        sample = torch.empty(config.noises_per_photo, unet.config.in_channels, side, side)
        unet(sample, torch.zeros(len(sample))).sample.sum().backward()
        if config.image_encoder:
            image_encoder = EfficientNetModel(encoder_config(config.image_encoder)).eval()
            prepare_fine_tuning(image_encoder, config.encoder_learning_rate)
            luminance = torch.empty(1, 1, config.encoder_resolution, config.encoder_resolution)
            features = encode_luminance(image_encoder, luminance, (side, side))
            if features.requires_grad:
                features.sum().backward()
    return float(counter.get_total_flops())


@torch.no_grad()
def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Time a large convolution for a second: operations per second that this process can reach."""
    photos = torch.randn(_PEAK_BATCH, _PEAK_CHANNELS, _PEAK_SIDE, _PEAK_SIDE, device=device, dtype=dtype)
    photos = photos.to(memory_format=torch.channels_last)
    weight = torch.randn(_PEAK_CHANNELS, _PEAK_CHANNELS, 3, 3, device=device, dtype=dtype)
    weight = weight.to(memory_format=torch.channels_last)
    flops, rounds = 2 * 9 * _PEAK_CHANNELS**2 * _PEAK_BATCH * _PEAK_SIDE**2, 0
    for _ in range(3):
        F.conv2d(photos, weight, padding=1)
    _synchronize(device)
    clock = time.perf_counter()
    while time.perf_counter() - clock < _PEAK_SECONDS:
        for _ in range(10):
            F.conv2d(photos, weight, padding=1)
        _synchronize(device)
        rounds += 10
    return rounds * flops / (time.perf_counter() - clock)


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
