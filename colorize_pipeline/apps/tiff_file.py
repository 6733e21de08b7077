"""
TIFF: its pages and the pictures of different sizes in them, the kinds of pixels that Pillow cannot read, and writing.

Source: TIFF 6.0, sections 2, 8, 22 and 23; TIFF Technical Note 1 (SubIFDs); BigTIFF by the libtiff project.
"""

import logging
import mmap
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from colorize_pipeline.apps import color_space
from colorize_pipeline.apps.exif import (
    BULKY,
    LONG,
    LONG8,
    RATIONAL,
    SHORT,
    SUB_IFDS,
    UNDEFINED,
    Directory,
    Exif,
    Field,
    Layout,
    encode_directory,
    encode_header,
    read_directory,
    read_header,
)
from colorize_pipeline.apps.photo import Photo, by_rows, scale_codes


_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_DESCRIPTION, _STRIPS, _SAMPLES, _ROWS, _STRIP_BYTES, _X, _Y, _PLANAR = 270, 273, 277, 278, 279, 282, 283, 284
_UNIT, _EXTRA, _FORMAT, _XMP, _IPTC, _ICC = 296, 338, 339, 700, 33723, 34675
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK, _CIELAB, _ICCLAB, _SENSOR, _LINEAR_RAW = 0, 1, 2, 5, 8, 9, 32803, 34892
_UNSIGNED, _FLOAT = 1, 3
_PREMULTIPLIED, _OPACITY = 1, 2  # kinds of extra samples
# Of 8-bit pictures those that Pillow's libtiff can unpack: none, fax, LZW, JPEG, deflate, PackBits, LZMA, Zstandard.
_COMPRESSIONS_OF_PILLOW = (0, 1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000)
_MAX_PAGES = 10_000
_ROWS_PER_STRIP_BYTES = 1 << 20
_READ_AT_ONCE = 16 << 20  # bytes of packed tiles, beside the pixels that come of them
_MAX_CLASSIC = (1 << 32) - (64 << 20)  # offsets have 32 bits; metadata comes last
_DIVIDED = "its colors were multiplied with its opacity, and are divided by it"
_ARCHIVE_HINT = "this kind of TIFF needs two more packages, those of the extra `archive`: pip install -e '.[archive]'"


@dataclass(frozen=True)
class Page:
    """
    One picture of a file.

    Args:
        fields (`dict`): The tags of its own directory.
        order (`str`): The order of bytes in them.
        offset (`int`): Where the directory is.
        number (`int` or `None`): Which directory of the chain it is; `None` for one below another.
        described_by (`Exif`): The tags that describe the photo: its own, or those of the page that it belongs to.
    """

    fields: Directory
    order: str
    offset: int
    number: int | None
    described_by: Exif

    def number_of(self, tag: int, default: int = 0) -> int:
        values = self.numbers_of(tag)
        return int(values[0]) if values else default

    def numbers_of(self, tag: int) -> list[int | float]:
        field = self.fields.get(tag)
        return field.numbers(self.order) if isinstance(field, Field) and field.kind != 2 else []

    @property
    def size(self) -> tuple[int, int]:
        return self.number_of(_WIDTH), self.number_of(_HEIGHT)

    @property
    def kind_of_pixels(self) -> tuple[int, int, int, int]:
        """The color model, how many samples a pixel has, how many bits the largest of them, and of what they are."""
        depth = max(int(depth) for depth in self.numbers_of(_BITS) or [1])
        return self.number_of(_PHOTOMETRIC), self.number_of(_SAMPLES, 1), depth, self.number_of(_FORMAT, _UNSIGNED)

    @property
    def is_reduced(self) -> bool:
        """Whether it is a small version, or a mask, of another picture (NewSubfileType, bits 0 and 2)."""
        return bool(self.number_of(_SUBFILE) & 0b101)


def is_tiff(head: bytes) -> bool:
    """Whether a file begins so, or so as a BigTIFF does."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_pages(path: Path) -> list[Page]:
    """
    Find the photos in a file: of each page the picture at full size, not its thumbnails.

    Raises:
        `ValueError`: if it is no TIFF, or has no picture.
    """
    with path.open("rb") as file:
        if path.stat().st_size < 8:
            raise ValueError("the file is cut off")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if not is_tiff(data[:4]):
                raise ValueError("no TIFF header")
            layout, offset = read_header(data)
            pages, seen = [], set()
            while offset and offset not in seen and len(seen) < _MAX_PAGES:
                seen.add(offset)
                fields, following, damaged = read_directory(data, layout, offset, BULKY)
                words = Exif(layout.order, fields, damaged)
                page = Page(fields, layout.order, offset, len(seen) - 1, words)
                below = [int(at) for at in page.numbers_of(SUB_IFDS)[:64]]
                parts = [read_directory(data, layout, at, BULKY)[0] for at in below]
                pages.append([page, *(Page(part, layout.order, at, None, words)
                                      for part, at in zip(parts, below, strict=True) if part)])  # fmt: skip
                offset = following
    photos = []
    for group in pages:
        whole = [page for page in group if not page.is_reduced and all(page.size)]
        photos += [max(whole, key=lambda page: page.size[0] * page.size[1])] if whole else []
    if not photos:  # nothing says that it is whole: the largest one is
        rest = [page for group in pages for page in group if all(page.size)]
        photos = [max(rest, key=lambda page: page.size[0] * page.size[1])] if rest else []
    if not photos:
        raise ValueError("there is no picture in this TIFF, or it is damaged")
    return photos


def read_pixels(path: Path, page: Page) -> tuple[Image.Image | np.ndarray | None, np.ndarray | None, str]:
    """
    Read what Pillow cannot, or not as it is meant.

    Returns:
        `tuple`: pixels as in [`Photo`] (not turned) or `None`: Pillow can; opacity; and a note.

    Raises:
        `ValueError`: for pixels whose meaning is not defined.
        `PIL.Image.DecompressionBombError`: if there are more than allowed.
    """
    width, height = page.size
    if Image.MAX_IMAGE_PIXELS and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"{width} x {height} pixels")
    photometric, samples, depth, kind = page.kind_of_pixels
    if photometric in (_SENSOR, _LINEAR_RAW) or page.number_of(_COMPRESSION) == 34713:  # that of Nikon's raw files
        raise ValueError("a camera's raw file: develop it, export it as TIFF of 16 bit, and colorize that")
    if depth == 1 and samples == 1:
        return None, None, ""
    gray_sixteen = samples == 1 and kind == _UNSIGNED and depth <= 16 and photometric <= 1
    eight_bit = kind == _UNSIGNED and depth <= 8 and photometric in (0, 1, 2, 3, 5, 6)
    known = page.number is not None and page.number_of(_COMPRESSION) in _COMPRESSIONS_OF_PILLOW
    if known and (gray_sixteen or eight_bit or photometric == _CMYK and depth == 16):
        if photometric == _CMYK and depth == 16:
            return None, None, "16-bit CMYK is read at 8 bit"
        return None, None, _DIVIDED if samples in (2, 4) and page.number_of(_EXTRA) == _PREMULTIPLIED else ""
    return decode_pixels(path, page)


def decode_pixels(path: Path, page: Page) -> tuple[Image.Image | np.ndarray, np.ndarray | None, str]:
    """Read pixels without Pillow. Returns and raises as [`read_pixels`]."""
    (width, height), (photometric, samples, depth, kind) = page.size, page.kind_of_pixels
    codes = _decode(path, page)
    if page.number_of(_PLANAR, 1) == 2 and codes.ndim == 3 and codes.shape[0] == samples:
        codes = np.moveaxis(codes, 0, 2)
    codes = codes[:, :, None] if codes.ndim == 2 else codes
    if codes.ndim != 3 or codes.shape[:2] != (height, width):
        raise ValueError(f"a picture of {codes.ndim} dimensions: save its pages as pictures of their own")
    if photometric in (_CIELAB, _ICCLAB):
        gray = _gray_of_lightness(codes[:, :, 0])
        return Image.fromarray(gray) if gray.dtype == np.uint8 else gray, None, "CIELab is read by its lightness"
    if photometric not in (0, 1, _RGB):
        raise ValueError(f"TIFF with a color model that is not known here (PhotometricInterpretation {photometric}):"
                         " save it as RGB or gray")  # fmt: skip
    codes, note = _sixteen_bit(codes, kind, depth)
    codes = np.iinfo(codes.dtype).max - codes if photometric == _WHITE_IS_ZERO else codes
    colors = 3 if photometric == _RGB else 1
    if codes.shape[2] < colors:
        raise ValueError("its directory and its pixels do not agree: it is damaged")
    extra = page.number_of(_EXTRA) if codes.shape[2] > colors else 0
    alpha = np.ascontiguousarray(codes[:, :, colors]) if extra in (_PREMULTIPLIED, _OPACITY) else None
    pixels = np.ascontiguousarray(codes[:, :, :3] if colors == 3 else codes[:, :, 0])
    if extra == _PREMULTIPLIED:
        pixels, note = _divided(pixels, alpha), "; ".join(filter(None, (note, _DIVIDED)))
    return pixels if pixels.dtype == np.uint16 else Image.fromarray(pixels), alpha, note


def _decode(path: Path, page: Page) -> np.ndarray:
    try:
        import tifffile
    except ImportError as error:
        raise ValueError(_ARCHIVE_HINT) from error
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is damaged is said once, by us
    try:
        with tifffile.TiffFile(path) as file:
            for found in file.pages:
                for candidate in (found, *(found.pages or () if hasattr(found, "pages") else ())):
                    if candidate.offset == page.offset:
                        return candidate.asarray(buffersize=_READ_AT_ONCE)
    except (RuntimeError, IndexError, KeyError, AttributeError, struct.error, ArithmeticError) as error:  # a decoder's
        raise ValueError(f"cannot be decoded: {error}") from error
    raise ValueError("cannot be decoded: its directories are damaged")


def _sixteen_bit(codes: np.ndarray, kind: int, depth: int) -> tuple[np.ndarray, str]:
    """Bring codes to 8 or 16 bit where it is defined what they mean."""
    if codes.dtype == np.uint8 and depth == 8:
        return codes, ""
    if kind == _UNSIGNED and codes.dtype == np.uint16:
        return scale_codes(codes, depth), ""
    if kind == _UNSIGNED and codes.dtype == np.uint32 and depth == 32:
        if codes.max(initial=0) <= 65_535:
            raise ValueError("32 bit a channel of which the upper 16 are empty: save it with 16 bit a channel")
        codes = by_rows(codes, np.uint16, lambda rows: (rows.astype(np.uint64) + 32_768) // 65_537)
        return codes, "32 bit a channel are read as 16"
    if kind == _FLOAT:
        low, high = float(codes.min()), float(codes.max())  # both are nan if any value is
        if 0 <= low and high <= 1:
            # Half precision has no 65535.
            codes = by_rows(codes, np.uint16, lambda rows: np.rint(rows.astype(np.float32) * 65_535))
            return codes, "numbers from 0 to 1 are read as 16 bit a channel"
        raise ValueError(
            f"floating-point numbers from {low:.3g} to {high:.3g}, and nothing says which of them is white: save it"
            " with 16 bit a channel"
        )
    raise ValueError(f"{depth} bit a channel of a kind that is no photo's: save it with 8 or 16 bit a channel")


def _divided(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Undo the multiplication of pixels with their opacity; where there is none they are black."""
    white, divided = np.iinfo(pixels.dtype).max, np.zeros_like(pixels)
    for row, opacity, result in zip(pixels, alpha, divided, strict=True):
        opacity = opacity.astype(np.int64) if pixels.ndim == 2 else opacity.astype(np.int64)[:, None]
        result[:] = np.minimum((row.astype(np.int64) * white + opacity // 2) // np.maximum(opacity, 1), white)
    return divided


def _gray_of_lightness(lightness: np.ndarray) -> np.ndarray:
    """Give the gray of sRGB with a lightness L*, stored as codes from 0 to the largest (TIFF 6.0, section 23)."""
    if lightness.dtype not in (np.uint8, np.uint16):
        raise ValueError("CIELab of a kind that is not known here: save it as RGB or gray")
    white = np.iinfo(lightness.dtype).max
    steps = 100 * np.arange(white + 1) / white
    light = np.where(steps > 8, ((steps + 16) / 116) ** 3, steps * 27 / 24_389)
    return np.rint(color_space.srgb_value(light) * white).astype(lightness.dtype)[lightness]


def true_gray_codes(image: Image.Image, page: Page) -> Image.Image | np.ndarray:
    """Bring the codes of a gray TIFF of 9 to 16 bit to 0 (black) to 65535 (white); Pillow gives them as they are."""
    if not image.mode.startswith("I;16"):
        return image
    codes = scale_codes(np.asarray(image), page.number_of(_BITS, 16))
    return 65_535 - codes if page.number_of(_PHOTOMETRIC, 1) == _WHITE_IS_ZERO else codes


def write_tiff(file, blocks: Iterable[np.ndarray], shape: tuple[int, int, int], dtype: np.dtype, photo: Photo) -> None:
    """
    Write a TIFF of one page, not compressed: that is what archives ask for. Of more than 4 GB it is a BigTIFF.

    Args:
        file (binary file): Where to; seekable.
        blocks (iterable of `np.ndarray`): Rows `(rows, width, channels)`, from the top.
        shape (`tuple`): Height, width, and 1 channel (gray) or 3 (RGB), and one more for opacity.
        dtype (`np.dtype`): `uint8` or `uint16`.
        photo (`Photo`): What it says.
    """
    height, width, channels = shape
    dtype = np.dtype(dtype)
    row_bytes = width * channels * dtype.itemsize
    order = photo.exif.order if photo.exif else "<"  # values are written as they came
    layout = Layout(order, big=height * row_bytes > _MAX_CLASSIC)
    pixels_at = 16 if layout.big else 8
    file.write(encode_header(layout, 0))
    for block in blocks:
        file.write(np.ascontiguousarray(block, dtype.newbyteorder(order)).data)
    file.write(b"\0" * (-file.tell() % 2))

    rows = max(1, _ROWS_PER_STRIP_BYTES // row_bytes)
    starts = np.arange(0, height, rows, dtype=np.uint64)
    sizes = np.minimum(rows, height - starts.astype(np.int64)) * row_bytes
    wide = order + ("u8" if layout.big else "u4")

    def numbers(kind: int, *values: int) -> Field:
        return Field(kind, struct.pack(f"{order}{len(values)}{'H' if kind == SHORT else 'I'}", *values))

    fields = dict(photo.exif.fields) if photo.exif else {}
    fields |= {
        _WIDTH: numbers(LONG, width),
        _HEIGHT: numbers(LONG, height),
        _BITS: numbers(SHORT, *[8 * dtype.itemsize] * channels),
        _COMPRESSION: numbers(SHORT, 1),
        _PHOTOMETRIC: numbers(SHORT, _RGB if channels >= 3 else _BLACK_IS_ZERO),
        _STRIPS: Field(LONG8 if layout.big else LONG, (starts * row_bytes + pixels_at).astype(wide).tobytes()),
        _SAMPLES: numbers(SHORT, channels),
        _ROWS: numbers(LONG, rows),
        _STRIP_BYTES: Field(LONG8 if layout.big else LONG, sizes.astype(wide).tobytes()),
        _PLANAR: numbers(SHORT, 1),
    }
    if photo.dpi:
        fields |= {_X: _fraction(photo.dpi[0], order), _Y: _fraction(photo.dpi[1], order), _UNIT: numbers(SHORT, 2)}
    if channels in (2, 4):
        fields[_EXTRA] = numbers(SHORT, _OPACITY)  # opacity that the colors are not multiplied with
    if photo.texts.get("Comment") and _DESCRIPTION not in fields:
        fields[_DESCRIPTION] = Field(2, photo.texts["Comment"].encode() + b"\0")
    for tag, data in ((_XMP, photo.xmp), (_IPTC, photo.iptc), (_ICC, photo.icc_profile)):
        if data:
            fields[tag] = Field(1 if tag == _XMP else UNDEFINED, data)
    directory_at = file.tell()
    file.write(encode_directory(fields, layout, directory_at))
    file.seek(0)
    file.write(encode_header(layout, directory_at))


def _fraction(value: float, order: str) -> Field:
    denominator = 1 if value == int(value) else 1000
    return Field(RATIONAL, struct.pack(f"{order}2I", round(value * denominator), denominator))


def bulk_of(page: Page) -> tuple[bytes | None, bytes | None, bytes | None]:
    """XMP, IPTC-IIM and ICC profile of a page."""
    words = page.described_by.fields
    found = [page.fields.get(tag) or words.get(tag) for tag in (_XMP, _IPTC, _ICC)]
    return tuple(field.data if isinstance(field, Field) and field.data else None for field in found)


def dpi_of(page: Page) -> tuple[float, float] | None:
    """The resolution of a page; inches are the unit where none is named."""
    exif = Exif(page.order, {_UNIT: Field(SHORT, struct.pack(f"{page.order}H", 2))} | page.fields)
    return exif.resolution()
