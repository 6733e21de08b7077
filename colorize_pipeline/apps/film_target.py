"""A film file as it is written: pictures to packets, these to segments, all segments with the sound to one file."""

import heapq
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.codec.context import Flags

from colorize_pipeline.apps.film_planes import FULL_RANGE, LIMITED_RANGE, Space, change_depth, chroma_planes
from colorize_pipeline.apps.film_source import AV_ERRORS, Film, FilmError, Picture, reason_of


ENCODERS = {"h264": "libx264", "h265": "libx265", "ffv1": "ffv1"}
# Which of them a file may hold, the usual one first; and which one is used for it without a loss.
CODECS_OF = {
    ".mp4": ("h264", "h265"),
    ".m4v": ("h264", "h265"),
    ".mov": ("h264", "h265"),
    ".mkv": ("h264", "h265", "ffv1"),
    ".avi": ("ffv1",),
}
_OF_MP4 = (".mp4", ".m4v", ".mov")
_PACKET = struct.Struct("<qqqBQ")  # pts, dts, duration, whether it is a key frame, bytes
# Of the file itself, or of the encoder that made it.
_NOT_CARRIED = ("encoder", "major_brand", "minor_version", "compatible_brands", "duration", "number_of_frames")


@dataclass(frozen=True)
class Encoding:
    """
    How pictures are encoded.

    Args:
        codec (`str`): One of `ENCODERS`.
        crf (`int`): Constant rate factor; lower is better and larger.
        lossless (`bool`): Lose nothing instead.
        full_chroma (`bool`): 4:4:4 instead of 4:2:0.
        space (`Space`): How codes are meant.
    """

    codec: str
    crf: int
    lossless: bool
    full_chroma: bool
    space: Space

    @property
    def pixel_format(self) -> str:
        depth = "" if self.space.bits == 8 else f"{self.space.bits}le"
        return f"yuv{'444' if self.full_chroma else '420'}p{depth}"


def choose_depth(codec: str, wanted: int) -> int:
    """Give the largest number of bits up to the one that is wanted that an encoder takes."""
    formats = {form.name for form in av.Codec(ENCODERS[codec], "w").video_formats}
    depths = [bits for bits in (8, 9, 10, 12, 16) if f"yuv444p{'' if bits == 8 else f'{bits}le'}" in formats]
    return max(bits for bits in depths if bits <= max(8, wanted))


class Encoder:
    """
    One segment: pictures in, packets in a file.

    Args:
        film (`Film`): Where the pictures come from.
        encoding (`Encoding`): How they are encoded.
        path (`Path`): The file of the segment, which is made.
    """

    def __init__(self, film: Film, encoding: Encoding, path: Path):
        self._film, self._encoding = film, encoding
        self._context = av.CodecContext.create(ENCODERS[encoding.codec], "w")
        _set_up(self._context, film, encoding)
        self._durations: dict[int, int] = {}
        self._file = path.open("wb")

    def write(self, picture: Picture, chroma: torch.Tensor) -> None:
        """
        Encode a picture.

        Args:
            picture (`Picture`): Its luma, in the codes of the film.
            chroma (`torch.Tensor` of shape `(2, rows, columns)`): What it is painted with.
        """
        encoding = self._encoding
        luma = change_depth(picture.luma, self._film.space, encoding.space.bits)
        planes = (luma, *chroma_planes(luma, chroma, encoding.space, half_size=not encoding.full_chroma))
        frame = av.VideoFrame(self._film.width, self._film.height, encoding.pixel_format)
        for plane, codes in zip(frame.planes, planes, strict=True):
            buffer = np.frombuffer(plane, codes.dtype).reshape(-1, plane.line_size // codes.itemsize)
            buffer[: codes.shape[0], : codes.shape[1]] = codes
        frame.pts, frame.time_base, frame.duration = picture.pts, self._film.time_base, picture.duration
        _tag(frame, encoding.space)
        self._durations[picture.pts] = picture.duration
        self._keep(self._context.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds."""
        self._keep(self._context.encode(None))
        self._file.close()

    def _keep(self, packets: Sequence[av.Packet]) -> None:
        for packet in packets:
            duration = self._durations.pop(packet.pts, 0)
            head = _PACKET.pack(packet.pts, packet.dts, duration, packet.is_keyframe, packet.size)
            self._file.write(head)
            self._file.write(bytes(packet))


def assemble(
    film: Film,
    encoding: Encoding,
    segments: list[Path],
    target: Path,
    start: float | None,
    end: float | None,
    comment: str,
    say: Callable[[str], None],
) -> None:
    """
    Make one file of segments, with sound, subtitles, chapters and metadata of the film as they are.

    Args:
        film (`Film`), encoding (`Encoding`), segments (`list` of `Path`): What was encoded, and how.
        target (`Path`): The file to make, whose suffix says which kind.
        start (`float` or `None`), end (`float` or `None`): Seconds, as in [`read_pictures`].
        comment (`str`): What the file says of how it was made.
        say (callable): Told of what the kind of file has no place for.

    Raises:
        `FilmError`: if it cannot be written.
    """
    try:
        # Bit-exact: without random numbers and the time of day, so that the same film gives the same bytes.
        options = {"fflags": "+bitexact"}
        if target.suffix in _OF_MP4:
            options["movflags"] = "use_metadata_tags"  # or those that Apple has not thought of are left out
        with av.open(str(film.path)) as source, av.open(str(target), "w", options=options) as out:
            video = out.add_stream(ENCODERS[encoding.codec], rate=film.rate)
            _set_up(video.codec_context, film, encoding)
            video.time_base = film.time_base
            if target.suffix in _OF_MP4 and encoding.codec == "h265":
                video.codec_context.codec_tag = "hvc1"  # the one that Apple's players take
            if film.rotation:
                video.set_display_rotation(film.rotation)
            video.metadata.update(_carried(source.streams[film.index].metadata))
            streams = {}
            for stream in source.streams:
                if stream.index == film.index or (stream.type == "data" and source.chapters()):
                    continue  # in MP4 the names of chapters are a stream, too, and are written with them
                if stream.type not in ("audio", "subtitle") or stream.codec_context is None:
                    say(f"{film.path}: stream {stream.index} ({stream.type}) is left out")
                elif (name := stream.codec_context.codec.canonical_name) not in out.supported_codecs:
                    say(f"{film.path}: stream {stream.index} ({name}) has no place in {target.suffix} and is left out")
                else:
                    streams[stream.index] = out.add_stream_from_template(stream)
                    streams[stream.index].metadata.update(_carried(stream.metadata))
            out.metadata.update(_carried(source.metadata))
            comments = [text for key, text in source.metadata.items() if key.lower() == "comment"]
            out.metadata["comment"] = "\n".join([*comments, comment])
            if start is None and end is None and source.chapters():
                out.set_chapters(source.chapters())
            offset = Fraction(start).limit_denominator(1000) if start else Fraction(0)
            pictures = _video_packets(film, segments, video, offset)
            others = _other_packets(source, streams, start, end, offset)
            for _, _, packet in heapq.merge(pictures, others, key=lambda entry: entry[:2]):
                out.mux(packet)
    except AV_ERRORS as error:
        raise FilmError(f"{target.name} cannot be written: {reason_of(error)}") from error


def _set_up(context: av.VideoCodecContext, film: Film, encoding: Encoding) -> None:
    context.width, context.height, context.pix_fmt = film.width, film.height, encoding.pixel_format
    context.time_base, context.framerate = film.time_base, film.rate
    context.sample_aspect_ratio = film.aspect
    context.flags |= Flags.global_header | Flags.bitexact
    context.thread_count = 4  # whatever the machine has, for the bytes may depend on it
    _tag(context, encoding.space)
    if encoding.codec == "h264":
        # With x264's macroblock tree the same narrow frames gave other bytes in 19 of 40 runs on a processor with
        # AVX-512, and none without it.
        quality = {"qp": "0"} if encoding.lossless else {"crf": str(encoding.crf)}
        context.options = {**quality, "x264-params": "mbtree=0"}
    elif encoding.codec == "h265":
        quality = "lossless=1" if encoding.lossless else f"crf={encoding.crf}"
        context.options = {"x265-params": f"{quality}:log-level=error:info=0:pools=1:frame-threads=1"}
    else:  # the settings of archives: each frame for itself, with checksums
        context.options = {"level": "3", "slicecrc": "1", "slices": "4"}
        context.gop_size = 1


def _tag(tagged: av.VideoFrame | av.VideoCodecContext, space: Space) -> None:
    tagged.color_range = FULL_RANGE if space.full_range else LIMITED_RANGE
    tagged.colorspace, tagged.color_primaries, tagged.color_trc = space.matrix, space.primaries, space.transfer


def _carried(metadata: dict[str, str]) -> dict[str, str]:
    return {key: text for key, text in metadata.items() if key.lower() not in _NOT_CARRIED}


def read_packets(path: Path) -> Iterator[tuple[int, int, int, bool, bytes]]:
    """Read a segment: pts, dts, duration, whether it is a key frame, and the bytes of each packet."""
    with path.open("rb") as file:
        while head := file.read(_PACKET.size):
            pts, dts, duration, is_key, size = _PACKET.unpack(head)
            yield pts, dts, duration, bool(is_key), file.read(size)


def _video_packets(
    film: Film, segments: list[Path], stream: av.VideoStream, offset: Fraction
) -> Iterator[tuple[Fraction, int, av.Packet]]:
    """
    Give the packets of all segments as of one stream.

    Each encoder has counted its time of decoding from its own start. Over all segments the i-th packet is decoded
    when the (i - delay)-th picture is shown, with the least delay at which none is shown before.
    """
    shown, delay = [], 0
    for path in segments:
        times = [pts for pts, *_ in read_packets(path)]
        rank = {pts: number for number, pts in enumerate(sorted(times))}
        delay = max(delay, *(number - rank[pts] for number, pts in enumerate(times)))
        shown += sorted(times)
    step = shown[1] - shown[0] if len(shown) > 1 else 1
    shift = int(offset / film.time_base)
    number = 0
    for path in segments:
        for pts, _, duration, is_key, content in read_packets(path):
            packet = av.Packet(content)
            dts = shown[number - delay] if number >= delay else shown[0] - (delay - number) * step
            packet.pts, packet.dts, packet.duration = pts - shift, dts - shift, duration
            packet.time_base, packet.is_keyframe, packet.stream = film.time_base, is_key, stream
            yield dts * film.time_base, 0, packet
            number += 1


def _other_packets(
    source: av.container.InputContainer, streams: dict, start: float | None, end: float | None, offset: Fraction
) -> Iterator[tuple[Fraction, int, av.Packet]]:
    """Give the packets of sound and subtitles, as they are; with `start` those from there on, counted from it."""
    if not streams:
        return
    latest = Fraction(-(1 << 40))
    for packet in source.demux([source.streams[index] for index in streams]):
        if packet.dts is None and packet.pts is None:  # the end of a stream
            continue
        time = (packet.pts if packet.pts is not None else packet.dts) * packet.time_base
        if (start is not None and time < start) or (end is not None and time >= end):
            continue
        index, shift = packet.stream_index, int(offset / packet.time_base)
        packet.stream = streams[index]
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        latest = max(latest, time)
        yield latest, 1 + index, packet


def encoding_of(
    film: Film,
    suffix: str,
    codec: str | None,
    crf: int | None,
    lossless: bool,
    bits: int | None,
    full_chroma: bool,
) -> Encoding:
    """
    Choose how a film is encoded.

    Args:
        film (`Film`): It.
        suffix (`str`): Of the file to write.
        codec (`str` or `None`): One of `ENCODERS`; `None` for the usual one.
        crf (`int` or `None`), lossless (`bool`): As in [`Encoding`].
        bits (`int` or `None`): Of a code; `None` for that of the film.
        full_chroma (`bool`): Ask for 4:4:4, which FFV1 and whatever is lossless have in any case.

    Raises:
        `FilmError`: if the file cannot hold it.
    """
    possible = CODECS_OF.get(suffix.lower())
    if possible is None:
        raise FilmError(f"OUT must end in {', '.join(CODECS_OF)}, not {suffix!r}")
    codec = codec or ("ffv1" if lossless and "ffv1" in possible else possible[0])
    if codec not in possible:
        raise FilmError(f"{suffix} holds {' or '.join(possible)}, not {codec}")
    lossless = lossless or codec == "ffv1"
    if crf is None:
        crf = 18 if codec == "h264" else 20
    full_chroma = full_chroma or lossless
    if not full_chroma and (film.width % 2 or film.height % 2):
        full_chroma = True  # 4:2:0 has even sides
    depth = choose_depth(codec, bits or film.space.bits)
    return Encoding(codec, crf, lossless, full_chroma, replace(film.space, bits=depth))
