"""Tiny real components: the same classes as in the wheel, small enough for a CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from loopback_hub import LoopbackHub
from PIL import Image

from colorize_pipeline import ColorizationPipeline, create_unet


SHARED = Path(__file__).parents[2] / "shared"


def make_pipeline(target: str = "chroma") -> ColorizationPipeline:
    """A pipeline with an untrained network, whose wild colors are the hardest case for the gamut."""
    torch.manual_seed(0)
    patch = 4 if target == "chroma" else 1
    pipeline = ColorizationPipeline(
        unet=create_unet("tiny", target=target, luminance_patch=patch, with_hints=target == "chroma").eval(),
        scheduler=DDPMScheduler(
            beta_schedule="squaredcos_cap_v2",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            clip_sample_range=3.57 if target == "chroma" else 1.0,
        ),
        luminance_patch=patch,
        default_num_inference_steps=2,
        default_processing_resolution=32,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_scheduler(beta_schedule, zero_snr, num_timesteps, prediction_type="v_prediction", **kwargs) -> DDPMScheduler:
    """A real scheduler that computes in float64."""
    scheduler = DDPMScheduler(
        num_timesteps,
        beta_schedule=beta_schedule,
        rescale_betas_zero_snr=zero_snr,
        prediction_type=prediction_type,
        clip_sample=False,
        **kwargs,
    )
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    return scheduler


@pytest.fixture
def pipeline() -> ColorizationPipeline:
    return make_pipeline()


@pytest.fixture(scope="module")
def hub():
    with LoopbackHub({"ann-token": "ann", "bob-token": "bob"}) as hub:
        yield hub


@pytest.fixture
def photo() -> Image.Image:
    """A gray photograph of 60 x 90 pixels, with black and white in it."""
    from skimage.data import camera

    return Image.fromarray(camera()[100:280:3, 80:350:3].astype(np.uint8))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
