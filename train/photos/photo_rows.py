"""One row of a set of photographs, and a set whose rows are decoded once and for all."""

import io
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import datasets
from datasets.fingerprint import Hasher
from photos.paired_photos import read_pair, read_upright
from PIL import Image

from colorize_pipeline.apps.formats import PHOTO_FORMATS
from colorize_pipeline.apps.photo import PHOTO_ERRORS


# Photos in a row that may be unreadable before the run stops: a folder of something else, not a bad file.
_MAX_UNREADABLE_RUN = 100


def read_row(row: dict) -> tuple[Image.Image, Image.Image | None]:
    """
    Decode one photo.

    Args:
        row (`dict`): `{"bytes", "path"}` of an encoded photo, or a pair, as `find_pairs` lists it.

    Returns:
        `tuple`: the photo in mode RGB and upright, and its own gray in mode L if it is one of a pair that has such a
        file, otherwise `None`.

    Raises:
        `PHOTO_ERRORS`: if it cannot be read.
    """
    if "bytes" not in row:
        return read_pair(row)
    formats = (*PHOTO_FORMATS, "PPM")  # the last is what `decode_once` writes
    with Image.open(io.BytesIO(row["bytes"]) if row["bytes"] else row["path"], formats=formats) as file:
        return read_upright(file, "RGB"), None


def readable_photos(rows: Iterable[dict]) -> Iterator[Image.Image]:
    """Decode photos one after another, with a warning for each that cannot be read."""
    for row in rows:
        try:
            yield read_row(row)[0]
        except PHOTO_ERRORS as error:
            _warn_unreadable(row, error)


def first_readable(row_ahead: Callable[[int], dict]) -> tuple[Image.Image, Image.Image | None, dict]:
    """
    Decode the photo whose turn it is, or the first readable one after it.

    Args:
        row_ahead (callable): `row_ahead(n)` gives the row n places further on, for [`read_row`].

    Returns:
        `tuple`: the photo and its own gray or `None`, both as [`read_row`] gives them, and
        `{"name": ..., "unreadable": number of files passed over}`.
    """
    for unreadable in range(_MAX_UNREADABLE_RUN):
        row = row_ahead(unreadable)
        try:
            photo, gray = read_row(row)
            return photo, gray, {"name": row["path"] or "unnamed", "unreadable": unreadable}
        except PHOTO_ERRORS as error:
            _warn_unreadable(row, error)
    raise ValueError(f"{_MAX_UNREADABLE_RUN} photos in a row cannot be read; the last is {row['path']}.")


def _warn_unreadable(row: dict, error: Exception) -> None:
    warnings.warn(f"photo {row['path']} is passed over, it cannot be read: {error}", stacklevel=3)


def decode_once(photos: datasets.Dataset, column: str, shortest: int) -> datasets.Dataset:
    """
    Replace every photo by its pixels, no larger than training needs: later epochs find pixels instead of files.

    The pixels lie in a file that `datasets` keeps in its cache and maps into memory: all processes share it, and the
    next run on the same, unchanged photos finds it again. They take three bytes each, about 120 kB a photo for crops
    of 128.

    Args:
        photos (`datasets.Dataset`): Undecoded, as `load_photos` gives them. Files that cannot be read stay as they
            are, to be passed over and counted in training.
        column (`str`): Holds the photos.
        shortest (`int`): Longer short sides are shrunk to so many pixels.

    Raises:
        `ValueError`: for pairs. Their arrays are mapped into memory as they are.
    """
    if not isinstance(photos.features[column], datasets.Image):
        raise ValueError("`decode_once` is for photos, but `dataset` holds pairs of gray and color: leave it off.")
    cache_file = None
    if not photos.cache_files:  # a folder: `datasets` would keep the pixels in memory, for this process alone
        stamps = [(row["path"], row["bytes"] or _file_stamp(row["path"])) for row in photos[column]]
        cache_file = str(Path(datasets.config.HF_DATASETS_CACHE) / f"decoded-{Hasher.hash((stamps, shortest))}.arrow")
        Path(cache_file).parent.mkdir(parents=True, exist_ok=True)
    return photos.map(
        _decode_row,
        fn_kwargs={"column": column, "shortest": shortest},
        cache_file_name=cache_file,
        desc="decode the photos once",
        writer_batch_size=200,  # a few dozen MB
    )


def _file_stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:  # a link to nothing: it cannot be decoded either
        return None
    return found.st_size, found.st_mtime_ns


def _decode_row(row: dict, column: str, shortest: int) -> dict:
    try:
        photo, _ = read_row(row[column])
    except PHOTO_ERRORS:
        return row
    scale = shortest / min(photo.size)
    if scale < 1:
        size = [math.ceil(side * scale) for side in photo.size]
        photo = photo.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    pixels = io.BytesIO()
    photo.save(pixels, "PPM")  # a header and the pixels: reading it back is a copy
    return {column: {"bytes": pixels.getvalue(), "path": row[column]["path"]}}
