"""
Make a trained pipeline the one that ships with the package, in half precision:

    python train/export_checkpoint.py runs/small/pipeline colorize_pipeline/default_checkpoint
"""

import argparse
from pathlib import Path

import torch
from scoring.painted_photos import SCHEDULERS, set_scheduler

from colorize_pipeline import ColorizationPipeline
from colorize_pipeline.hub import remove_loading_paths


def main(arguments: argparse.Namespace) -> None:
    defaults = {
        "default_num_inference_steps": arguments.steps,
        "default_processing_resolution": arguments.processing_resolution,
        "default_guidance_scale": arguments.guidance_scale,
        "default_spread": arguments.spread,
        "encoder_resolution": arguments.encoder_resolution,
    }
    chosen = {name: value for name, value in defaults.items() if value is not None}
    pipeline = ColorizationPipeline.from_pretrained(arguments.pipeline, dtype=torch.float16, **chosen)
    if arguments.scheduler:
        set_scheduler(pipeline, arguments.scheduler)
    pipeline.save_pretrained(arguments.output)
    remove_loading_paths(arguments.output)
    size = sum(file.stat().st_size for file in arguments.output.rglob("*") if file.is_file())
    print(f"{arguments.output}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", type=Path, help="folder that training saved")
    parser.add_argument("output", type=Path, help="where the half-precision copy goes")
    parser.add_argument("--scheduler", choices=SCHEDULERS, help="that samples, if another is better than training's")
    parser.add_argument("--steps", type=int, help="default number of steps, if another is better")
    parser.add_argument(
        "--processing-resolution", type=int, help="default processing resolution, if another is better"
    )
    parser.add_argument("--guidance-scale", type=float, help="default guidance scale, if another is better")
    parser.add_argument("--spread", type=float, help="default spread, if another is better")
    parser.add_argument("--encoder-resolution", type=int, help="of what the image encoder sees, if another is better")
    main(parser.parse_args())
