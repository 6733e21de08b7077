"""One photo through the pipeline, in its own color space, without holding the result in memory as a whole."""

import hashlib
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from colorize_pipeline.apps import color_space
from colorize_pipeline.apps.gray import luma_of
from colorize_pipeline.apps.photo import Photo
from colorize_pipeline.apps.provenance import SOFTWARE, Record
from colorize_pipeline.apps.same_look import carry_over, look_in_srgb, round_as_seen
from colorize_pipeline.color import join_blocks
from colorize_pipeline.doubt import expected_error
from colorize_pipeline.hints import HintWarning
from colorize_pipeline.image_processor import ColorizationImageProcessor


if TYPE_CHECKING:  # it takes seconds to import, and whoever has one has done so
    from colorize_pipeline import ColorizationPipeline

_SNAPSHOT = re.compile(r"/snapshots/([0-9a-f]{40})(/|$)")


@dataclass(frozen=True)
class Painting:
    """
    Colors for a photo, which are joined with it as they are written.

    Args:
        luma (`torch.Tensor` of shape `(height, width)`): The photo's gray in codes, `uint8` or `uint16`.
        chroma (`torch.Tensor` of shape `(2, rows, columns)`): What was painted, for the look of the photo in sRGB.
        space (`RgbSpace` or `None`): Of the photo, if it is not sRGB.
        mask (`np.ndarray` of shape `(height, width)` and type `bool`, or `None`): False outside of what is painted.
        outside (`np.ndarray` of shape `(height, width, 3)`, `Painting`, or `None`): What is there, code for code: the
            photo as it came, or what was painted before on the same luma.
        notes (`tuple` of `str`): What could not be done as it was asked for.
        doubt (`torch.Tensor` of shape `(rows, columns)` or `None`): The error to expect, in units of CIEDE2000.
    """

    luma: torch.Tensor
    chroma: torch.Tensor
    space: color_space.RgbSpace | None = None
    mask: np.ndarray | None = None
    outside: "np.ndarray | Painting | None" = None
    notes: tuple[str, ...] = ()
    doubt: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*self.luma.shape, 3)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(str(self.luma.dtype).removeprefix("torch."))

    def blocks(self) -> Iterator[np.ndarray]:
        """RGB codes `(rows, width, 3)`, from the top; `rgb_to_luma` of them is the luma, in any space."""
        adapt = None if self.space is None else carry_over(self.space)
        to_codes = round_as_seen(self.space) if self.space and self.dtype == np.uint8 else None
        before = self.outside.blocks() if isinstance(self.outside, Painting) else None  # of the same rows
        for rows, block in join_blocks(self.luma, self.chroma, adapt, to_codes):
            codes = block.numpy()
            if self.mask is not None:
                outside = self.outside[rows] if before is None else next(before)
                codes = np.where(self.mask[rows, :, None], codes, outside)
            yield codes

    def whole(self) -> np.ndarray:
        """All codes, `(height, width, 3)`."""
        codes = np.empty(self.shape, self.dtype)
        start = 0
        for block in self.blocks():
            codes[start : start + len(block)] = block
            start += len(block)
        return codes


def paint_photo(
    pipe: "ColorizationPipeline",
    photo: Photo,
    noise_seeds: list[int],
    num_inference_steps: int | None = None,
    saturation: float = 1.0,
    target_colorfulness: float | None = None,
    hints: Image.Image | list | None = None,
    mask_image: Image.Image | np.ndarray | None = None,
    reference_image: Image.Image | np.ndarray | None = None,
    doubt_samples: int = 0,
    callback_on_step_end: Callable[..., dict] | None = None,
) -> list[Painting]:
    """
    Colorize one photo.

    Each version goes through the network alone. All together would be painted a seventh faster, but differ in the last
    bit of a float by their company, and so some pixels of each by one code.

    Args:
        pipe (`ColorizationPipeline`): With any device and scheduler.
        photo (`Photo`): As [`read_photo`] gives it.
        noise_seeds (`list` of `int`): One for the generator of each version.
        doubt_samples (`int`, *optional*, defaults to 0): How many other answers each version is compared with, to tell
            where it is a guess; 0: it is not told. The versions do not depend on it.
        The others: As in the call of the pipeline.

    Returns:
        `list` of `Painting`: One for each seed. In sRGB their codes are those of the pipeline's own images.

    Raises:
        `ValueError`: as the pipeline; and if it painted NaN, which damaged weights do.
    """
    luma = torch.from_numpy(luma_of(photo))
    space = color_space.other_space(photo.icc_profile)
    seen = luma if space is None else look_in_srgb(luma, space)
    outside = mask = None
    if mask_image is not None:
        processor = ColorizationImageProcessor(1, 1)
        mask = processor.preprocess_mask(mask_image, tuple(luma.shape)).numpy()
        outside = processor.to_codes(photo.image, "RGB").numpy()
    paintings = []
    for seed in noise_seeds:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", HintWarning)
            (chroma,) = pipe(
                seen.numpy(),
                hints=hints,
                reference_image=reference_image,
                num_inference_steps=num_inference_steps,
                saturation=saturation,
                target_colorfulness=target_colorfulness,
                callback_on_step_end=callback_on_step_end,
                generator=torch.Generator().manual_seed(seed),
                output_type="chroma",
            ).chroma
        if chroma.isnan().any():
            raise ValueError(
                "the network painted NaN instead of colors: its weights are damaged, or its dtype is too small for it"
                " (take --dtype float32)"
            )
        notes = tuple(str(warning.message) for warning in caught if warning.category is HintWarning)
        paintings.append(Painting(luma, chroma, space, mask, outside, notes))
    if not doubt_samples:
        return paintings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HintWarning)  # told above
        samples = pipe(
            seen.numpy(),
            hints=hints,
            reference_image=reference_image,
            num_images_per_input=doubt_samples,
            num_inference_steps=num_inference_steps,
            callback_on_step_end=callback_on_step_end,
            generator=[
                torch.Generator().manual_seed(noise_seeds[0] ^ number) for number in range(1, doubt_samples + 1)
            ],
            output_type="chroma",
        ).chroma
    config = pipe.config
    return [
        replace(
            painting,
            doubt=expected_error(seen, painting.chroma, torch.stack(samples), config.doubt_scale, config.doubt_floor),
        )
        for painting in paintings
    ]


def describe_model(
    pipe: "ColorizationPipeline",
    model: str,
    num_inference_steps: int | None,
    saturation: float,
    wishes: dict | None = None,
) -> Record:
    """
    Record what all paintings have in common: all but the seeds and the gray. It reads the weights once more.

    Args:
        model (`str`): As the user named it; empty for the one that ships. Of a folder only the last name is told.
        wishes (`dict`, *optional*): Arguments of the call that only some results have.
    """
    config = pipe.config
    return Record(
        software=SOFTWARE,
        model=(Path(model).resolve().name if Path(model).is_dir() else model) if model else "default",
        revision=_revision(pipe),
        seed=0,
        noise_seed=0,
        settings={
            "num_inference_steps": num_inference_steps or config.default_num_inference_steps,
            "saturation": saturation,
            "processing_resolution": config.default_processing_resolution,
            "guidance_scale": config.default_guidance_scale,
            "spread": config.default_spread,
            "scheduler": type(pipe.scheduler).__name__,
            "dtype": str(pipe.unet.dtype).removeprefix("torch."),
            **(wishes or {}),
        },
    )


def _revision(pipe: "ColorizationPipeline") -> str:
    """The commit of a model of the Hub, by the folder of its cache; or else the hash of the weights."""
    folder = Path(str(pipe.unet.config.get("_name_or_path") or ""))
    if found := _SNAPSHOT.search(folder.as_posix()):
        return found[1]
    digest = hashlib.sha256()
    files = sorted(folder.glob("*.safetensors")) if folder.name else []
    for path in files:
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    return f"sha256:{digest.hexdigest()}" if files else "unknown"
