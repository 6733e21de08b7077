"""Files of 16 bit a channel, which Pillow reads and writes only in gray."""

import importlib
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


_PHOTOMETRIC = 262
TIFF_XMP = 700
_ARCHIVE_HINT = "16-bit files need two more packages, those of the extra `archive`: pip install -e '.[archive]'"


def read_sixteen_bit_rgb(path: Path, file: Image.Image) -> np.ndarray | None:
    """Read what Pillow would silently cut to 8 bit; `None` for all other files."""
    try:
        if file.format == "TIFF" and file.mode in ("RGB", "RGBA") and tiff_depth(file) == 16:
            pixels = _import_archive("tifffile").imread(path, key=0)
        elif file.format == "PNG" and file.mode in ("RGB", "RGBA") and _png_depth(path) == 16:
            pixels = _import_archive("imagecodecs").png_decode(path.read_bytes())
        elif file.format == "JPEG2000" and file.mode in ("RGB", "RGBA") and 8 < (depth := _jp2_depth(path)) <= 16:
            pixels = _scale_codes(_import_archive("imagecodecs").jpeg2k_decode(path.read_bytes()), depth)
        else:
            return None
    except RuntimeError as error:  # the decoders' own errors
        raise ValueError(f"cannot be decoded: {error}") from error
    if pixels.ndim == 3 and pixels.shape[0] in (3, 4) and pixels.shape[2] > 4:  # planes after one another
        pixels = np.moveaxis(pixels, 0, 2)
    return pixels[:, :, :3]


def true_gray_codes(upright: Image.Image, file: Image.Image) -> Image.Image:
    """Bring the codes of a gray TIFF of 9 to 16 bit to 0 (black) to 65535 (white); Pillow gives them as they are."""
    if file.format != "TIFF" or not file.mode.startswith("I;16"):
        return upright
    depth, white_is_zero = tiff_depth(file), file.tag_v2.get(_PHOTOMETRIC) == 0  # Source: TIFF 6.0, section 8
    if depth == 16 and not white_is_zero:
        return upright
    codes = _scale_codes(np.asarray(upright), depth)
    return Image.fromarray(65_535 - codes if white_is_zero else codes)


def tiff_depth(file: Image.Image) -> int:
    """Bits a channel."""
    return file.tag_v2.get(258, (8,))[0]  # Source: TIFF 6.0, section 8, BitsPerSample


def encode_sixteen_bit_png(colors: np.ndarray, donor: bytes) -> bytes:
    """Encode `(height, width, 3)` codes of type `uint16`, with the metadata of another PNG, which Pillow can write."""
    metadata = [chunk for chunk in _png_chunks(donor) if chunk[:4] not in (b"IHDR", b"IDAT", b"IEND")]
    encoded = _import_archive("imagecodecs").png_encode(colors, level=3)
    signature, chunks = encoded[:8], _png_chunks(encoded)
    written = [signature]
    for chunk in (chunks[0], *metadata, *chunks[1:]):
        written.append(struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)))
    return b"".join(written)


def save_sixteen_bit_tiff(
    file,
    colors: np.ndarray,
    texts: dict[int, str],
    xmp: bytes | None,
    icc_profile: bytes | None,
    dpi: tuple[float, float] | None,
) -> None:
    """Write `(height, width, 3)` codes of type `uint16`, with the Exif tags that are texts."""
    # Encoded here: the field is meant for ASCII, and tifffile refuses any other string.
    tags = [(tag, "s", 0, text.encode(), True) for tag, text in texts.items()]
    if xmp:
        tags.append((TIFF_XMP, "B", len(xmp), xmp, True))
    _import_archive("tifffile").imwrite(
        file,
        colors,
        photometric="rgb",
        compression="deflate",
        predictor=True,
        resolution=dpi,
        resolutionunit="INCH" if dpi else None,
        iccprofile=icc_profile,
        extratags=tags,
        metadata=None,
        software=False,
    )


def _scale_codes(codes: np.ndarray, depth: int) -> np.ndarray:
    """Stretch codes of so many bits to 16."""
    white = (1 << depth) - 1
    return ((codes.astype(np.uint32) * 65_535 + white // 2) // white).astype(np.uint16)


def _png_depth(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(25)[24]  # Source: PNG third edition, 11.2.1, IHDR: the byte after width and height


def _jp2_depth(path: Path) -> int:
    with path.open("rb") as file:
        head = file.read(4096)
    found = head.find(b"ihdr")  # Source: ISO/IEC 15444-1, I.5.3.1: height, width, number of channels, depth - 1
    return (head[found + 14] & 0x7F) + 1 if 0 <= found < len(head) - 14 else 8


def _png_chunks(png: bytes) -> list[bytes]:
    """Split a PNG into chunks of type and data (Source: PNG third edition, 5.3)."""
    chunks, start = [], 8
    while start < len(png):
        end = start + 8 + struct.unpack_from(">I", png, start)[0]
        chunks.append(png[start + 4 : end])
        start = end + 4
    return chunks


def _import_archive(name: str):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(_ARCHIVE_HINT) from error
