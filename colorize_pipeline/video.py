"""
Colors for a film that do not flicker.

Few frames of each scene are painted, the keys; between them colors are carried along by the motion of what they belong
to. What a key shows that was seen before keeps its color, and only what is new is painted, to go with that.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from .brush import Brush
from .motion import chain, estimate_motion, match_quality, settle, spread, warp
from .scenes import Frame, ahead, chained, chunks, follow, most_telling, of_one_size


# Shares of a frame: what is filled from around it instead of being painted, and what is painted between keys.
_FILLED, _PAINTED_BETWEEN = 0.01, 0.06
# How often the frames between two keys may be halved by another key.
_MOST_HALVINGS = 3
# Colors fade with a picture once it has less than this share of its light: black is no saturated color.
_FADING = 0.6
_REFINEMENTS = 2
_OUTPUT_TYPES = ("pil", "np", "pt")


@dataclass(frozen=True)
class Key:
    """
    A frame whose colors are known everywhere.

    Args:
        small (`torch.Tensor` of shape `(1, 1, rows, columns)`): Its luma in `[0, 1]`.
        chroma (`torch.Tensor` of shape `(1, 2, rows, columns)`): Cb and Cr in `[-0.5, 0.5]`, in full light.
        owed (`torch.Tensor` of shape `(1, 2, rows, columns)`): Motion too small to have been followed yet.
        light (`float`): Of this frame, as a multiple of that of the first key of the scene.
    """

    small: torch.Tensor
    chroma: torch.Tensor
    owed: torch.Tensor
    light: float


@dataclass(frozen=True)
class Resume:
    """
    All that painting must know to go on with a frame.

    Args:
        scene (`int`): Number of the scene, from 1, or of the one before if the frame starts one.
        seed (`int`): Of the noise of the scene.
        key (`Key` or `None`): The frame itself; `None` if it starts a scene.
    """

    scene: int = 0
    seed: int = 0
    key: Key | None = None


@dataclass(frozen=True)
class FrameColors:
    """
    What was found for one frame.

    Args:
        chroma (`torch.Tensor` of shape `(2, rows, columns)`): Cb and Cr in `[-0.5, 0.5]`, before saturation.
        scene (`int`): Number of its scene, from 1.
        resume (`Resume` or `None`): What `paint_film` needs to go on with this frame, where it can.
    """

    chroma: torch.Tensor
    scene: int
    resume: Resume | None = None


class _Chunk:
    """
    Frames of a scene from one key to the next, and the colors found for them so far.

    Args:
        brush (`Brush`), seed (`int`): How to paint.
        frames (`list` of `Frame`): In their order.
    """

    def __init__(self, brush: Brush, seed: int, frames: list[Frame]):
        self.brush, self.seed, self.frames = brush, seed, frames
        self._keys: dict[int, Key] = {}
        self._links: dict[int, dict[int, tuple]] = {}

    def set_key(self, index: int, key: Key) -> None:
        """Tell the colors of a frame, and find where they are in those around it, up to the next keys."""
        self._keys[index] = key
        links = self._links[index] = {}
        for direction in (1, -1):
            motion = torch.zeros_like(self.frames[index].small).repeat(2, 2, 1, 1)
            stop = len(self.frames) if direction > 0 else -1
            for number in range(index + direction, stop, direction):
                if number in self._keys:
                    break
                step = self.frames[max(number, number - direction)].motion
                motion = chained(step if direction > 0 else step.flip(0), motion)
                links[number] = self._look_up(self.frames[number], key, motion)
                motion = links[number][3]

    def _look_up(self, frame: Frame, key: Key, motion: torch.Tensor) -> tuple:
        """Give the colors of a key at a frame, where they are known, the light, and the motion."""
        if torch.equal(frame.small, key.small) and not motion.any():
            return key.chroma, torch.ones_like(key.small), key.light, motion, key.owed
        pair = torch.cat((frame.small, key.small))
        if not frame.odd:  # motion found step by step drifts, motion found from afar does not
            motion = estimate_motion(pair, pair.flip(0), motion, _REFINEMENTS)
        known, light = match_quality(frame.small, key.small, motion[:1], motion[1:], by_luma=not frame.odd)
        if frame.odd:
            light = frame.small.mean() / key.small.mean().clamp(min=1e-3)
        followed = chain(motion[:1], key.owed)
        moved = settle(followed)
        chroma = warp(key.chroma.double(), moved.double(), mode="bicubic").float()
        return chroma, known, key.light * float(light), motion, followed - moved

    def colors(self, index: int) -> tuple[torch.Tensor, torch.Tensor, float, torch.Tensor]:
        """Give the colors of a frame, where they are known (both from the nearest keys), its light, what is owed."""
        if index in self._keys:
            key = self._keys[index]
            return key.chroma, torch.ones_like(key.small), key.light, key.owed
        left = max((number for number in self._keys if number < index), default=None)
        right = min((number for number in self._keys if number > index), default=None)
        if left is None or right is None:
            chroma, known, light, _, owed = self._links[right if left is None else left][index]
            return chroma, known, light, owed
        before, after = self._links[left][index], self._links[right][index]
        share = (index - left) / (right - left)
        weight_before, weight_after = (1 - share) * before[1], share * after[1]
        part = weight_after / (weight_before + weight_after).clamp(min=1e-6)
        chroma = before[0] + part * (after[0] - before[0])
        nearest = before if share <= 0.5 else after
        return chroma, torch.maximum(before[1], after[1]), (1 - share) * before[2] + share * after[2], nearest[4]

    def make_key(self, index: int) -> None:
        """Find the colors of all of a frame: carried, and painted or filled where they are not known."""
        if index in self._keys:
            return
        frame = self.frames[index]
        chroma, known, light, owed = self.colors(index)
        if float(1 - known.mean()) > _FILLED:
            chroma = self.brush.complete(frame, self.seed, chroma, known)
        else:
            chroma = spread(chroma, known)
        self.set_key(index, Key(frame.small, chroma, owed, light))

    def fill_between(self, left: int, right: int, halvings: int = _MOST_HALVINGS) -> None:
        """Make further keys of frames between two that show much which neither of these does."""
        candidates = [number for number in range(left + 1, right) if not self.frames[number].odd]
        if not candidates or not halvings:
            return
        unknown = {number: float(1 - self.colors(number)[1].mean()) for number in candidates}
        worst = max(candidates, key=unknown.get)
        if unknown[worst] > _PAINTED_BETWEEN:
            self.make_key(worst)
            self.fill_between(left, worst, halvings - 1)
            self.fill_between(worst, right, halvings - 1)

    def key_at(self, index: int) -> Key:
        """Give a key that was set or made."""
        return self._keys[index]


def paint_film(
    brush: Brush,
    lumas: Iterable[torch.Tensor],
    resume: Resume | None = None,
    hints: Callable[[int], Image.Image | list | None] = lambda number: None,
) -> Iterator[FrameColors]:
    """
    Find the colors of a film, in one pass, with no more than some seventy frames in memory. Frames are read, and their
    motion is found, in a thread of their own.

    Args:
        brush (`Brush`): How to paint.
        lumas (iterable of `torch.Tensor` of shape `(height, width)`): Integer codes, all of one size.
        resume (`Resume`, *optional*): Go on with the frame that came with it, which is then the first of `lumas`. The
            colors are those of a run that was not interrupted.
        hints (callable, *optional*): Asked for the colors that are known from a luma on, by its number from 0, once it
            is read.

    Returns:
        Iterator of `FrameColors`: One for each luma.
    """
    lumas = iter(lumas)
    if (first := next(lumas, None)) is None:
        return
    resume = resume or Resume()
    key, scene, seed = resume.key, resume.scene, resume.seed
    _, size = brush.sizes(first)
    for chunk, scene_ends in chunks(ahead(follow(of_one_size(first, lumas), size, hints))):
        # 1. Its keys: the one it starts with, or the frame that shows most; both ends; and between them as needed
        start = Resume(scene, seed, key)
        if key is None:
            scene, seed = scene + 1, brush.noise_seed(chunk[0], scene + 1)
        colors = _Chunk(brush, seed, chunk)
        anchor = 0 if key is not None else most_telling(chunk)
        if key is None:
            painted = _paint_first(brush, chunk, anchor, seed, scene)
            key = Key(chunk[anchor].small, painted, torch.zeros_like(painted), 1.0)
        elif chunk[0].hints is not None:
            key = replace(key, chroma=brush.give(chunk[0], key.chroma, chunk[0].hints))
        colors.set_key(anchor, key)
        colors.make_key(0)
        end = max(number for number in range(len(chunk)) if number == 0 or not chunk[number].odd)
        colors.make_key(end)
        for left, right in ((0, anchor), (anchor, end)):
            colors.fill_between(left, right)
        # 2. The last frame of a chunk is the first of the next one of its scene
        changes: list[_Chunk] = []
        for number in range(len(chunk) if scene_ends else end):
            chroma, known, light, _ = colors.colors(number)
            chroma = _changed(spread(chroma, known), changes, number)
            if number and chunk[number].hints is not None:
                changes.append(_change(brush, chunk, number, chroma))
                chroma = _changed(chroma, changes[-1:], number)
            fade = min(1.0, light / _FADING)
            yield FrameColors(fade * chroma[0], scene, start if number == 0 else None)
        key = None if scene_ends else colors.key_at(end)
        if changes and key is not None:
            key = replace(key, chroma=_changed(key.chroma, changes, end))


def _change(brush: Brush, chunk: list[Frame], number: int, chroma: torch.Tensor) -> _Chunk:
    """Give what the hints of a frame change of its colors, to be carried along like these."""
    frame = chunk[number]
    change = brush.give(frame, chroma, frame.hints) - chroma
    carried = _Chunk(brush, 0, chunk)
    carried.set_key(number, Key(frame.small, change, torch.zeros_like(change), 1.0))
    return carried


def _changed(chroma: torch.Tensor, changes: list[_Chunk], number: int) -> torch.Tensor:
    for change in changes:
        moved, seen, *_ = change.colors(number)
        chroma = chroma + seen * moved
    return chroma


def _paint_first(brush: Brush, chunk: list[Frame], anchor: int, seed: int, scene: int) -> torch.Tensor:
    """Paint the frame that a scene is painted from, with what is known of it."""
    hints = [hints for hints in (chunk[0].hints, brush.scene_hints.get(scene)) if hints is not None]
    painted = brush.paint(chunk[anchor], seed, hints[0] if hints else None)
    for more in hints[1:]:
        painted = brush.give(chunk[anchor], painted, more)
    return painted


def paint_scenes(
    brushes: list[Brush],
    lumas: Iterable[torch.Tensor],
    hints: Callable[[int], Image.Image | list | None] = lambda number: None,
) -> Iterator[tuple[int, torch.Tensor, list]]:
    """
    Paint only the first key of each scene, for a choice between brushes.

    Args:
        brushes (`list` of `Brush`): That differ in their seeds.
        lumas (iterable of `torch.Tensor` of shape `(height, width)`), hints (callable, *optional*): As in
            [`paint_film`].

    Returns:
        Iterator of `(number, luma, chroma)`: of the frame, from 0; and a `(2, rows, columns)` for each brush, from
        which [`paint_film`] would make the colors of the scene.
    """
    lumas = iter(lumas)
    if (first := next(lumas, None)) is None:
        return
    scene, number, is_first = 0, 0, True
    for chunk, scene_ends in chunks(ahead(follow(of_one_size(first, lumas), brushes[0].sizes(first)[1], hints))):
        if is_first:
            scene, anchor = scene + 1, most_telling(chunk)
            painted = [
                _paint_first(brush, chunk, anchor, brush.noise_seed(chunk[0], scene), scene)[0] for brush in brushes
            ]
            yield number + anchor, chunk[anchor].luma, painted
        number += len(chunk) if scene_ends else len(chunk) - 1
        is_first = scene_ends


def colorize_video(
    pipe: DiffusionPipeline,
    frames: Iterable[Image.Image | np.ndarray | torch.Tensor],
    *,
    num_inference_steps: int | None = None,
    ensemble_size: int = 4,
    saturation: float = 1.0,
    processing_resolution: int | None = None,
    generator: torch.Generator | None = None,
    scene_seeds: dict[int, int] | None = None,
    hints: dict[int, Image.Image | list] | None = None,
    reference_image: Image.Image | np.ndarray | torch.Tensor | None = None,
    output_type: str = "pil",
) -> Iterator[Image.Image | np.ndarray | torch.Tensor]:
    """
    Colorize the frames of a film so that colors stay on what they belong to: `pipe.colorize_video(frames)`.

    Frames are read as they are needed, in another thread, and given back in their order, some seventy behind; each is
    colored once. A scene has the same colors in any film, whatever comes before it.

    Args:
        frames (iterable of `PIL.Image.Image`, `np.ndarray` or `torch.Tensor`):
            From any reader; all of one size. Each as in the call of the pipeline.
        num_inference_steps, saturation, processing_resolution, reference_image:
            As in the call of the pipeline.
        ensemble_size (`int`, *optional*, defaults to 4):
            Samples drawn for each frame that is painted after the first of its scene: the one nearest to the colors
            that are known already is kept.
        generator (`torch.Generator`, *optional*):
            The only source of randomness; one number is drawn from it.
        scene_seeds (`dict` of `int` to `int`, *optional*):
            Other colors for some scenes, by their number from 1.
        hints (`dict` of `int` to `PIL.Image.Image` or list of points, *optional*):
            Colors that are known, by number of a frame from 0: what they lie on has them from that frame to the end of
            its scene. Each as in the call of the pipeline.
        output_type (`str`, *optional*, defaults to `"pil"`):
            `"pil"`, `"np"` or `"pt"`, as in the call of the pipeline.

    Returns:
        Iterator of colored frames.

    Raises:
        `ValueError`: if an argument is out of range, as the call of the pipeline does, or frames differ in size.
    """
    if output_type not in _OUTPUT_TYPES:
        raise ValueError(f"`output_type` must be one of {', '.join(_OUTPUT_TYPES)}, but got {output_type!r}.")
    if not 0 <= saturation < float("inf"):
        raise ValueError(f"`saturation` must be a number of at least 0, but got {saturation!r}.")
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    seeds = scene_seeds or {}
    brush = Brush(pipe, num_inference_steps, processing_resolution, ensemble_size, seed, seeds, {}, reference_image)
    waiting: deque[torch.Tensor] = deque()

    def lumas() -> Iterator[torch.Tensor]:
        for frame in frames:
            waiting.append(pipe.image_processor.to_codes(frame, "L", name="frames"))
            yield waiting[-1]

    def join_next(chroma: torch.Tensor) -> Image.Image | np.ndarray | torch.Tensor:
        luma = waiting.popleft()
        return pipe.image_processor.postprocess(luma, luma, saturation * chroma, None, output_type)

    return (join_next(colors.chroma) for colors in paint_film(brush, lumas(), hints=(hints or {}).get))
