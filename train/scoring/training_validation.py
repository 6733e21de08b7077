"""During training: the real pipeline on the same photos with the same seeds, as numbers and as a picture."""

from pathlib import Path

import numpy as np
import torch
from optimization.training_config import TrainingConfig
from photos.photo_dataset import load_photos
from photos.photo_rows import readable_photos
from scoring.contact_sheet import contact_sheet

from colorize_pipeline import ColorizationPipeline
from colorize_pipeline.metrics import SSIM_WINDOW, score_colors


_SAMPLES = 3

# Longer sides of the photos are shrunk to this: scores of full-size photos would take longer than the training.
_MAX_SIDE = 512


class Validation:
    """
    Paint fixed photos, in one step (the mean of all answers) and as a few samples.

    Args:
        config (`TrainingConfig`): Which photos, how many, and where the sheets go.
    """

    def __init__(self, config: TrainingConfig):
        name, split = config.validation_dataset, config.validation_split
        if not name:
            name, split = config.dataset, config.dataset_split
        files = config.validation_files or ("*.parquet" if config.validation_dataset else config.dataset_files)
        photos = load_photos(name, files, split, streaming=True, image_column=config.image_column)
        rows = (row[config.image_column] for row in photos)
        self.photos = []
        for photo in readable_photos(rows):
            photo.thumbnail((_MAX_SIDE, _MAX_SIDE))
            if min(photo.size) >= SSIM_WINDOW:
                self.photos.append(photo)
            if len(self.photos) == config.num_validation_images:
                break
        if not self.photos:
            raise ValueError(f"`validation_dataset` {name} holds no photo that can be read and scored.")
        self.folder = Path(config.output_dir) / "validation"
        self.num_inference_steps = config.num_inference_steps

    def run(self, pipeline: ColorizationPipeline, processing_resolution: int, images_seen: int) -> dict[str, float]:
        """
        Write `validation/<images_seen>.png` and score the same pictures.

        Returns:
            `dict`: CIEDE2000 of the mean, of a sample and of the best sample, and colorfulness against the truth's.
        """
        pipeline.set_progress_bar_config(disable=True)
        gray = [photo.convert("L") for photo in self.photos]
        shared = {"processing_resolution": processing_resolution}
        means = pipeline(gray, num_inference_steps=1, generator=torch.Generator().manual_seed(0), **shared).images
        samples = [
            pipeline(
                gray,
                num_inference_steps=self.num_inference_steps,
                generator=[torch.Generator().manual_seed(seed) for _ in gray],
                **shared,
            ).images
            for seed in range(_SAMPLES)
        ]
        rows = [list(row) for row in zip(gray, self.photos, means, *samples, strict=True)]
        titles = ["gray", "truth", "mean (1 step)", *(f"sample, seed {seed}" for seed in range(_SAMPLES))]
        self.folder.mkdir(parents=True, exist_ok=True)
        contact_sheet(rows, titles, blocks=2).save(self.folder / f"{images_seen:09d}.png")

        scores = [
            [score_colors(np.asarray(image.convert("RGB")), np.asarray(row[1])) for image in row] for row in rows
        ]
        delta_e = np.array([[score.delta_e for score in row] for row in scores])
        return {
            "validation/delta_e_gray": delta_e[:, 0].mean(),
            "validation/delta_e_mean": delta_e[:, 2].mean(),
            "validation/delta_e_sample": delta_e[:, 3:].mean(),
            "validation/delta_e_best": delta_e[:, 3:].min(axis=1).mean(),
            "validation/colorfulness": np.mean([score.colorfulness for row in scores for score in row[3:]]),
            "validation/true_colorfulness": np.mean([row[0].true_colorfulness for row in scores]),
        }
