"""
Photos that come as pairs of gray and color, in the two layouts that such sets are published in.

    l/gray_scale.npy, ab/ab/ab1.npy, ab/ab/ab2.npy, ab/ab/ab3.npy    arrays of CIE Lab: the Kaggle set of COLORIZED
    color/<name>, gray/<name>                                        two folders of files with equal names

A pair is a small `dict` that says where its pixels are. They are read when its turn comes: of the arrays, which are
larger than most memories, one photo.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from skimage.color import lab2rgb

from colorize_pipeline.apps.formats import PHOTO_FORMATS
from colorize_pipeline.apps.reading import find_photos
from colorize_pipeline.image_processor import ColorizationImageProcessor


# Source: the Kaggle data set shravankumar9892/image-colorization. There the first holds 25,000 photos of 224 x 224,
# and the others 10,000, 10,000 and 5,000, in the same order.
_LIGHTNESS_FILE = "l/gray_scale.npy"
_AB_FILES = ("ab/ab/ab1.npy", "ab/ab/ab2.npy", "ab/ab/ab3.npy")

_COLOR_FOLDER, _GRAY_FOLDER = "color", "gray"
_MAX_NAMED = 3


def find_pairs(folder: Path) -> list[dict] | None:
    """
    List the pairs in a folder, without reading a pixel.

    Args:
        folder (`Path`): What may hold one of the two layouts.

    Returns:
        `list` of `dict`, each for [`read_pair`], with the printable name of the photo as `path`; or `None` if the
        folder holds neither layout.

    Raises:
        `ValueError`: if a part of the layout is missing, cannot be read, or does not fit the others.
    """
    if any((folder / name).exists() for name in (_LIGHTNESS_FILE, *_AB_FILES)):
        return _find_in_arrays(folder)
    if (folder / _COLOR_FOLDER).is_dir() and (folder / _GRAY_FOLDER).is_dir():
        return _find_in_folders(folder)
    return None


def read_pair(pair: dict) -> tuple[Image.Image, Image.Image | None]:
    """
    Read one pair.

    Args:
        pair (`dict`): One of those that [`find_pairs`] lists.

    Returns:
        `tuple`: the color photo in mode RGB, and the gray one in mode L and of the same size, both upright. It is
        `None` for a pair of the arrays: their gray is the lightness of the very color photo, and tells nothing more.

    Raises:
        `OSError`, `ValueError`: if a file cannot be read, or the two photos differ in size.
    """
    if "ab" in pair:
        lightness = _open_array(Path(pair["lightness"]))[pair["lightness_row"]]
        return lab_to_photo(lightness, _open_array(Path(pair["ab"]))[pair["ab_row"]]), None

    with (
        Image.open(pair["path"], formats=PHOTO_FORMATS) as color_file,
        Image.open(pair["gray"], formats=PHOTO_FORMATS) as gray_file,
    ):
        color, gray = read_upright(color_file, "RGB"), read_upright(gray_file, "L")
    if gray.size != color.size:
        raise ValueError(f"its gray file must have its size, {color.size}, but {pair['gray']} has {gray.size}.")
    return color, gray


def read_upright(file: Image.Image, mode: str) -> Image.Image:
    """Read a photo in mode L or RGB as the pipeline does: Pillow's own conversions would clip 16 bit to 8."""
    processor = ColorizationImageProcessor(luminance_patch=1, size_multiple=1)
    return Image.fromarray(processor.to_eight_bit(processor.to_codes(ImageOps.exif_transpose(file), mode)).numpy())


def lab_to_photo(lightness: np.ndarray, ab: np.ndarray) -> Image.Image:
    """
    Convert CIE Lab (D65, 2 degrees) in OpenCV's 8-bit scale to sRGB.

    Args:
        lightness (`np.ndarray` of shape `(height, width)` and type `uint8`): L* times 255 / 100.
        ab (`np.ndarray` of shape `(height, width, 2)` and type `uint8`): a* and b*, plus 128 each.

    Returns:
        `PIL.Image.Image` in mode RGB. Colors outside sRGB are clipped. Colors that were rounded to these codes come
        back within 1.5 (CIE 1976 difference): half a code of each channel in Lab, and half a code of sRGB.

    Source: the documentation of OpenCV, "Color conversions", RGB to CIE L*a*b*, for 8-bit images.
    """
    lab = np.dstack((lightness * np.float32(100 / 255), ab.astype(np.float32) - 128))  # (H, W, 3)
    return Image.fromarray(np.rint(255 * lab2rgb(lab)).astype(np.uint8))


def _find_in_arrays(folder: Path) -> list[dict]:
    missing = [name for name in (_LIGHTNESS_FILE, *_AB_FILES) if not (folder / name).exists()]
    if missing:
        raise ValueError(f"`dataset` {folder} holds Lab arrays, but lacks {', '.join(missing)}.")

    lightness_path = folder / _LIGHTNESS_FILE
    lightness = _open_array(lightness_path)
    if lightness.ndim != 3 or lightness.dtype != np.uint8:
        raise ValueError(
            f"{lightness_path} must be uint8 of shape (photos, height, width), but is {lightness.dtype} of"
            f" {lightness.shape}."
        )
    pairs = []
    for path in (folder / name for name in _AB_FILES):
        ab = _open_array(path)
        if ab.ndim != 4 or ab.shape[1:] != (*lightness.shape[1:], 2) or ab.dtype != np.uint8:
            raise ValueError(
                f"{path} must be uint8 of shape (photos, {lightness.shape[1]}, {lightness.shape[2]}, 2), to fit"
                f" {_LIGHTNESS_FILE}, but is {ab.dtype} of {ab.shape}."
            )
        pairs += [
            {
                "path": f"{path}[{row}]",
                "lightness": str(lightness_path),
                "lightness_row": len(pairs) + row,
                "ab": str(path),
                "ab_row": row,
            }
            for row in range(len(ab))
        ]
    if len(pairs) != len(lightness):
        raise ValueError(
            f"`dataset` {folder} must hold as many gray photos as colors, but {_LIGHTNESS_FILE} has {len(lightness)}"
            f" and ab/ab/ab*.npy have {len(pairs)}."
        )
    return pairs


def _find_in_folders(folder: Path) -> list[dict]:
    color, gray = (
        {path.relative_to(folder / side).as_posix() for path in find_photos(folder / side)}
        for side in (_COLOR_FOLDER, _GRAY_FOLDER)
    )
    unmatched = [f"{_COLOR_FOLDER}/{name}" for name in sorted(color - gray)]
    unmatched += [f"{_GRAY_FOLDER}/{name}" for name in sorted(gray - color)]
    if unmatched:
        more = f" and {len(unmatched) - _MAX_NAMED} more" if len(unmatched) > _MAX_NAMED else ""
        raise ValueError(
            f"`dataset` {folder} must hold files of equal names in {_COLOR_FOLDER} and {_GRAY_FOLDER}, but these have"
            f" no partner: {', '.join(unmatched[:_MAX_NAMED])}{more}."
        )
    if not color:
        raise ValueError(f"`dataset` {folder} holds no photos in {_COLOR_FOLDER} and {_GRAY_FOLDER}.")
    return [
        {"path": str(folder / _COLOR_FOLDER / name), "gray": str(folder / _GRAY_FOLDER / name)}
        for name in sorted(color)
    ]


def _open_array(path: Path) -> np.memmap:
    """Map an array file into memory: only the pages that are used are read."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must be an array file of NumPy, but cannot be read as one: {error}.") from None
