"""How the frames of a film are painted that are painted at all."""

import hashlib
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from PIL import Image

from .hint_propagation import finish_chroma
from .hints import fit_to_gamut, read_hints
from .likeness import find_likeness
from .motion import spread
from .scenes import Frame, is_flat


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
        scene_hints (`dict` of `int` to hints): Colors that are known of the frame which a scene is painted from, by
            number of the scene; as in the call of the pipeline, in pixels of the frame.
        reference_image (`PIL.Image.Image` or `None`): As in the call of the pipeline.
    """

    pipe: DiffusionPipeline
    num_inference_steps: int | None
    processing_resolution: int | None
    ensemble_size: int
    seed: int
    scene_seeds: dict[int, int]
    scene_hints: dict[int, Image.Image | list] = field(default_factory=dict)
    reference_image: Image.Image | None = None

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

    def paint(self, frame: Frame, seed: int, hints: Image.Image | list | None = None) -> torch.Tensor:
        """Paint the first frame of a scene, in one sample: the most central of several is the dullest, too."""
        if is_flat(frame):  # black, white or leader
            return frame.small.new_zeros(1, 2, *frame.small.shape[2:])
        (chroma,) = self._call(frame.luma, seed, hints, 1)
        return F.interpolate(chroma[None], size=frame.small.shape[2:], mode="bicubic", antialias=True)

    def give(self, frame: Frame, chroma: torch.Tensor, hints: Image.Image | list | None) -> torch.Tensor:
        """Give what hints lie on their colors, and leave all else of `chroma` `(1, 2, rows, columns)` as it is."""
        (known,) = fit_to_gamut([read_hints(hints, tuple(frame.luma.shape))], [frame.luma])
        if known is None:
            return chroma
        likeness = find_likeness(self.pipe, frame.luma, known)
        finished = finish_chroma(frame.luma, chroma[0], known, 1.0, None, likeness)
        return F.interpolate(finished[None], size=chroma.shape[2:], mode="area")

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
        samples = torch.stack(self._call(frame.luma, seed, None, self.ensemble_size))
        samples = F.interpolate(samples, size=chroma.shape[2:], mode="bicubic", antialias=True)
        distances = (known * (samples - chroma).square()).sum(dim=(1, 2, 3))
        painted = samples[distances.argmin()][None]
        # What known and painted colors differ by fades out from the seam on, so that there is none.
        return chroma + (1 - known) * (painted + spread(chroma - painted, known) - chroma)

    def _call(
        self, luma: torch.Tensor, seed: int, hints: Image.Image | list | None, versions: int
    ) -> list[torch.Tensor]:
        return self.pipe(
            luma.numpy(),
            hints=hints,
            reference_image=self.reference_image,
            num_images_per_input=versions,
            num_inference_steps=self.num_inference_steps,
            processing_resolution=self.processing_resolution,
            generator=torch.Generator().manual_seed(seed),
            output_type="chroma",
        ).chroma
