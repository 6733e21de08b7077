"""
Files of boxes: JPEG 2000, AVIF and HEIC. Their depth, the metadata that Pillow does not look for, and their pixels
where Pillow would cut them to 8 bit.

Source: ISO/IEC 15444-1, annexes A.5.1 and I; ISO/IEC 14496-12 (boxes) and 23008-12 (pictures in them); JPEG XT and
exiftool's documentation for the identifiers of Exif and IPTC in JPEG 2000.
"""

import importlib
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from colorize_pipeline.apps.photo import scale_codes


JP2_SIGNATURE, CODESTREAM = b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF_BOX = b"JpgTiffExif->JP2"
_IPTC_BOX = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_MAX_BOX = 64 << 20
_ARCHIVE_HINT = (
    "more than 8 bit in this format need two more packages, the extra `archive`: pip install -e '.[archive]'"
)
_HEIC_HINT = (
    "HEIC needs one more package, the extra `heic` (pip install -e '.[heic]'); or export the photo as JPEG or TIFF"
)


def brand(head: bytes) -> str | None:
    """`"AVIF"`, `"HEIC"` or `None`, by the first bytes of a file; a file of both is AVIF."""
    if head[4:8] != b"ftyp":
        return None
    size = struct.unpack(">I", head[:4])[0]
    brands = [head[8:12], *(head[start : start + 4] for start in range(16, min(size, len(head)), 4))]
    if any(name in _AVIF_BRANDS for name in brands):
        return "AVIF"
    return "HEIC" if any(name in _HEIC_BRANDS for name in brands) else None


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = 0
    while start + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        head = 8
        if size == 1 and start + 16 <= len(data):
            size, head = struct.unpack(">Q", data[start + 8 : start + 16])[0], 16
        size = size or len(data) - start
        if size < head:
            return
        yield kind, data[start + head : start + size]
        start += size


def jp2_metadata(data: bytes) -> dict[str, bytes]:
    """What a JPEG 2000 file says beside the picture: `"exif"`, `"xmp"`, `"iptc"` and `"icc_profile"`."""
    found = {}
    for kind, content in _boxes(data) if data.startswith(JP2_SIGNATURE) else ():
        if kind == b"jp2h":
            for inner, box in _boxes(content):
                if inner == b"colr" and box[:1] == b"\2":  # the method by a profile (I.5.3.3)
                    found["icc_profile"] = box[3:]
        elif kind == b"uuid" and len(content) <= _MAX_BOX:
            name = {_XMP_BOX: "xmp", _EXIF_BOX: "exif", _IPTC_BOX: "iptc"}.get(content[:16])
            if name:
                found.setdefault(name, content[16:])
    return found


def jp2_depth(data: bytes) -> int:
    """Bits a channel: the most that the codestream has (A.5.1, Ssiz)."""
    at = data.find(CODESTREAM)
    if at < 0 or len(data) < at + 42:
        return 8
    count = struct.unpack(">H", data[at + 40 : at + 42])[0]
    return max(((depth & 0x7F) + 1 for depth in data[at + 42 : at + 42 + 3 * count : 3]), default=8)


def avif_depth(data: bytes) -> int:
    """Bits a channel (AV1 in ISOBMFF, section 2.3.3: high_bitdepth and twelve_bit of av1C)."""
    at = data.find(b"av1C")
    flags = data[at + 6] if 0 <= at < len(data) - 6 else 0
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10


def avif_code_points(data: bytes) -> tuple[int, int] | None:
    """Primaries and transfer as ITU-T H.273 counts them, where a file names its color space so (14496-12, 12.1.5)."""
    at = data.find(b"colrnclx")
    return struct.unpack(">2H", data[at + 8 : at + 12]) if 0 <= at < len(data) - 12 else None


def decode_deep(path: Path, kind: str, depth: int) -> np.ndarray:
    """
    Decode more than 8 bit a channel.

    Args:
        kind (`str`): `"JPEG2000"` or `"AVIF"`.
        depth (`int`): Bits a channel.

    Returns:
        `np.ndarray` of type `uint16`: `(height, width)` or `(height, width, channels)`, stretched to 16 bit.
    """
    if depth > 16:
        raise ValueError(f"{depth} bit a channel: save it with 16")
    try:
        decode = getattr(
            importlib.import_module("imagecodecs"), {"JPEG2000": "jpeg2k", "AVIF": "avif"}[kind] + "_decode"
        )
    except ImportError as error:
        raise ValueError(_ARCHIVE_HINT) from error
    try:
        codes = decode(path.read_bytes())
    except (RuntimeError, AttributeError) as error:  # the decoders' own errors
        raise ValueError(f"cannot be decoded: {error}") from error
    codes = codes[0] if codes.ndim == 4 else codes
    if codes.dtype.kind != "u" or codes.ndim not in (2, 3):
        raise ValueError("pixels of a kind that is no photo's: save it with 8 or 16 bit a channel")
    return scale_codes(codes, depth)


def open_heic(path: Path) -> tuple[Image.Image | np.ndarray, dict]:
    """
    Decode a HEIC file; it comes upright.

    Returns:
        `tuple`: an image of 8 bit or codes of 16, with opacity if it has any; and its metadata as Pillow names it.
    """
    try:
        pillow_heif = importlib.import_module("pillow_heif")
    except ImportError as error:
        raise ValueError(_HEIC_HINT) from error
    try:
        with path.open("rb") as stream:
            file = pillow_heif.open_heif(stream, convert_hdr_to_8bit=False)
            width, height = file.size
            if Image.MAX_IMAGE_PIXELS and width * height > 2 * Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError(f"{width} x {height} pixels")
            info = dict(file.info)
            if ";16" not in file.mode:
                image = file.to_pillow()
                image.info = {}
                return image, info
            spare = 16 - int(info["bit_depth"])  # the codes come in the upper bits
            return scale_codes(np.asarray(file).astype(np.uint16) >> spare, 16 - spare), info
    except (RuntimeError, EOFError, LookupError, ValueError) as error:
        raise ValueError(f"a HEIC file that cannot be decoded ({error}): export the photo as JPEG or TIFF") from error
