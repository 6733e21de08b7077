"""The kinds of files that are read and written. Nothing heavy is imported: the plan asks before anything is opened."""

import os


PHOTO_SUFFIXES = (
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".tif", ".tiff", ".btf", ".dng", ".webp", ".bmp", ".gif")
    + (".jp2", ".j2k", ".j2c", ".jpf", ".jpx", ".avif", ".heic", ".heif", ".hif")
)  # fmt: skip
OUTPUT_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")

# Parsers for formats that no photo has are closed: each is a way in for malformed files.
PHOTO_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000", "AVIF")
KINDS = "JPEG, PNG, TIFF, WebP, JPEG 2000, AVIF, HEIC, GIF or BMP"

# What `--format` may be; `same` is that of the photo, and PNG where results cannot have it.
FORMATS = ("png", "jpg", "tif", "webp", "same")

_TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".dng")


def suffix_of(path: str) -> str:
    """The suffix of a path in lower case."""
    return os.path.splitext(path)[1].lower()


def result_suffix(wanted: str, source: str) -> str:
    """
    Give the suffix of a result.

    Args:
        wanted (`str`): One of `FORMATS`.
        source (`str`): Path of the photo.
    """
    if wanted != "same":
        return f".{wanted}"
    return os.path.splitext(source)[1] if suffix_of(source) in OUTPUT_SUFFIXES else ".png"


def may_have_pages(path: str) -> bool:
    """Whether a file may be a TIFF, by its name: only these are worth opening to count their pages."""
    return suffix_of(path) in _TIFF_SUFFIXES or suffix_of(path) not in PHOTO_SUFFIXES
