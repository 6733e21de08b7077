"""Photo files: find them, and read any kind, upright and with what they say about themselves."""

import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFilter

from colorize_pipeline.apps import boxed_file, color_space, jpeg_file, png_file, refused, tiff_file
from colorize_pipeline.apps.exif import EXIF_IFD, INTEROPERABILITY_IFD, ORIENTATION, Exif, parse_exif, upright_exif
from colorize_pipeline.apps.formats import KINDS, PHOTO_FORMATS, PHOTO_SUFFIXES
from colorize_pipeline.apps.photo import PHOTO_ERRORS, Photo, Stored, round_to_eight_bit
from colorize_pipeline.apps.xmp import merge_packets, orientation_of, upright_xmp


# Source: CIPA DC-008, 4.6.8: the mark of Adobe RGB, with which cameras save themselves a profile.
_INTEROPERABILITY_INDEX, _ADOBE_RGB = 1, b"R03"
_ADOBE_GAMMA = 563 / 256  # Source: Adobe RGB (1998) Color Image Encoding, section 4.3.4.2
_HEAD = 1 << 16  # bytes within which a JPEG says of which kind it is
_GRAY_RADIUS = 2  # pixels around one whose blacks and whites are averaged, where gray is asked for

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def find_photos(folder: Path) -> list[Path]:
    """List the photos in a folder and those below it, sorted, without what is hidden: it is seldom what it says."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES and not path.is_dir())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def count_pages(path: Path) -> int:
    """How many photos a regular file holds: those of a TIFF; 1 for all other kinds, and for what cannot be read."""
    try:
        return len(tiff_file.read_pages(path))
    except PHOTO_ERRORS:
        return 1


def read_photo(path: Path, page: int | None = None, depth: int | None = None) -> Photo:
    """
    Read a photo upright, with its metadata.

    Args:
        path (`Path`): A file of one of the `KINDS`.
        page (`int`, *optional*): Which page of a TIFF, from 0; without it the first, and a note if there are more.
        depth (`int`, *optional*): 8 rounds 16-bit codes to 8 bit, and makes gray of black-and-white pixels.

    Raises:
        `PHOTO_ERRORS`: if the file is none of these, is damaged, or is too large for Pillow's limit of pixels.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for ever
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise ValueError("the file is empty")
    if reason := refused.reason(path.suffix.lower(), head):
        raise ValueError(reason)
    if tiff_file.is_tiff(head):
        stored = _read_tiff(path, page)
    elif boxed_file.brand(head) == "HEIC":
        stored = _read_heic(path)
    else:
        stored = _read_other(path)
    return _upright(_in_depth(stored, depth))


def _read_tiff(path: Path, number: int | None) -> Stored:
    pages = tiff_file.read_pages(path)
    if number is not None and number >= len(pages):
        raise ValueError(f"there is no page {number + 1}: the file has {len(pages)}")
    page = pages[number or 0]
    pixels, alpha, note = tiff_file.read_pixels(path, page)
    orientation, turned = page.described_by.number(ORIENTATION), False
    if pixels is None:
        try:
            pixels, alpha, orientation = _read_tiff_by_pillow(path, page)
            turned = True
        except Image.UnidentifiedImageError:
            pixels, alpha, note = tiff_file.decode_pixels(path, page)
    notes = [note] if note else []
    if len(pages) > 1 and number is None:
        notes.append(f"only the first of {len(pages)} pages is colorized")
    xmp, iptc, icc_profile = tiff_file.bulk_of(page)
    exif = page.described_by
    if exif.damaged:
        notes.append("of Exif a part is left out: it is damaged")
    return Stored(
        pixels, alpha, orientation or 1, turned, exif, icc_profile, xmp, iptc, tiff_file.dpi_of(page), {}, tuple(notes)
    )


def _read_tiff_by_pillow(
    path: Path, page: tiff_file.Page
) -> tuple[Image.Image | np.ndarray, np.ndarray | None, int | None]:
    # Pillow 13 scrambles an uncompressed TIFF of orientation 5 to 8 that it maps into memory by name; not as a stream.
    # It turns a TIFF while it loads it, and drops the tag.
    with _decoding(), path.open("rb") as stream, Image.open(stream, formats=("TIFF",)) as file:
        file.seek(page.number)
        orientation = file.getexif().get(ORIENTATION, 1)
        file.load()
        pixels = tiff_file.true_gray_codes(file, page)
        return pixels if isinstance(pixels, np.ndarray) else _bare(pixels), _alpha(file), orientation


def _read_heic(path: Path) -> Stored:
    pixels, info = boxed_file.open_heic(path)
    alpha = None
    if isinstance(pixels, np.ndarray) and pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels, alpha = pixels[:, :, :-1], pixels[:, :, -1]
    elif isinstance(pixels, Image.Image):
        pixels, alpha = _bare(pixels), _alpha(pixels)
    icc_profile, note = info.get("icc_profile"), ""
    if not icc_profile and (named := info.get("nclx_profile")):
        points = named["color_primaries"], named["transfer_characteristics"]
        icc_profile, note = color_space.profile_of_code_points(*points)
    exif, damage = _exif(info.get("exif") or b"")
    if exif:  # the box that turns the picture is what counts, and was heeded
        exif = replace(exif, fields={tag: field for tag, field in exif.fields.items() if tag != ORIENTATION})
    xmp = info.get("xmp") or None
    notes = tuple(filter(None, (note, damage)))
    return Stored(pixels, alpha, exif=exif, icc_profile=icc_profile or None, xmp=xmp, turned=True, notes=notes)


def _read_other(path: Path) -> Stored:
    notes, chunks = [], {}
    with _decoding(), path.open("rb") as stream, _open(stream) as file:
        file.load()
        kind = "JPEG" if file.format == "MPO" else file.format
        info, frames = dict(file.info), getattr(file, "n_frames", 1)
        segments = [(name, data) for name, data in getattr(file, "applist", [])]
        texts = dict(file.text) if kind == "PNG" else _comment(file, segments)
        stream.seek(0)
        decoded_again = kind == "PNG" and png_file.is_deep_color(stream.read(png_file.END_OF_HEADER))
        pixels, alpha = (None, None) if decoded_again else (_bare(file), _alpha(file))
    del file  # and its pixels, of which a large scan has hundreds of megabytes
    found = {name: info.get(name) for name in ("exif", "xmp", "icc_profile")}
    if kind == "PNG":
        data = path.read_bytes()
        chunks = dict(png_file.read_chunks(data))
        deep, deep_alpha = png_file.decode_deep(data, chunks)
        pixels, alpha = (pixels, alpha) if deep is None else (deep, deep_alpha)
        found, texts = png_file.shared_texts(found, texts)
        if b"cICP" in chunks or not found["icc_profile"]:
            found["icc_profile"], note = png_file.stated_profile(chunks)
            notes += [note] if note else []
    elif kind == "JPEG":
        found["iptc"] = jpeg_file.read_iptc(segments)
        found["xmp"], note = _whole_xmp(found["xmp"], segments)
        notes += [note] if note else []
    elif kind in ("JPEG2000", "AVIF"):
        data = path.read_bytes()
        depth = boxed_file.jp2_depth(data) if kind == "JPEG2000" else boxed_file.avif_depth(data)
        found = {**found, **(boxed_file.jp2_metadata(data) if kind == "JPEG2000" else {})}
        if kind == "AVIF" and not found["icc_profile"] and (points := boxed_file.avif_code_points(data)):
            found["icc_profile"], note = color_space.profile_of_code_points(*points)
            notes += [note] if note else []
        if depth > 8:
            codes = boxed_file.decode_deep(path, kind, depth)
            channels = codes.shape[2] if codes.ndim == 3 else 1
            pixels = codes[:, :, : 3 if channels >= 3 else 1] if codes.ndim == 3 else codes
            alpha = codes[:, :, -1] if channels in (2, 4) else None
    if frames > 1 and path.suffix.lower() not in (".jpg", ".jpeg", ".jpe", ".jfif"):  # there it is a small preview
        notes.append(f"only the first of {frames} pages is colorized")
    exif, damage = _exif(found.get("exif") or b"")
    notes += [damage] if damage else []
    xmp = found.get("xmp") or None
    dpi = _dpi(info.get("dpi"))
    if kind == "JPEG" and info.get("jfif_unit", 0) == 0:
        dpi = None if exif is None else exif.resolution()  # Pillow takes numbers without a unit for dots per inch
    return Stored(
        pixels, alpha, (exif and exif.number(ORIENTATION)) or orientation_of(xmp), False, exif,
        found.get("icc_profile") or None, xmp, found.get("iptc") or None, dpi, texts, tuple(notes),
    )  # fmt: skip


@contextmanager
def _decoding() -> Iterator[None]:
    """Give what a decoder raises that has met what it does not expect as an error of the file."""
    try:
        yield
    except (LookupError, AttributeError, EOFError, ArithmeticError, RuntimeError, struct.error, zlib.error) as error:
        raise ValueError(f"cannot be decoded: {error}") from error


def _open(stream: BinaryIO) -> Image.Image:
    try:
        return Image.open(stream, formats=PHOTO_FORMATS)
    except Image.UnidentifiedImageError as error:
        stream.seek(0)
        reason = jpeg_file.why_not_read(stream.read(_HEAD)) or f"no {KINDS}, or damaged"
        raise ValueError(reason) from error


def _bare(image: Image.Image) -> Image.Image:
    """The pixels, without what Pillow would write with them."""
    bare = image.copy()
    bare.info = {name: value for name, value in image.info.items() if name == "transparency"}
    return bare


def _alpha(image: Image.Image) -> np.ndarray | None:
    if not image.has_transparency_data or image.mode.startswith("I"):
        return None
    return np.asarray(image.convert("RGBA").getchannel("A"))


def _exif(block: bytes) -> tuple[Exif | None, str]:
    if not block.removeprefix(b"Exif\0\0"):
        return None, ""
    try:
        exif = parse_exif(block)
    except ValueError:
        return None, "Exif is left out: it is damaged"
    return exif, "of Exif a part is left out: it is damaged" if exif.damaged else ""


def _whole_xmp(xmp: bytes | None, segments: list[tuple[str, bytes]]) -> tuple[bytes | None, str]:
    more = jpeg_file.read_more_xmp(segments)
    if xmp and more:
        try:
            return merge_packets(xmp, more), ""
        except ValueError:
            more = None
    lost = bool(xmp) and b"HasExtendedXMP" in xmp and more is None
    return xmp, "the part of XMP that lies outside of its packet is left out: it is damaged" if lost else ""


def _comment(file: Image.Image, segments: list[tuple[str, bytes]]) -> dict[str, str]:
    if file.format not in ("JPEG", "MPO", "GIF"):  # JPEG 2000 names its encoder there
        return {}
    comments = [data for name, data in segments if name == "COM"] or [file.info.get("comment", b"")]
    texts = [_decode(data).strip("\0") for data in comments]
    return {"Comment": text} if (text := "\n".join(filter(None, texts))) else {}


def _decode(text: bytes) -> str:
    """Formats of before UTF-8 do not say how their texts are encoded."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _dpi(values) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in values)
    except (TypeError, ValueError):  # a PNG may have a text of that name
        return None
    return (across, down) if all(0 < value < 65_536 for value in (across, down)) else None


def _in_depth(stored: Stored, depth: int | None) -> Stored:
    """Round to 8 bit, and make gray of black and white, where it is asked for."""
    pixels, notes = stored.image, stored.notes
    if isinstance(pixels, Image.Image) and pixels.mode == "1":
        if depth != 8:
            raise ValueError(
                "black-and-white pixels (1 bit) have no room for color; --depth 8 makes gray of them first"
            )
        pixels = pixels.convert("L").filter(ImageFilter.BoxBlur(_GRAY_RADIUS))
        notes = (*notes, "its black and white pixels are averaged to gray")
    if isinstance(pixels, np.ndarray) and pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if isinstance(pixels, Image.Image) and pixels.mode.startswith("I"):
        pixels = np.asarray(pixels).astype(np.uint16)
    alpha = stored.alpha
    if depth == 8 and isinstance(pixels, np.ndarray):
        pixels = Image.fromarray(round_to_eight_bit(pixels))
        alpha = None if alpha is None else round_to_eight_bit(alpha)
    if isinstance(pixels, Image.Image) and pixels.mode == "CMYK":
        if stored.icc_profile and color_space.color_model(stored.icc_profile) == "CMYK":
            pixels, note = color_space.srgb_of_cmyk(pixels, stored.icc_profile)
            notes = (*notes, note)
        elif stored.icc_profile:
            notes = (*notes, "the ICC profile is left out: it is not one for CMYK")
        stored = replace(stored, icc_profile=None)
    return replace(stored, image=pixels, alpha=alpha, notes=notes)


def _upright(stored: Stored) -> Photo:
    """Turn pixels, and make the metadata true of them."""
    orientation = stored.orientation if stored.orientation in range(1, 9) else 1
    pixels, alpha, notes = stored.image, stored.alpha, list(stored.notes)
    if not stored.turned:
        if isinstance(pixels, np.ndarray):
            pixels = np.ascontiguousarray(turn_upright(pixels, orientation))
        elif orientation != 1:
            pixels = pixels.transpose(_TURNS[orientation])
        alpha = None if alpha is None else np.ascontiguousarray(turn_upright(alpha, orientation))
    photo = Photo(pixels, alpha, iptc=stored.iptc, texts=stored.texts)
    xmp = None
    if stored.xmp:
        try:
            xmp = upright_xmp(stored.xmp, orientation, photo.size)
        except ValueError as error:
            notes.append(str(error))
    profile, note = _result_profile(stored)
    notes += [note] if note else []
    dpi = _dpi(stored.dpi)
    return replace(
        photo,
        exif=upright_exif(stored.exif, orientation, photo.size) if stored.exif else None,
        icc_profile=profile,
        xmp=xmp,
        dpi=dpi[::-1] if dpi and orientation >= 5 else dpi,
        notes=tuple(dict.fromkeys(notes)),
    )


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an Exif orientation (Source: CIPA DC-008, 4.6.5.1.6: which side is row 0 and which is column 0)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _result_profile(stored: Stored) -> tuple[bytes | None, str]:
    """Give the profile of RGB with which the result looks as the photo does."""
    if not stored.icc_profile:
        index = stored.exif and stored.exif.fields.get(EXIF_IFD, {})
        index = index.get(INTEROPERABILITY_IFD, {}).get(_INTEROPERABILITY_INDEX) if isinstance(index, dict) else None
        if index is not None and index.data.startswith(_ADOBE_RGB):
            space = color_space.space_of(color_space.PRIMARIES_ADOBE, color_space.gamma_curve(_ADOBE_GAMMA))
            return color_space.build_profile(space), ""
        return None, ""
    pixels = stored.image
    is_gray = pixels.ndim == 2 if isinstance(pixels, np.ndarray) else pixels.mode in ("L", "LA", "La")
    if color_space.color_model(stored.icc_profile) == "GRAY" and not is_gray:
        return None, "the ICC profile is left out: it is one for gray, and the photo is in color"
    return color_space.result_profile(stored.icc_profile)
