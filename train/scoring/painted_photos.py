"""Color photos painted anew from their gray, in every way that the evaluation compares."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from photos.photo_dataset import load_photos
from photos.photo_rows import readable_photos
from PIL import Image

from colorize_pipeline import ColorizationPipeline
from colorize_pipeline.color import join, resize_matrix, rgb_to_chroma
from colorize_pipeline.likelihood import BitsPerDimension, bits_per_dimension
from colorize_pipeline.metrics import ColorScores, mean_delta_e, score_colors


GRAY, ORACLE, FLOOR, TRUTH = "gray input", "one oracle mean color", "chroma-resolution floor", "true colors"
MEAN, SAMPLE = "1-step mean", "one sample"

# Each with what tells it from another of its class, so that it does not inherit that from the scheduler in its place.
SCHEDULERS = {
    "ddpm": (DDPMScheduler, {}),
    "ddim": (DDIMScheduler, {}),
    "dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
    "sde-dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": (UniPCMultistepScheduler, {}),
}


@dataclass(frozen=True)
class PaintedPhoto:
    """
    One photo of the evaluation, painted in every way.

    Args:
        dataset (`str`): Name of the set it comes from.
        rows (`dict` from row to `np.ndarray` of shape `(size, size, 3)`, `uint8`): One version for each row.
        samples (`list` of such `np.ndarray`): All of them.
        scores (`dict` from row to `list` of `ColorScores`): One for each sample.
        diversity (`float`): Mean CIEDE2000 between one sample and the next.
        seconds (`dict` from row to `float`): Of the model's rows, for one colorized photo.
        bound (`BitsPerDimension`, *optional*): On the likelihood of the true colors.
    """

    dataset: str
    rows: dict[str, np.ndarray]
    samples: list[np.ndarray]
    scores: dict[str, list[ColorScores]]
    diversity: float
    seconds: dict[str, float]
    bound: BitsPerDimension | None


class Painter:
    """
    Paints photos with a pipeline, always with the same settings.

    Every photo has noise of its own: with the same seeds for all of them, one seed's tint would bias the averages.

    Args:
        pipeline (`ColorizationPipeline`): Its own settings hold where those below are `None`.
        num_samples (`int`): Of each photo.
        bound_timesteps (`int`): Drawn for the bound on the likelihood of each photo; 0: no bound.
        steps (`int`, *optional*), resolution (`int`, *optional*), guidance_scale (`float`, *optional*),
            spread (`float`, *optional*): Of a sample.
    """

    def __init__(
        self,
        pipeline: ColorizationPipeline,
        num_samples: int,
        bound_timesteps: int = 0,
        steps: int | None = None,
        resolution: int | None = None,
        guidance_scale: float | None = None,
        spread: float | None = None,
    ):
        self.pipeline = pipeline
        self.num_samples = num_samples
        self.bound_timesteps = bound_timesteps
        defaults = pipeline.config
        self.steps = defaults.default_num_inference_steps if steps is None else steps
        self.resolution = defaults.default_processing_resolution if resolution is None else resolution
        self.guidance_scale = defaults.default_guidance_scale if guidance_scale is None else guidance_scale
        self.spread = defaults.default_spread if spread is None else spread
        self.best = f"best of {num_samples}"

    def mean(self, gray: Image.Image, number: int) -> Image.Image:
        """Paint the mean estimate of the `number`-th photo in one step."""
        return self.pipeline(
            gray,
            num_inference_steps=1,
            processing_resolution=self.resolution,
            guidance_scale=1.0,
            generator=generator_of(number, 0),
        ).images[0]

    def samples(self, gray: Image.Image, count: int, number: int) -> list[Image.Image]:
        """Paint `count` samples of the `number`-th photo."""
        return self.pipeline(
            gray,
            num_inference_steps=self.steps,
            num_images_per_input=count,
            processing_resolution=self.resolution,
            guidance_scale=self.guidance_scale,
            spread=self.spread,
            generator=[generator_of(number, seed) for seed in range(count)],
        ).images

    def paint(self, dataset: str, truth: Image.Image, number: int) -> PaintedPhoto:
        """Paint the `number`-th photo in every way and score the results."""
        gray = truth.convert("L")
        luma, chroma = torch.from_numpy(np.array(gray)), true_chroma(truth)
        floor_size = max(1, round((self.resolution or truth.width) / self.pipeline.config.luminance_patch))
        clock = [time.perf_counter()]
        mean = self.mean(gray, number)
        clock.append(time.perf_counter())
        samples = [np.asarray(sample) for sample in self.samples(gray, self.num_samples, number)]
        clock.append(time.perf_counter())

        target = np.asarray(truth)
        rows = {
            GRAY: np.asarray(gray.convert("RGB")),
            ORACLE: join(luma, chroma.mean(dim=(1, 2), keepdim=True)).numpy(),
            FLOOR: join(luma, shrink_chroma(chroma, floor_size)).numpy(),
            TRUTH: target,
            MEAN: np.asarray(mean),
            SAMPLE: samples[0],
        }
        scores = {name: [score_colors(image, target)] for name, image in rows.items()}
        scores[SAMPLE] += [score_colors(sample, target) for sample in samples[1:]]
        best = min(range(self.num_samples), key=lambda index: scores[SAMPLE][index].delta_e)
        rows[self.best], scores[self.best] = samples[best], [scores[SAMPLE][best]]
        bound = None
        if self.bound_timesteps:
            bound = bits_per_dimension(
                self.pipeline,
                truth,
                generator=generator_of(number, 0),
                num_timesteps=self.bound_timesteps,
                processing_resolution=self.resolution,
            )
        neighbors = list(zip(samples, samples[1:], strict=False))
        return PaintedPhoto(
            dataset=dataset,
            rows=rows,
            samples=samples,
            scores=scores,
            diversity=float(np.mean([mean_delta_e(*pair) for pair in neighbors])) if neighbors else 0.0,
            seconds={MEAN: clock[1] - clock[0], SAMPLE: (clock[2] - clock[1]) / self.num_samples},
            bound=bound,
        )


def set_scheduler(pipeline: ColorizationPipeline, name: str) -> None:
    """Put one of `SCHEDULERS` into the place of the pipeline's own, with its noise schedule."""
    scheduler, options = SCHEDULERS[name]
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **options)


def load_spread(source: str, files: str, split: str, number: int | None) -> Iterator[Image.Image]:
    """
    Read so many photos (`None`: all), evenly spread over the set: files are often sorted by subject.

    Of a folder of parquet shards those that match `files` are read, of a data set on the Hub its `split`.
    """
    photos = load_photos(source, files, split, streaming=False)
    number = len(photos) if number is None else min(number, len(photos))
    return readable_photos(photos[index * len(photos) // number]["image"] for index in range(number))


def true_chroma(photo: Image.Image) -> torch.Tensor:
    """Give the chroma of a color photo, `(2, height, width)` in `[-0.5, 0.5]`."""
    return rgb_to_chroma(torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255)[0]


def shrink_chroma(chroma: torch.Tensor, size: int) -> torch.Tensor:
    """Resample square chroma planes to `size`."""
    matrix = resize_matrix(chroma.shape[-1], size)
    return matrix @ chroma @ matrix.T


def generator_of(number: int, seed: int) -> torch.Generator:
    """Give the generator of one sample of one photo."""
    return torch.Generator().manual_seed(1000 * number + seed)
