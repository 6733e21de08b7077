"""A film as scenes: where one ends and the next begins, and how what is seen moves from frame to frame within one."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .motion import estimate_motion, warp


# Two frames of one scene correlate by more than this once motion is taken out: measured 0.89 and above (pans, zooms,
# flashes, fades), while frames of different photos are at 0.31 and below.
_SAME_SCENE = 0.6
# A frame this much brighter or darker than the one before (natural logarithm of the ratio) may be a flash.
_FLASH = 0.25
# Standard deviation of luma (white = 1) of a frame in which there is nothing to be seen: black, white, leader.
_FLAT = 0.012
# Frames for which a flash, a blank or a splice may last within a scene.
_LONGEST_FLASH = 6


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
    """

    luma: torch.Tensor
    small: torch.Tensor
    starts_scene: bool = False
    odd: bool = False
    motion: torch.Tensor | None = None


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


def follow(lumas: Iterable[torch.Tensor], size: tuple[int, int]) -> Iterator[Frame]:
    """
    Part a film into scenes and follow what moves within each.

    A frame that does not match the one before ends the scene only if none of the next six does: else it is a flash,
    over which the scene goes on. What is decided depends on frames from the start of the scene on only.

    Args:
        lumas (iterable of `torch.Tensor` of shape `(height, width)`): Integer codes, all of one size.
        size (`tuple`): `(rows, columns)` at which motion is looked at.

    Returns:
        Iterator of `Frame`: One for each luma, in their order, at most seven behind.
    """
    frames = (Frame(luma, shrink(luma, size)) for luma in lumas)
    ahead: deque[Frame] = deque()

    def look(number: int) -> Frame | None:
        while len(ahead) <= number and (frame := next(frames, None)) is not None:
            ahead.append(frame)
        return ahead[number] if len(ahead) > number else None

    last = None
    while look(0) is not None:
        if last is None:
            last = ahead.popleft()
            yield Frame(last.luma, last.small, starts_scene=True)
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
                last = ahead.popleft()
                yield Frame(last.luma, last.small, odd=number < skipped, motion=motion)
        elif first_same:  # lights go on, or off: it looks otherwise from here on
            last = ahead.popleft()
            yield Frame(last.luma, last.small, motion=first)
        elif frame is None:  # a flash, a fade or a blank until the end
            if all(is_flat(blank) for blank in ahead):
                while ahead:
                    last = ahead.popleft()
                    yield Frame(last.luma, last.small, odd=True, motion=torch.zeros_like(first))
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
