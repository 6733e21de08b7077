"""Colorize gray photographs with a conditional diffusion model, keeping every gray value as it is."""

from pathlib import Path

from .pipeline import ColorizationPipeline, ColorizationPipelineOutput, build_model_input
from .unet import create_unet


__version__ = "0.1.0"

DEFAULT_CHECKPOINT = Path(__file__).parent / "default_checkpoint"

__all__ = [
    "DEFAULT_CHECKPOINT",
    "ColorizationPipeline",
    "ColorizationPipelineOutput",
    "build_model_input",
    "create_unet",
]
