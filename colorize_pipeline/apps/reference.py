"""The photo that `--reference` names: its colors, as the pipeline takes them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from colorize_pipeline.apps.color_space import other_space
from colorize_pipeline.apps.photo import round_to_eight_bit
from colorize_pipeline.apps.reading import read_photo


# Colors are matched on some 300 pixels a side: more would only be shrunk again for every photo.
_LONGEST_SIDE = 1024


def read_reference(path: Path) -> Image.Image:
    """
    Read a reference, upright, in sRGB and of at most 1024 pixels a side.

    Raises:
        Any of `photo.PHOTO_ERRORS`: if it cannot be read.
    """
    photo = read_photo(path)
    pixels = Image.fromarray(round_to_eight_bit(photo.image)) if isinstance(photo.image, np.ndarray) else photo.image
    pixels = pixels.convert("RGB")
    pixels.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    if other_space(photo.icc_profile) is None:
        return pixels
    profile = ImageCms.ImageCmsProfile(io.BytesIO(photo.icc_profile))
    return ImageCms.profileToProfile(pixels, profile, ImageCms.createProfile("sRGB"))
