"""A film file as it is read: its frames in their order, each with its time, and what is the matter with it."""

import bisect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.logging
import numpy as np
from av.filter import Graph

from colorize_pipeline.apps.film_planes import Space, read_luma, space_of


class FilmError(Exception):
    """A film that cannot be read or written, in one line."""


# What PyAV raises of files and codecs.
AV_ERRORS = (av.FFmpegError, OSError, ValueError)
# What decoders say of a picture that they could read in part only.
_DAMAGE = re.compile(r"mismatch|error|damaged|corrupt|conceal|invalid|overread|bytestream", re.IGNORECASE)


@dataclass(frozen=True)
class Picture:
    """
    A frame.

    Args:
        luma (`np.ndarray` of shape `(height, width)`): Codes as they are stored.
        pts (`int`), duration (`int`): When and how long it is shown, in the time base of the film; 0 if not told.
    """

    luma: np.ndarray
    pts: int
    duration: int


@dataclass(frozen=True)
class Film:
    """
    What is known of a film before it is read.

    Args:
        path (`Path`): Of its file.
        index (`int`): Of the stream with the pictures.
        width (`int`), height (`int`): Of the pictures as they are stored, in pixels.
        space (`Space`): How codes are meant.
        rotation (`int`): By how many degrees, counterclockwise, players turn the pictures: a multiple of 90.
        time_base (`Fraction`), rate (`Fraction`): Seconds of a unit of time; frames in a second, on average.
        aspect (`Fraction`): Width of a pixel by its height.
        frames (`int`): How many there may be; 0 if the file does not tell.
        interlaced (`bool`): Whether the first picture says so.
    """

    path: Path
    index: int
    width: int
    height: int
    space: Space
    rotation: int
    time_base: Fraction
    rate: Fraction
    aspect: Fraction
    frames: int
    interlaced: bool

    @property
    def size_shown(self) -> tuple[int, int]:
        """Width and height as players turn it."""
        return (self.height, self.width) if self.rotation % 180 else (self.width, self.height)


def open_film(path: Path) -> Film:
    """
    Look at a film.

    Raises:
        `FilmError`: if it cannot be read, or has no pictures that move.
    """
    av.logging.set_level(av.logging.FATAL)  # what goes wrong here is told in a line of our own
    try:
        with av.open(str(path)) as container:
            streams = [stream for stream in container.streams.video if not _is_cover(stream)]
            if not streams:
                raise FilmError(f"{path}: there is no video in it")
            stream = streams[0]
            frame, _ = next(_decode(container, stream, lambda pts: None), (None, False))
            if frame is None:
                raise FilmError(f"{path}: no frame of it can be read")
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            seconds = stream.duration * stream.time_base if stream.duration else (container.duration or 0) / 1e6
            return Film(
                path=path,
                index=stream.index,
                width=frame.width,
                height=frame.height,
                space=space_of(frame),
                rotation=round(frame.rotation / 90) * 90,
                time_base=stream.time_base,
                rate=rate,
                aspect=stream.sample_aspect_ratio or Fraction(1),
                frames=stream.frames or round(seconds * rate),
                interlaced=frame.interlaced_frame,
            )
    except AV_ERRORS as error:
        raise FilmError(f"{path}: it cannot be read: {reason_of(error)}") from error


def read_pictures(
    film: Film,
    start: float | None,
    end: float | None,
    deinterlace: bool,
    say: Callable[[str], None],
) -> Iterator[Picture]:
    """
    Read a film. A frame that is broken is repeated from the one before it, or after it at the start, and named.

    Args:
        film (`Film`): As [`open_film`] gives it.
        start (`float` or `None`), end (`float` or `None`): Seconds; only frames shown from the one on and before the
            other.
        deinterlace (`bool`): Make a full picture of every two fields.
        say (callable): Told of each broken frame in a line.

    Raises:
        `FilmError`: if the file cannot be read any more.
    """
    try:
        with av.open(str(film.path)) as container:
            stream = container.streams[film.index]
            if start:
                container.seek(int(start / stream.time_base), stream=stream)
            frames = _whole_frames(film, container, stream, say)
            if deinterlace:
                frames = _deinterlaced(frames, stream)
            for frame, pts, duration in frames:
                seconds = float(pts * film.time_base)
                if start is not None and seconds < start:
                    continue
                if end is not None and seconds >= end:
                    return
                if (frame.width, frame.height) != (film.width, film.height):
                    frame = frame.reformat(width=film.width, height=film.height)
                yield Picture(read_luma(frame, film.space), pts, duration)
    except AV_ERRORS as error:
        raise FilmError(f"{film.path}: it cannot be read any further: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """Tell an error of PyAV without its number and its log."""
    if isinstance(error, av.InvalidDataError):
        return "it is no film, or its beginning is lost"
    return getattr(error, "strerror", None) or str(error)


def _is_cover(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _decode(
    container: av.container.InputContainer, stream: av.VideoStream, broken: Callable[[int | None], None]
) -> Iterator[tuple[av.VideoFrame, bool]]:
    """
    Decode what can be decoded, in one thread or by slices: so that an error is that of its own packet.

    Yields:
        `tuple`: a frame, and whether it is damaged. Of packets that give none `broken` is told the time.
    """
    stream.thread_type = "SLICE"
    av.logging.set_level(av.logging.ERROR)
    damaged = set()
    for packet in container.demux(stream):
        time = packet.pts if packet.pts is not None else packet.dts
        if packet.size and not any(memoryview(packet)[:64]) and not any(memoryview(packet)):
            broken(time)  # a hole of the disk, which some decoders take for a picture
            continue
        # Most decoders hide damage as well as they can, and only log it.
        with av.logging.Capture(local=False) as logged:
            try:
                frames = packet.decode()
            except av.InvalidDataError:
                broken(time)
                continue
        if any(_DAMAGE.search(message) for _, _, message in logged):
            damaged.add(time)
        for frame in frames:
            yield frame, frame.is_corrupt or frame.pts in damaged
            damaged.discard(frame.pts)


def _whole_frames(
    film: Film, container: av.container.InputContainer, stream: av.VideoStream, say: Callable[[str], None]
) -> Iterator[tuple[av.VideoFrame, int, int]]:
    """Give frames with pts and duration, and others in the place of the broken."""
    lost: list[int] = []

    def note(pts: int | None) -> None:
        if pts is not None:
            bisect.insort(lost, pts)
            say(f"{film.path}: the frame at {_clock(pts * film.time_base)} is broken: another is shown in its place")

    last, waiting, next_pts = None, [], 0
    for frame, is_damaged in _decode(container, stream, note):
        pts = frame.pts if frame.pts is not None else next_pts
        duration = int(frame.duration or 0)
        next_pts = pts + (duration or max(1, round(1 / (film.rate * film.time_base))))
        if is_damaged:
            note(pts)
            waiting.append((pts, duration))
            continue
        while lost and lost[0] < pts:
            earlier = lost.pop(0)
            known = dict(waiting).get(earlier, 0)
            yield last if last is not None else frame, earlier, known
        waiting.clear()
        yield frame, pts, duration
        last = frame
    for pts in lost if last is not None else ():
        yield last, pts, dict(waiting).get(pts, 0)


def _deinterlaced(
    frames: Iterator[tuple[av.VideoFrame, int, int]], stream: av.VideoStream
) -> Iterator[tuple[av.VideoFrame, int, int]]:
    """Pass frames through FFmpeg's bwdif, a frame for a frame, each with the time it had."""
    graph, times = None, []
    for frame, pts, duration in frames:
        if graph is None:
            graph = Graph()
            source = graph.add_buffer(template=stream)
            bwdif = graph.add("bwdif", "mode=send_frame:deint=all")
            sink = graph.add("buffersink")
            source.link_to(bwdif)
            bwdif.link_to(sink)
            graph.configure()
        times.append((pts, duration))
        frame.pts = pts  # a frame shown again has another time than its own
        graph.push(frame)
        yield from _pulled(graph, times)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph, times)


def _pulled(graph: Graph, times: list[tuple[int, int]]) -> Iterator[tuple[av.VideoFrame, int, int]]:
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield frame, *times.pop(0)


def _clock(seconds: Fraction) -> str:
    minutes, rest = divmod(float(seconds), 60)
    return f"{int(minutes // 60)}:{int(minutes % 60):02}:{rest:06.3f}"
