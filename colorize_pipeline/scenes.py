"""A film as scenes: where one ends and the next begins, and how what is seen moves from frame to frame within one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from PIL import Image

from .motion import chain, estimate_motion, match_quality, warp


# Two frames of one scene correlate by more than this once motion is taken out: measured 0.89 and above (pans, zooms,
# flashes, fades), while frames of different photos are at 0.31 and below.
_SAME_SCENE = 0.6
# A frame this much brighter or darker than the one before (natural logarithm of the ratio) may be a flash.
_FLASH = 0.25
# Standard deviation of luma (white = 1) of a frame in which there is nothing to be seen: black, white, leader.
_FLAT = 0.012
# Frames for which a flash, a blank or a splice may last within a scene.
_LONGEST_FLASH = 6
# Frames from key to key; and the share of a frame that may be new before there is one earlier.
_LONGEST_CHUNK, _NEW_BEFORE_KEY = 24, 0.2
# Frames that are read and followed while others are painted.
_AHEAD = 32
_END = object()


@dataclass(frozen=True)
class Frame:
    """
    A frame, and how it follows from the one before.

    Args:
        luma (`torch.Tensor` of shape `(height, width)`): Integer codes.
        small (`torch.Tensor` of shape `(1, 1, rows, columns)`): The same in `[0, 1]`, where motion is looked at.
        starts_scene (`bool`): Whether nothing of the frame before is in it.
        odd (`bool`): Whether it is a flash or a blank, of which neither colors nor motion should be taken.
        motion (`torch.Tensor` of shape `(2, 2, rows, columns)` or `None`): From here to the frame before, and from
            there to here; `None` at the start of a scene.
        hints (`PIL.Image.Image`, list of points, or `None`): Colors that are known from here on, as the pipeline takes
            them.
    """

    luma: torch.Tensor
    small: torch.Tensor
    starts_scene: bool = False
    odd: bool = False
    motion: torch.Tensor | None = None
    hints: Image.Image | list | None = None


def shrink(luma: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bring integer codes `(height, width)` to `(1, 1, *size)` in `[0, 1]`."""
    white = torch.iinfo(luma.dtype).max
    return F.interpolate(luma.float()[None, None] / white, size=size, mode="area")


def contrast(frame: Frame) -> float:
    """Tell how much is to be seen: the standard deviation of luma, white = 1."""
    return float(frame.small.std())


def is_flat(frame: Frame) -> bool:
    """Tell whether there is nothing to be seen."""
    return contrast(frame) < _FLAT


def ahead(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Run an iterator in a thread of its own, up to 32 frames ahead."""
    thread = ThreadPoolExecutor(1)
    try:
        waiting = deque(thread.submit(next, frames, _END) for _ in range(_AHEAD))
        while (frame := waiting.popleft().result()) is not _END:
            waiting.append(thread.submit(next, frames, _END))
            yield frame
    finally:
        thread.shutdown(cancel_futures=True)


def of_one_size(first: torch.Tensor, others: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Give all lumas. Raises `ValueError` once one has another size than the first."""
    yield first
    for number, luma in enumerate(others, start=1):
        if luma.shape != first.shape:
            raise ValueError(
                f"`frames` must all have the size of the first, {tuple(first.shape)}, but frame {number} has"
                f" {tuple(luma.shape)}. Resize them first."
            )
        yield luma


def follow(
    lumas: Iterable[torch.Tensor],
    size: tuple[int, int],
    hints: Callable[[int], Image.Image | list | None] = lambda number: None,
) -> Iterator[Frame]:
    """
    Part a film into scenes and follow what moves within each.

    A frame that does not match the one before ends the scene only if none of the next six does: else it is a flash,
    over which the scene goes on. What is decided depends on frames from the start of the scene on only.

    Args:
        lumas (iterable of `torch.Tensor` of shape `(height, width)`): Integer codes, all of one size.
        size (`tuple`): `(rows, columns)` at which motion is looked at.
        hints (callable, *optional*): Asked for what is known of each luma, by its number from 0, once it is read.

    Returns:
        Iterator of `Frame`: One for each luma, in their order, at most seven behind.
    """
    frames = (Frame(luma, shrink(luma, size), hints=hints(number)) for number, luma in enumerate(lumas))
    seen: deque[Frame] = deque()

    def look(number: int) -> Frame | None:
        while len(seen) <= number and (frame := next(frames, None)) is not None:
            seen.append(frame)
        return seen[number] if len(seen) > number else None

    last = None
    while look(0) is not None:
        if last is None:
            last = seen.popleft()
            yield replace(last, starts_scene=True)
            continue
        for skipped in range(_LONGEST_FLASH + 1):
            if (frame := look(skipped)) is None:
                break
            motion, same, steady = _compare(frame, last)
            if skipped == 0:
                first, first_same = motion, same
            if same and steady:
                break
        if frame is not None and same and steady:
            motion = motion / (skipped + 1)
            for number in range(skipped + 1):
                last = seen.popleft()
                yield replace(last, odd=number < skipped, motion=motion)
        elif first_same:  # lights go on, or off: it looks otherwise from here on
            last = seen.popleft()
            yield replace(last, motion=first)
        elif frame is None:  # a flash, a fade or a blank until the end
            if all(is_flat(blank) for blank in seen):
                while seen:
                    last = seen.popleft()
                    yield replace(last, odd=True, motion=torch.zeros_like(first))
            last = None
        else:
            last = None


def _compare(frame: Frame, last: Frame) -> tuple[torch.Tensor, bool, bool]:
    """Give the motion between two frames (there and back), whether they show the same, and in the same light."""
    if torch.equal(frame.small, last.small):
        return frame.small.new_zeros(2, 2, *frame.small.shape[2:]), True, True
    pair = torch.cat((frame.small, last.small))
    if is_flat(frame) or is_flat(last):
        return pair.new_zeros(2, 2, *pair.shape[2:]), is_flat(frame) and is_flat(last), True
    motion = estimate_motion(pair, pair.flip(0))
    warped = warp(last.small, motion[:1])
    correlation = torch.corrcoef(torch.stack((frame.small.flatten(), warped.flatten())))[0, 1]
    light = (pair[0].mean() / pair[1].mean()).log().abs()
    return motion, bool(correlation > _SAME_SCENE), bool(light < _FLASH)


def chunks(frames: Iterator[Frame]) -> Iterator[tuple[list[Frame], bool]]:
    """
    Part scenes into chunks, which end where the scene does, or once much is seen that was not in their first frame.
    The last frame of a chunk is the first of the next one of its scene.

    Yields:
        `tuple`: the frames, and whether the scene ends with them.
    """
    chunk: list[Frame] = []
    motion = None
    for frame in frames:
        if frame.starts_scene:
            if chunk:
                yield chunk, True
            chunk = [frame]
        else:
            motion = frame.motion if len(chunk) == 1 else chained(frame.motion, motion)
            chunk.append(frame)
            if frame.odd:
                continue
            known, _ = match_quality(frame.small, chunk[0].small, motion[:1], motion[1:])
            if len(chunk) > _LONGEST_CHUNK or 1 - float(known.mean()) > _NEW_BEFORE_KEY:
                yield chunk, False
                chunk = [frame]
    if chunk:
        yield chunk, True


def chained(step: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
    """Go a step further: motion from a frame to its neighbour and back, and from that to a third and back."""
    return torch.cat((chain(step[:1], motion[:1]), chain(motion[1:], step[1:])))


def most_telling(chunk: list[Frame]) -> int:
    """Find the frame that shows most; the first if its colors are known."""
    if chunk[0].hints is not None:
        return 0
    return max(range(len(chunk)), key=lambda number: (not chunk[number].odd, contrast(chunk[number])))
