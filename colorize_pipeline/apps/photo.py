"""A photo, and what its file said about it."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from colorize_pipeline.apps.exif import Exif


# What reading or writing a photo may raise; anything else is a defect of this program. (Pillow's
# UnidentifiedImageError is an OSError; it raises SyntaxError, TypeError and OverflowError for broken headers.)
PHOTO_ERRORS = (
    OSError, ValueError, SyntaxError, TypeError, OverflowError, MemoryError, Image.DecompressionBombError
)  # fmt: skip

_ROWS_PER_BLOCK = 256


@dataclass(frozen=True)
class Photo:
    """
    A photo and what its file said about it.

    Args:
        image (`PIL.Image.Image` or `np.ndarray` of shape `(height, width)` or `(height, width, 3)`, type `uint16`):
            Upright pixels, as the pipeline takes them.
        alpha (`np.ndarray` of shape `(height, width)` and type `uint8` or `uint16`, or `None`): Opacity, if the file
            had any.
        exif (`Exif` or `None`): Without orientation and without what described the old file's storage.
        icc_profile (`bytes` or `None`): Of RGB, as the result is: that of the file, or one that looks the same.
        xmp (`bytes` or `None`): The packet, in UTF-8, made true of the upright photo.
        iptc (`bytes` or `None`): The fields of IPTC-IIM.
        dpi (`tuple` or `None`): Horizontal and vertical resolution.
        texts (`dict` of `str`): The texts of a PNG by their keywords; the comment of a JPEG as `"Comment"`.
        notes (`tuple` of `str`): What of the file could not be kept, and what its owner should know.
    """

    image: Image.Image | np.ndarray
    alpha: np.ndarray | None = None
    exif: Exif | None = None
    icc_profile: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def sixteen_bit(self) -> bool:
        """Whether the pixels hold 16 bit a channel."""
        return isinstance(self.image, np.ndarray) or self.image.mode.startswith("I")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.image.shape[1::-1] if isinstance(self.image, np.ndarray) else self.image.size


@dataclass(frozen=True)
class Stored:
    """
    A file as it is: pixels before they are turned, and metadata before it is made true of the result.

    Args:
        image: As in [`Photo`], but not upright.
        orientation (`int`): 1 to 8, as Exif counts.
        icc_profile (`bytes` or `None`): Of any color model.
        turned (`bool`): Whether the decoder has turned the pixels already.
        The others: as in [`Photo`].
    """

    image: Image.Image | np.ndarray
    alpha: np.ndarray | None = None
    orientation: int = 1
    turned: bool = False
    exif: Exif | None = None
    icc_profile: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def by_rows(codes: np.ndarray, dtype: type, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Convert codes of a large photo in blocks of rows: what is held in between is small."""
    converted = np.empty(codes.shape, dtype)
    for start in range(0, len(codes), _ROWS_PER_BLOCK):
        converted[start : start + _ROWS_PER_BLOCK] = convert(codes[start : start + _ROWS_PER_BLOCK])
    return converted


def scale_codes(codes: np.ndarray, depth: int) -> np.ndarray:
    """Stretch codes of 1 to 16 bits to 16."""
    if depth == 16:
        return codes.astype(np.uint16, copy=False)
    white = (1 << depth) - 1
    return by_rows(codes, np.uint16, lambda rows: (rows.astype(np.uint32) * 65_535 + white // 2) // white)


def round_to_eight_bit(codes: np.ndarray) -> np.ndarray:
    """Round 16-bit codes to 8 bit, white to white; 8-bit codes pass."""
    if codes.dtype == np.uint8:
        return codes
    return by_rows(codes, np.uint8, lambda rows: (rows.astype(np.uint32) + 128) // 257)


def reason_of(error: BaseException, max_megapixels: int) -> str:
    """Say in one line why a photo could not be read, painted or written."""
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {max_megapixels} megapixels (--max-megapixels)"
    # An error of the file system has a number, and names a path that is nobody else's business.
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror or type(error).__name__
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def limit_megapixels(max_megapixels: int) -> None:
    """Have Pillow refuse larger photos, in all of this process, and warn of nothing: a photo is read, or refused."""
    Image.MAX_IMAGE_PIXELS = max_megapixels * 500_000  # it refuses twice that many, and warns of those between
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", module=r"PIL\.")
