"""Colorize gray photographs with a conditional diffusion model, keeping every gray value as it is."""

import importlib
from pathlib import Path


__version__ = "0.1.0"

DEFAULT_CHECKPOINT = str(Path(__file__).parent / "default_checkpoint")

# Imported on first use: torch and diffusers take seconds, and `colorize --help` needs neither.
_MODULE_OF = {
    "ColorizationPipeline": "pipeline",
    "ColorizationPipelineOutput": "pipeline_output",
    "build_model_input": "image_processor",
    "create_unet": "unet",
}

__all__ = ["DEFAULT_CHECKPOINT", *_MODULE_OF]  # noqa: PLE0604 (the names are defined by `__getattr__`)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
