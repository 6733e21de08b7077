"""Write results: whole or not at all, never over another file unless asked, with the metadata of their photos."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from colorize_pipeline.apps import jpeg_file, png_file, tiff_file
from colorize_pipeline.apps.exif import Exif, has_description, with_resolution
from colorize_pipeline.apps.photo import Photo, round_to_eight_bit
from colorize_pipeline.apps.provenance import Record, mark_synthetic
from colorize_pipeline.apps.workplace import put_in_place, unfinished_folder


class Rows(Protocol):
    """A picture that is made as it is written, like [`colorize_pipeline.apps.painting.Painting`]."""

    shape: tuple[int, int, int]
    dtype: np.dtype

    def blocks(self) -> Iterator[np.ndarray]: ...


_JPEG, _TIFF = (".jpg", ".jpeg"), (".tif", ".tiff")
_MAX_WEBP_SIDE = 16_383  # Source: WebP container specification: 14 bits


def write_photo(
    path: Path,
    colors: Rows | Image.Image | np.ndarray,
    photo: Photo,
    overwrite: bool = False,
    record: Record | None = None,
    synthetic: bool = True,
) -> tuple[str, ...]:
    """
    Write a result with the metadata of its photo, whole or not at all. Its XMP says that a model made the colors.

    Args:
        path (`Path`): Ends in one of `formats.OUTPUT_SUFFIXES`; 16 bit is written as PNG or TIFF.
        colors (`Rows`, `PIL.Image.Image`, or `np.ndarray` of shape `(height, width)` or `(height, width, 3)`):
            What to write; arrays hold `uint8` or `uint16`.
        photo (`Photo`): Where the metadata and the opacity come from.
        overwrite (`bool`, *optional*, defaults to `False`): Replace an existing file.
        record (`Record`, *optional*): How it was made, which the result then says.
        synthetic (`bool`, *optional*, defaults to `True`): `False` for a gray that no model made.

    Returns:
        `tuple` of `str`: What of the metadata this kind of file could not take.

    Raises:
        `FileExistsError`: if there is a file of other content and `overwrite` is false.
        `ValueError`: if the format cannot hold the picture.
        `OSError`: if the disk does not take it; nothing is left behind then.
    """
    with unfinished_folder(str(path.parent)) as folder:
        unfinished = Path(folder, f"result{path.suffix}")
        notes = save_photo(unfinished, colors, photo, record, synthetic)
        if not put_in_place(str(unfinished), str(path), overwrite):
            raise FileExistsError(f"{path} exists, and is not replaced unless asked")
    return notes


def save_photo(
    path: Path,
    colors: Rows | Image.Image | np.ndarray,
    photo: Photo,
    record: Record | None = None,
    synthetic: bool = True,
) -> tuple[str, ...]:
    """Write the file itself, where there is none yet and nobody looks for it; all else as [`write_photo`]."""
    suffix = path.suffix.lower()
    colors = np.asarray(colors) if isinstance(colors, Image.Image) else colors
    check_fits(suffix, colors.shape[1::-1], colors.dtype == np.uint16)
    photo, notes = _for_format(photo, suffix, record, synthetic)
    with path.open("xb") as file:
        notes += _save(file, suffix, colors, photo)
        file.flush()
        os.fsync(file.fileno())
    return tuple(notes)


def check_fits(suffix: str, size: tuple[int, int], sixteen_bit: bool) -> None:
    """
    Check that a format can hold a picture, so that none is painted in vain.

    Args:
        suffix (`str`): In lower case.
        size (`tuple` of `int`): Width and height.
        sixteen_bit (`bool`): Whether it has 16 bit a channel.

    Raises:
        `ValueError`: if it cannot.
    """
    if sixteen_bit and suffix not in (".png", *_TIFF):
        raise ValueError(f"{suffix} files hold 8 bit, this photo has 16: write .png or .tif, or take --depth 8")
    if suffix == ".webp" and max(size) > _MAX_WEBP_SIDE:
        raise ValueError(f"WebP holds {_MAX_WEBP_SIDE} pixels a side, this photo has {max(size)}: write .png")


def _for_format(photo: Photo, suffix: str, record: Record | None, synthetic: bool) -> tuple[Photo, list[str]]:
    """Take from a photo what its new format has no place for, and say so."""
    notes = []
    if synthetic:
        try:
            xmp = mark_synthetic(photo.xmp, record)
        except ValueError as error:
            xmp = mark_synthetic(None, record)
            notes.append(str(error))
        if suffix in _JPEG and not jpeg_file.fits(xmp):
            xmp = mark_synthetic(None, record)
            notes.append("XMP is left out: it is longer than JPEG can hold")
        photo = replace(photo, xmp=xmp)
    if suffix == ".png":
        return photo, notes
    kept = "Comment" if suffix in _JPEG or (suffix in _TIFF and not has_description(photo.exif)) else None
    if lost := sorted(photo.texts.keys() - {kept}):
        names = ", ".join("".join(filter(str.isprintable, keyword))[:40] for keyword in lost)
        notes.append(f"left out: {names}; .png keeps such texts")
    if suffix == ".webp":
        if photo.iptc:
            notes.append("IPTC fields are left out: WebP has no place for them")
        photo = replace(photo, iptc=None)
        if photo.dpi:  # which WebP can only say in Exif
            photo = replace(photo, exif=with_resolution(photo.exif or Exif("<", {}), photo.dpi))
    if suffix in _JPEG and photo.alpha is not None:
        notes.append("opacity is left out: JPEG has no place for it")
        photo = replace(photo, alpha=None)
    texts = {kept: photo.texts[kept]} if kept in photo.texts else {}
    return replace(photo, texts=texts), notes


def _save(file, suffix: str, colors: Rows | np.ndarray, photo: Photo) -> list[str]:
    height, width = colors.shape[:2]
    channels = (1 if len(colors.shape) == 2 else 3) + (photo.alpha is not None)
    if suffix in _TIFF:
        tiff_file.write_tiff(file, _blocks(colors, photo.alpha), (height, width, channels), colors.dtype, photo)
        return []
    chunks = png_file.metadata_chunks(photo) if suffix == ".png" else []
    if colors.dtype == np.uint16:
        png_file.write_png(file, _blocks(colors, photo.alpha), (height, width, channels), chunks)
        return []
    whole, start = np.empty((height, width, channels), np.uint8), 0
    for block in _blocks(colors, photo.alpha):
        whole[start : start + len(block)] = block
        start += len(block)
    image = Image.fromarray(whole[:, :, 0] if channels == 1 else whole)  # mode L, LA, RGB or RGBA
    if suffix in _JPEG:
        return jpeg_file.write_jpeg(file, image, photo)
    if suffix == ".webp":
        options = {"icc_profile": photo.icc_profile} if photo.icc_profile else {}
        exif = photo.exif.encode() if photo.exif else b""
        image.save(file, "WEBP", lossless=True, exact=True, exif=exif, xmp=photo.xmp or b"", **options)
        return []
    # Level 1 is several times faster than the default and costs about a tenth in size.
    image.save(_Splice(file, chunks), "PNG", compress_level=1)
    return []


def _blocks(colors: Rows | np.ndarray, alpha: np.ndarray | None) -> Iterator[np.ndarray]:
    """Rows of `(rows, width, channels)`, from the top, with opacity at their depth."""
    start = 0
    for block in (
        np.array_split(colors, -(-len(colors) // 1024)) if isinstance(colors, np.ndarray) else colors.blocks()
    ):
        block = block[:, :, None] if block.ndim == 2 else block
        if alpha is not None:
            rows = alpha[start : start + len(block), :, None]
            if rows.dtype != block.dtype:
                rows = round_to_eight_bit(rows) if block.dtype == np.uint8 else rows.astype(np.uint16) * 257
            block = np.concatenate([block, rows], axis=2)
        start += len(block)
        yield block


class _Splice:
    """A file that puts chunks behind the header of the PNG that is written to it."""

    def __init__(self, file, chunks: list[bytes]):
        self.file, self.chunks = file, chunks

    def write(self, data: bytes) -> int:
        self.file.write(data)
        if self.chunks and self.file.tell() >= png_file.END_OF_HEADER:
            self.file.write(b"".join(self.chunks))
            self.chunks = []
        return len(data)

    def flush(self) -> None:
        self.file.flush()
