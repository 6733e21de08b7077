"""The gray in a result: taken out, and held against the record of the one that went in."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from colorize_pipeline.apps.photo import Photo
from colorize_pipeline.apps.provenance import Record, distance, identify_gray, read_record


_ROWS_PER_BLOCK = 1024

LOSSY_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")


@dataclass(frozen=True)
class Verdict:
    """
    What a result's gray is.

    Args:
        state (`str`): `"exact"`: the codes that went in; `"lossy"`: a JPEG, which cannot hold them; `"edited"`; or
            `"unknown"`: the file does not say what went in.
        words (`str`): The same for people.
        largest (`float` or `None`), mean (`float` or `None`): How far it is off, in 8-bit codes, at least: between the
            means of 16 x 16 fields.
    """

    state: str
    words: str
    largest: float | None = None
    mean: float | None = None


def luma_of(photo: Photo) -> np.ndarray:
    """The luma codes of a photo, `(height, width)`, `uint8` or `uint16`."""
    from colorize_pipeline.image_processor import ColorizationImageProcessor

    processor = ColorizationImageProcessor(1, 1)
    if not isinstance(photo.image, np.ndarray):
        return processor.to_codes(photo.image, "L").numpy()
    luma = np.empty(photo.image.shape[:2], photo.image.dtype)
    for start in range(0, len(luma), _ROWS_PER_BLOCK):  # the processor copies what it reads
        rows = slice(start, start + _ROWS_PER_BLOCK)
        luma[rows] = processor.to_codes(photo.image[rows], "L").numpy()
    return luma


def without_color(photo: Photo) -> Photo:
    """Keep only the luma of a color scan of 16 bit, where no color of it is needed: a third of the memory."""
    if not isinstance(photo.image, np.ndarray) or photo.image.ndim == 2:
        return photo
    return replace(photo, image=luma_of(photo))


def judge(path: Path, photo: Photo, luma: np.ndarray) -> tuple[Record | None, Verdict]:
    """
    Hold the gray of a result against its record.

    Args:
        path (`Path`): Of the result.
        photo (`Photo`): What was read from it.
        luma (`np.ndarray`): As [`luma_of`] gives it.

    Raises:
        `ValueError`: if the record is damaged.
    """
    record = read_record(photo.xmp)
    if record is None or record.gray is None:
        return record, Verdict("unknown", "the file does not say which gray went in: nothing to compare with")
    went_in, found = record.gray, identify_gray(luma)
    if found.sha256 == went_in.sha256:
        return record, Verdict("exact", "the gray that went in, code for code", 0.0, 0.0)
    far = distance(luma, went_in)
    largest, mean = float(far.max()), float(far.mean())
    row, column = np.unravel_index(far.argmax(), far.shape)
    where = f"by {mean:.2f} codes of 255 on average over its fields, most ({largest:.2f}) around"
    where += f" {100 * (column + 0.5) / 16:.0f}% from the left and {100 * (row + 0.5) / 16:.0f}% from the top"
    changes = []
    if (found.width, found.height) != (went_in.width, went_in.height):
        changes.append(f"its size was {went_in.width} x {went_in.height}, and is {found.width} x {found.height}")
    if found.bits != went_in.bits:
        changes.append(f"it had {went_in.bits} bit, and has {found.bits}")
    if path.suffix.lower() in LOSSY_SUFFIXES and largest < 2 and not changes:
        return record, Verdict("lossy", f"near the gray that went in, as JPEG keeps it: off {where}", largest, mean)
    changes.append(f"its gray is off {where}")
    return record, Verdict("edited", "the result was edited since it was made: " + "; ".join(changes), largest, mean)
