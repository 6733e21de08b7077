"""Photo files: read any, keep what they say about themselves, write safely."""

import io
import os
import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from colorize_pipeline.apps.provenance import mark_synthetic
from colorize_pipeline.apps.sixteen_bit import (
    TIFF_XMP,
    encode_sixteen_bit_png,
    read_sixteen_bit_rgb,
    save_sixteen_bit_tiff,
    tiff_depth,
    true_gray_codes,
)


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
_XMP_ORIENTATION = re.compile(
    rb"\btiff:Orientation\s*=\s*(\"[^\"]*\"|'[^']*')|<tiff:Orientation>[^<]*</tiff:Orientation>"
)
_UTF16 = ("utf-16-le", "utf-16-be")
# Texts of a PNG that Pillow reads as XMP, Exif or an ICC profile.
_SHARED_TEXTS = ("XML:com.adobe.xmp", "Raw profile type exif", "Raw profile type APP1", "Raw profile type icc")
# Source: JPEG's segments hold 65,533 bytes, of which XMP's name takes 29 (XMP specification part 3, section 1.1.3).
_JPEG_EXIF_BYTES, _JPEG_COMMENT_BYTES, _JPEG_XMP_BYTES = 65_533, 65_533, 65_504


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
        texts (`dict` of `str`): The texts of a PNG by their keywords; the comment of a JPEG as `"Comment"`.
        notes (`tuple` of `str`): What of the file could not be kept.
    """

    image: Image.Image | np.ndarray
    sixteen_bit: bool
    alpha: Image.Image | None
    exif: Image.Exif
    icc_profile: bytes | None
    xmp: bytes | None
    dpi: tuple[float, float] | None
    texts: dict[str, str]
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
        texts = _texts(file)
        pixels = read_sixteen_bit_rgb(path, file)
        if file.format == "TIFF" and file.mode == "CMYK" and tiff_depth(file) == 16:
            notes.append("16-bit CMYK is read at 8 bit")
        if getattr(file, "n_frames", 1) > 1:
            notes.append(f"only the first of {file.n_frames} pages is colorized")
        turned = ImageOps.exif_transpose(file)
        # Its `info`, not that of the file, whose XMP may hold the orientation a second time.
        upright, info = true_gray_codes(turned, file), turned.info
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

    photoshop = info.get("photoshop")
    if _IPTC_TAG in exif or (isinstance(photoshop, dict) and _IPTC_RESOURCE in photoshop):
        notes.append("IPTC fields are left out; write them into XMP, which is kept")
    for tag in (*_STORAGE_TAGS, _ORIENTATION):
        exif.pop(tag, None)
    icc_profile = info.get("icc_profile") or None
    if icc_profile and icc_profile[16:20] != b"RGB ":  # Source: ICC.1:2022, 7.2.6, data colour space field
        notes.append("the ICC profile is left out: it is not one for RGB")
        icc_profile = None
    xmp = _upright_utf8(info.get("xmp") or info.get("XML:com.adobe.xmp") or b"")
    if b"HasExtendedXMP" in xmp:
        notes.append("the part of XMP that lies outside of its packet is left out")
    dpi = info.get("dpi")
    dpi = tuple(map(float, dpi)) if isinstance(dpi, tuple) else ()  # a PNG may have a text of that name
    return Photo(
        image=upright if pixels is None else pixels,
        sixteen_bit=sixteen_bit,
        alpha=upright.convert("RGBA").getchannel("A") if upright.has_transparency_data else None,
        exif=exif,
        icc_profile=icc_profile,
        xmp=xmp or None,
        dpi=dpi if dpi and all(0 < value < 65_536 for value in dpi) else None,
        texts=texts,
        notes=tuple(notes),
    )


def _texts(file: Image.Image) -> dict[str, str]:
    """What a file says in its own words, beside the metadata that the formats share."""
    if file.format == "PNG":
        return {key: text for key, text in file.text.items() if not key.startswith(_SHARED_TEXTS)}
    if file.format not in ("JPEG", "MPO", "GIF"):  # JPEG 2000 names its encoder there
        return {}
    comments = [data for name, data in getattr(file, "applist", []) if name == "COM"]
    comments = [_decode(data).strip("\0") for data in comments or [file.info.get("comment", b"")]]
    return {"Comment": text} if (text := "\n".join(filter(None, comments))) else {}


def _decode(text: bytes) -> str:
    """Formats of before UTF-8 do not say how their texts are encoded."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _upright_utf8(xmp: bytes | str) -> bytes:
    """Bring an XMP packet to UTF-8, without an orientation: the pixels are turned."""
    if isinstance(xmp, bytes) and b"\0" in xmp[:4]:
        xmp = xmp.decode("utf-16" if xmp[:2] in (b"\xff\xfe", b"\xfe\xff") else _UTF16[xmp[0] == 0], "replace")
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    return _XMP_ORIENTATION.sub(b"", xmp)


def _turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an Exif orientation (Source: CIPA DC-008, 4.6.5.1.6: which side is row 0 and which is column 0)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def write_photo(
    path: Path, colors: Image.Image | np.ndarray, photo: Photo, overwrite: bool = False
) -> tuple[str, ...]:
    """
    Write a result with the metadata of its photo: whole or not at all, and never over another file unless asked.
    Its XMP says that a model made the colors.

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
    try:
        photo = replace(photo, xmp=mark_synthetic(photo.xmp))
    except ValueError as error:
        notes.append(str(error))
    if suffix in (".jpg", ".jpeg"):
        if photo.xmp and len(photo.xmp) > _JPEG_XMP_BYTES:
            photo = replace(photo, xmp=mark_synthetic(None))
            notes.append("XMP is left out: it is longer than JPEG can hold")
        if len(photo.exif.tobytes()) > _JPEG_EXIF_BYTES:
            photo = replace(photo, exif=Image.Exif())
            notes.append("Exif is left out: it is longer than JPEG can hold")
    if suffix != ".png":
        comment = photo.texts.get("Comment", "") if suffix in (".jpg", ".jpeg") else ""
        texts = {"Comment": comment} if 0 < len(comment.encode()) <= _JPEG_COMMENT_BYTES else {}
        if lost := sorted(photo.texts.keys() - texts.keys()):
            names = ", ".join("".join(filter(str.isprintable, keyword))[:40] for keyword in lost)
            notes.append(f"left out: {names}; .png keeps such texts")
        photo = replace(photo, texts=texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem[:40]}.{os.getpid()}.unfinished{suffix}")
    try:
        with unfinished.open("xb") as file:
            if not isinstance(colors, np.ndarray):
                _save_eight_bit(file, colors, photo, suffix)
            elif suffix == ".png":
                metadata = io.BytesIO()
                _save_eight_bit(metadata, Image.new("RGB", (1, 1)), replace(photo, alpha=None), suffix)
                file.write(encode_sixteen_bit_png(colors, metadata.getvalue()))
            else:
                tags = {tag: value for tag, value in photo.exif.items() if isinstance(value, str)}
                save_sixteen_bit_tiff(file, colors, tags, photo.xmp, photo.icc_profile, photo.dpi)
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
        if "Comment" in photo.texts:
            options["comment"] = photo.texts["Comment"]
        colors.save(file, "JPEG", quality=95, subsampling=0, **options)
    elif suffix == ".webp":
        if photo.xmp:
            options["xmp"] = photo.xmp
        colors.save(file, "WEBP", lossless=True, exact=True, **options)
    elif suffix == ".png":
        # Level 1 is several times faster than the default and costs about a tenth in size.
        colors.save(file, "PNG", compress_level=1, pnginfo=_png_texts(photo), **options)
    else:
        exif = Image.Exif()
        exif.load(photo.exif.tobytes())  # a copy with its sub-directories
        if photo.xmp:
            exif[TIFF_XMP] = photo.xmp
        # Not compressed: that is what archives ask for, and the only way in which Pillow writes Exif directories.
        colors.save(file, "TIFF", **{**options, "exif": exif})


def _png_texts(photo: Photo) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    if photo.xmp:  # Source: XMP specification part 3, section 1.1.5
        texts.add_itxt("XML:com.adobe.xmp", photo.xmp.decode("utf-8", "replace"))
    for keyword, text in photo.texts.items():
        texts.add_text(keyword, text)
    return texts
