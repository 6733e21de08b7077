"""How the frames of a film are painted that are painted at all."""

import hashlib
import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from PIL import Image

from .color import chroma_to_rgb_difference, gamut_scale
from .hints import HintWarning
from .motion import spread
from .scenes import Frame, is_flat


# One position of chroma in this many, along each axis, is told as a hint: the network has learned from few.
_HINT_STRIDE = 4


@dataclass(frozen=True)
class Brush:
    """
    How scenes are painted.

    Args:
        pipe (`ColorizationPipeline`): It.
        num_inference_steps (`int` or `None`), processing_resolution (`int` or `None`): As in its call.
        ensemble_size (`int`): Samples drawn for a key of which something is known; the nearest to that is kept.
        seed (`int`): For all scenes that `scene_seeds` does not name.
        scene_seeds (`dict` of `int` to `int`): Seeds by number of the scene.
    """

    pipe: DiffusionPipeline
    num_inference_steps: int | None
    processing_resolution: int | None
    ensemble_size: int
    seed: int
    scene_seeds: dict[int, int]

    def sizes(self, luma: torch.Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
        """Give the size of painted chroma, and the one at which motion and colors are followed: twice that."""
        resolution = self.processing_resolution
        if resolution is None:
            resolution = self.pipe.config.default_processing_resolution
        _, (rows, columns) = self.pipe.image_processor.preprocess(luma, resolution)
        return (rows, columns), (2 * rows, 2 * columns)

    def noise_seed(self, frame: Frame, scene: int) -> int:
        """Seed the noise of a scene by what its first frame shows: it has the same colors in any film."""
        content = frame.luma.numpy().tobytes() + str(self.scene_seeds.get(scene, self.seed)).encode()
        return int.from_bytes(hashlib.sha256(content).digest()[:8])

    def paint(self, frame: Frame, seed: int) -> torch.Tensor:
        """Paint a frame of which nothing is known, in one sample: the most central of several is the dullest, too."""
        if is_flat(frame):  # black, white or leader
            return frame.small.new_zeros(1, 2, *frame.small.shape[2:])
        (chroma,) = self._call(frame, seed, None, 1)
        return F.interpolate(chroma[None], size=frame.small.shape[2:], mode="bicubic")

    def complete(self, frame: Frame, seed: int, chroma: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """
        Paint what is not known of a frame, so that it goes on from what is.

        Args:
            frame (`Frame`), seed (`int`): What to paint, with which noise.
            chroma (`torch.Tensor` of shape `(1, 2, rows, columns)`): Colors, where they are known.
            known (`torch.Tensor` of shape `(1, 1, rows, columns)`): 1 there, 0 elsewhere.

        Returns:
            `torch.Tensor` of the shape of `chroma`: with its values where they are known.
        """
        hints = self._hints(frame, chroma, known) if self.pipe.accepts_hints else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HintWarning)  # carried colors, which nobody has asked for
            samples = torch.stack(self._call(frame, seed, hints, self.ensemble_size))
        samples = F.interpolate(samples, size=chroma.shape[2:], mode="bicubic", antialias=True)
        distances = (known * (samples - chroma).square()).sum(dim=(1, 2, 3))
        painted = samples[distances.argmin()][None]
        # What known and painted colors differ by fades out from the seam on, so that there is none.
        return chroma + (1 - known) * (painted + spread(chroma - painted, known) - chroma)

    def _call(self, frame: Frame, seed: int, hints: Image.Image | None, versions: int) -> list[torch.Tensor]:
        return self.pipe(
            frame.luma.numpy(),
            hints=hints,
            num_images_per_input=versions,
            num_inference_steps=self.num_inference_steps,
            processing_resolution=self.processing_resolution,
            generator=torch.Generator().manual_seed(seed),
            output_type="chroma",
        ).chroma

    def _hints(self, frame: Frame, chroma: torch.Tensor, known: torch.Tensor) -> Image.Image | None:
        size, _ = self.sizes(frame.luma)
        difference = chroma_to_rgb_difference(F.interpolate(chroma, size=size, mode="area")[0])  # (3, rows, columns)
        middle = torch.full(size, 0.5)
        rgb = middle + difference * gamut_scale(middle, difference, 1.0)
        told = torch.zeros(1, *size)
        told[:, ::_HINT_STRIDE, ::_HINT_STRIDE] = 1
        told *= (F.interpolate(known, size=size, mode="area")[0] == 1).float()
        if not told.any():
            return None
        rgba = (255 * torch.cat((rgb, told))).round().to(torch.uint8)
        return Image.fromarray(rgba.permute(1, 2, 0).numpy(), "RGBA")
