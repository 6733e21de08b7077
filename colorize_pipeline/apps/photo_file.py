"""Photo files: read any, keep what they say about themselves, write safely."""

import importlib
import io
import os
import stat
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin


# What reading or writing a photo may raise; anything else is a defect of this program. (Pillow's
# UnidentifiedImageError is an OSError; it raises SyntaxError, TypeError and OverflowError for broken headers.)
PHOTO_ERRORS = (
    OSError, ValueError, SyntaxError, TypeError, OverflowError, MemoryError, Image.DecompressionBombError
)  # fmt: skip

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".avif")
OUTPUT_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")

# Parsers for formats that no photo has are closed: each is a way in for malformed files.
PHOTO_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000", "AVIF")

# TIFF tags that describe how the old file stores its pixels; they would be lies in the new one.
# Source: TIFF 6.0, section 8; 700 and 34675 (XMP, ICC) travel by their own way, 33723 (IPTC) does not.
_STORAGE_TAGS = frozenset(
    [254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 282, 283, 284, 288, 289, 290]
    + [291, 292, 293, 296, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 332, 338, 339, 340, 341, 347]
    + [512, 513, 514, 519, 520, 521, 529, 530, 531, 532, 700, 33723, 34377, 34675]
)
_ORIENTATION = 274
_IPTC_TAG, _IPTC_RESOURCE = 33723, 0x0404  # in TIFF; in the Photoshop segment of a JPEG
_PHOTOMETRIC = 262
_TIFF_XMP = 700
# Source: JPEG's segments hold 65,533 bytes, of which XMP's name takes 29 (XMP specification part 3, section 1.1.3).
_JPEG_EXIF_BYTES, _JPEG_XMP_BYTES = 65_533, 65_504
_ARCHIVE_HINT = "16-bit files need two more packages: pip install 'colorize-pipeline[archive]'"


@dataclass(frozen=True)
class Photo:
    """
    A photo and what its file said about it.

    Args:
        image (`PIL.Image.Image` or `np.ndarray` of shape `(height, width, 3)` and type `uint16`):
            Upright pixels, as the pipeline takes them.
        sixteen_bit (`bool`): Whether they hold 16 bit a channel.
        alpha (`PIL.Image.Image` in mode L, or `None`): Opacity, if the file had any.
        exif (`PIL.Image.Exif`): Without orientation and without what described the old file's storage.
        icc_profile (`bytes` or `None`): Only if it describes RGB, as the result is.
        xmp (`bytes` or `None`): The packet.
        dpi (`tuple` or `None`): Horizontal and vertical resolution.
        notes (`tuple` of `str`): What of the file could not be kept.
    """

    image: Image.Image | np.ndarray
    sixteen_bit: bool
    alpha: Image.Image | None
    exif: Image.Exif
    icc_profile: bytes | None
    xmp: bytes | None
    dpi: tuple[float, float] | None
    notes: tuple[str, ...]


def find_photos(folder: Path) -> list[Path]:
    """List the photos in a folder and those below it, sorted, without what is hidden: it is seldom what it says."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES and not path.is_dir())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def read_photo(path: Path) -> Photo:
    """
    Read a photo upright, with its metadata.

    Args:
        path (`Path`): A JPEG, PNG, TIFF, WebP, GIF, BMP, JPEG 2000 or AVIF file. Of several pages the first is read.

    Raises:
        `PHOTO_ERRORS`: if the file is none of these, is damaged, or is too large for Pillow's limit of pixels.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for ever
        raise ValueError("not a regular file")
    notes = []
    # Pillow 13 scrambles an uncompressed TIFF of orientation 5 to 8 that it maps into memory by name; not as a stream.
    with path.open("rb") as stream, Image.open(stream, formats=PHOTO_FORMATS) as file:
        # Pillow turns a TIFF while it loads it, and drops the tag; so the tag is read before and the turn made after.
        orientation = file.getexif().get(_ORIENTATION, 1)
        file.load()
        pixels = _read_sixteen_bit_rgb(path, file)
        if file.format == "TIFF" and file.mode == "CMYK" and _tiff_depth(file) == 16:
            notes.append("16-bit CMYK is read at 8 bit")
        if getattr(file, "n_frames", 1) > 1:
            notes.append(f"only the first of {file.n_frames} pages is colorized")
        turned = ImageOps.exif_transpose(file)
        # Its `info`, not that of the file, whose XMP may hold the orientation a second time.
        upright, info = _true_gray_codes(turned, file), turned.info
        exif = Image.Exif()
        try:
            exif.load(file.getexif().tobytes())  # a copy with its sub-directories: that of a turned TIFF is empty
        except Exception as error:  # whatever Pillow's encoder meets in damaged values
            notes.append(f"Exif is left out, it is damaged: {error}")
        if pixels is not None:
            pixels = np.ascontiguousarray(_turn_upright(pixels, orientation))
        sixteen_bit = pixels is not None or upright.mode.startswith("I")
        if sixteen_bit and file.has_transparency_data:
            notes.append("opacity is not kept at 16 bit")

    if _IPTC_TAG in exif or _IPTC_RESOURCE in info.get("photoshop", {}):
        notes.append("IPTC fields are left out; write them into XMP, which is kept")
    for tag in (*_STORAGE_TAGS, _ORIENTATION):
        exif.pop(tag, None)
    icc_profile = info.get("icc_profile") or None
    if icc_profile and icc_profile[16:20] != b"RGB ":  # Source: ICC.1:2022, 7.2.6, data colour space field
        notes.append("the ICC profile is left out: it is not one for RGB")
        icc_profile = None
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or None
    dpi = tuple(float(value) for value in info.get("dpi", ()))
    return Photo(
        image=upright if pixels is None else pixels,
        sixteen_bit=sixteen_bit,
        alpha=upright.convert("RGBA").getchannel("A") if upright.has_transparency_data else None,
        exif=exif,
        icc_profile=icc_profile,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp,
        dpi=dpi if dpi and all(0 < value < 65_536 for value in dpi) else None,
        notes=tuple(notes),
    )


def _read_sixteen_bit_rgb(path: Path, file: Image.Image) -> np.ndarray | None:
    """Read what Pillow would silently cut to 8 bit; `None` for all other files."""
    try:
        if file.format == "TIFF" and file.mode in ("RGB", "RGBA") and _tiff_depth(file) == 16:
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


def _true_gray_codes(upright: Image.Image, file: Image.Image) -> Image.Image:
    """Bring the codes of a gray TIFF of 9 to 16 bit to 0 (black) to 65535 (white); Pillow gives them as they are."""
    if file.format != "TIFF" or not file.mode.startswith("I;16"):
        return upright
    depth, white_is_zero = _tiff_depth(file), file.tag_v2.get(_PHOTOMETRIC) == 0  # Source: TIFF 6.0, section 8
    if depth == 16 and not white_is_zero:
        return upright
    codes = _scale_codes(np.asarray(upright), depth)
    return Image.fromarray(65_535 - codes if white_is_zero else codes)


def _scale_codes(codes: np.ndarray, depth: int) -> np.ndarray:
    """Stretch codes of so many bits to 16."""
    white = (1 << depth) - 1
    return ((codes.astype(np.uint32) * 65_535 + white // 2) // white).astype(np.uint16)


def _turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an Exif orientation (Source: CIPA DC-008, 4.6.5.1.6: which side is row 0 and which is column 0)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _tiff_depth(file: Image.Image) -> int:
    return file.tag_v2.get(258, (8,))[0]  # Source: TIFF 6.0, section 8, BitsPerSample


def _png_depth(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(25)[24]  # Source: PNG third edition, 11.2.1, IHDR: the byte after width and height


def _jp2_depth(path: Path) -> int:
    with path.open("rb") as file:
        head = file.read(4096)
    found = head.find(b"ihdr")  # Source: ISO/IEC 15444-1, I.5.3.1: height, width, number of channels, depth - 1
    return (head[found + 14] & 0x7F) + 1 if 0 <= found < len(head) - 14 else 8


def _import_archive(name: str):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(_ARCHIVE_HINT) from error


def write_photo(
    path: Path, colors: Image.Image | np.ndarray, photo: Photo, overwrite: bool = False
) -> tuple[str, ...]:
    """
    Write a result with the metadata of its photo: whole or not at all, and never over another file unless asked.

    Args:
        path (`Path`): Ends in one of `OUTPUT_SUFFIXES`; 16 bit is written as PNG or TIFF.
        colors (`PIL.Image.Image` in mode RGB, or `np.ndarray` of shape `(height, width, 3)` and type `uint16`):
            What to write.
        photo (`Photo`): Where the metadata and the opacity come from.
        overwrite (`bool`, *optional*, defaults to `False`): Replace an existing file.

    Returns:
        `tuple` of `str`: What of the metadata this kind of file could not take.

    Raises:
        `FileExistsError`: if the file exists and `overwrite` is false.
        `ValueError`: if 16 bit is to be written to a format that holds 8.
        `OSError`: if the disk does not take it; nothing is left behind then.
    """
    suffix = path.suffix.lower()
    if isinstance(colors, np.ndarray) and suffix not in (".png", ".tif", ".tiff"):
        raise ValueError(f"{suffix} files hold 8 bit, this photo has 16: write .png or .tif")
    notes = []
    if suffix in (".jpg", ".jpeg"):
        if photo.xmp and len(photo.xmp) > _JPEG_XMP_BYTES:
            photo = replace(photo, xmp=None)
            notes.append("XMP is left out: it is longer than JPEG can hold")
        if len(photo.exif.tobytes()) > _JPEG_EXIF_BYTES:
            photo = replace(photo, exif=Image.Exif())
            notes.append("Exif is left out: it is longer than JPEG can hold")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem[:40]}.{os.getpid()}.unfinished{suffix}")
    try:
        with unfinished.open("xb") as file:
            if not isinstance(colors, np.ndarray):
                _save_eight_bit(file, colors, photo, suffix)
            elif suffix == ".png":
                file.write(_encode_sixteen_bit_png(colors, photo))
            else:
                _save_sixteen_bit_tiff(file, colors, photo)
            file.flush()
            os.fsync(file.fileno())
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists, and is not replaced unless asked")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    texts_only = isinstance(colors, np.ndarray) and suffix != ".png"
    if texts_only and not all(isinstance(value, str) for value in photo.exif.values()):
        notes.append("of Exif only texts are kept in 16-bit TIFF; .png keeps all")
    return tuple(notes)


def _save_eight_bit(file, colors: Image.Image, photo: Photo, suffix: str) -> None:
    options = {"exif": photo.exif}
    if photo.icc_profile:
        options["icc_profile"] = photo.icc_profile
    if photo.dpi:
        options["dpi"] = photo.dpi
    if photo.alpha is not None and suffix not in (".jpg", ".jpeg"):
        colors = colors.copy()
        colors.putalpha(photo.alpha)
    if suffix in (".jpg", ".jpeg"):
        if photo.xmp:
            options["xmp"] = photo.xmp
        colors.save(file, "JPEG", quality=95, subsampling=0, **options)
    elif suffix == ".webp":
        if photo.xmp:
            options["xmp"] = photo.xmp
        colors.save(file, "WEBP", lossless=True, exact=True, **options)
    elif suffix == ".png":
        # Level 1 is several times faster than the default and costs about a tenth in size.
        colors.save(file, "PNG", compress_level=1, pnginfo=_png_xmp(photo), **options)
    else:
        exif = Image.Exif()
        exif.load(photo.exif.tobytes())  # a copy with its sub-directories
        if photo.xmp:
            exif[_TIFF_XMP] = photo.xmp
        # Not compressed: that is what archives ask for, and the only way in which Pillow writes Exif directories.
        colors.save(file, "TIFF", **{**options, "exif": exif})


def _png_xmp(photo: Photo) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    if photo.xmp:  # Source: XMP specification part 3, section 1.1.5
        texts.add_itxt("XML:com.adobe.xmp", photo.xmp.decode("utf-8", "replace"))
    return texts


def _encode_sixteen_bit_png(colors: np.ndarray, photo: Photo) -> bytes:
    # Pillow does not write 16-bit RGB. It does write the metadata chunks: they are taken from a file of one pixel.
    donor = io.BytesIO()
    _save_eight_bit(donor, Image.new("RGB", (1, 1)), replace(photo, alpha=None), ".png")
    metadata = [chunk for chunk in _png_chunks(donor.getvalue()) if chunk[:4] not in (b"IHDR", b"IDAT", b"IEND")]
    encoded = _import_archive("imagecodecs").png_encode(colors, level=3)
    signature, chunks = encoded[:8], _png_chunks(encoded)
    written = [signature]
    for chunk in (chunks[0], *metadata, *chunks[1:]):
        written.append(struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)))
    return b"".join(written)


def _png_chunks(png: bytes) -> list[bytes]:
    """Split a PNG into chunks of type and data (Source: PNG third edition, 5.3)."""
    chunks, start = [], 8
    while start < len(png):
        end = start + 8 + struct.unpack_from(">I", png, start)[0]
        chunks.append(png[start + 4 : end])
        start = end + 4
    return chunks


def _save_sixteen_bit_tiff(file, colors: np.ndarray, photo: Photo) -> None:
    # Encoded here: the field is meant for ASCII, and tifffile refuses any other string.
    tags = [(tag, "s", 0, value.encode(), True) for tag, value in photo.exif.items() if isinstance(value, str)]
    if photo.xmp:
        tags.append((_TIFF_XMP, "B", len(photo.xmp), photo.xmp, True))
    _import_archive("tifffile").imwrite(
        file,
        colors,
        photometric="rgb",
        compression="deflate",
        predictor=True,
        resolution=photo.dpi,
        resolutionunit="INCH" if photo.dpi else None,
        iccprofile=photo.icc_profile,
        extratags=tags,
        metadata=None,
        software=False,
    )
