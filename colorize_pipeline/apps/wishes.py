"""What the user knows of one photo: colors at points or in strokes, and where it is to be painted."""

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from colorize_pipeline.apps.tasks import Layer, Settings


if TYPE_CHECKING:  # a command without hints can do without them
    import numpy as np
    from PIL import Image


class WishError(ValueError):
    """
    Something that cannot be meant.

    Args:
        message (`str`): Why, in one line.
        option (`str`): Of the command line.
    """

    def __init__(self, message: str, option: str):
        super().__init__(message)
        self.option = option


def read_points(hints: list[str], path: str | None) -> tuple[tuple[float, float, str], ...]:
    """
    Read points of known color.

    Args:
        hints (`list` of `str`): Each `x,y,color`.
        path (`str` or `None`): A JSON file of `[{"x": 120, "y": 80, "color": "#7a3b1c"}, ...]`.

    Returns:
        `tuple` of `(x, y, "#rrggbb")`: In pixels of the photo as it is shown.

    Raises:
        `WishError`: if one of them is no such point.
    """
    points = []
    for hint in hints:
        x, y, color = (hint.split(",", 2) + ["", "", ""])[:3]
        points.append(make_point(x, y, color.strip(), f"{hint!r} is no point such as 120,80,#7a3b1c", "--hint"))
    if path is not None:
        shape = '[{"x": 120, "y": 80, "color": "#7a3b1c"}, ...]'
        for entry, wrong in read_entries(path, shape):
            if entry.keys() != {"x", "y", "color"}:
                raise WishError(wrong, "--hints")
            points.append(make_point(entry["x"], entry["y"], entry["color"], wrong, "--hints"))
    return tuple(points)


def read_entries(path: str, shape: str) -> list[tuple[dict, str]]:
    """
    Read a JSON file of points.

    Args:
        path (`str`): Of the file.
        shape (`str`): What it should look like.

    Returns:
        `list` of `(entry, wrong)`: what the file holds, and what to say if that is no point.

    Raises:
        `WishError`: if it is no list of dictionaries.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise WishError(f"{path} cannot be read: {error.strerror}", "--hints") from error
    except ValueError as error:
        raise WishError(f"{path} is no JSON: {error}", "--hints") from error
    if not isinstance(entries, list):
        raise WishError(f"{path} must be a list such as {shape}", "--hints")
    told = [(entry, f"{path} holds {json.dumps(entry)[:80]}, but must be a list such as {shape}") for entry in entries]
    for entry, wrong in told:
        if not isinstance(entry, dict):
            raise WishError(wrong, "--hints")
    return told


def make_point(x: str | float, y: str | float, color: str, wrong: str, option: str) -> tuple[float, float, str]:
    """Give a point `(x, y, "#rrggbb")`. Raises `WishError` with what is `wrong` if it is none."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(color)[:3]
        point = (float(x), float(y), f"#{red:02x}{green:02x}{blue:02x}")
    except (ValueError, TypeError, AttributeError) as error:
        raise WishError(wrong, option) from error
    if not (0 <= point[0] < float("inf") and 0 <= point[1] < float("inf")):
        raise WishError(wrong, option)
    return point


def find_layer(path: str, option: str) -> Layer:
    """
    Identify the file of a layer by what it holds.

    Raises:
        `WishError`: if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return Layer(os.path.abspath(path), hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise WishError(f"{path} cannot be read: {error.strerror}", option) from error


def read_strokes(path: str) -> "Image.Image":
    """Read a layer of strokes as RGBA. Raises `ValueError` if it has no opacity, or as the reading of photos."""
    import numpy as np
    from PIL import Image

    from colorize_pipeline.apps.photo import round_to_eight_bit
    from colorize_pipeline.apps.reading import read_photo
    from colorize_pipeline.image_processor import ColorizationImageProcessor

    layer = read_photo(Path(path))
    if layer.alpha is None:
        raise ValueError("it has no transparency: paint the strokes on a transparent layer, and save that as PNG")
    colors = round_to_eight_bit(ColorizationImageProcessor(1, 1).to_codes(layer.image, "RGB").numpy())
    return Image.fromarray(np.dstack((colors, round_to_eight_bit(layer.alpha))))


def read_mask(path: str) -> "Image.Image | np.ndarray":
    """Read a mask, upright, as the pipeline takes it. Raises as the reading of photos."""
    from colorize_pipeline.apps.reading import read_photo

    return read_photo(Path(path)).image


def check_wishes(settings: Settings, source: str) -> None:
    """
    Hold what the user knows against the photo, before a model is loaded.

    Args:
        settings (`Settings`): With points, strokes or a mask.
        source (`str`): Path of the photo.

    Raises:
        `WishError`: if the layers cannot be read, or do not fit the photo.
    """
    from PIL import Image

    from colorize_pipeline.apps.photo import PHOTO_ERRORS, limit_megapixels, reason_of
    from colorize_pipeline.apps.reading import read_photo

    limit_megapixels(settings.max_megapixels)
    sizes = {}
    for layer, read, option in ((settings.strokes, read_strokes, "--hints"), (settings.mask, read_mask, "--mask")):
        try:
            if layer is not None:
                image = read(layer.path)
                sizes[option] = image.size if isinstance(image, Image.Image) else image.shape[1::-1]
        except PHOTO_ERRORS as error:
            raise WishError(f"{layer.path}: {reason_of(error, settings.max_megapixels)}", option) from error
    try:
        width, height = read_photo(Path(source)).size
    except PHOTO_ERRORS:  # the run says so, as of any photo
        return
    for option, size in sizes.items():
        if size != (width, height):
            raise WishError(
                f"the file is {size[0]} x {size[1]} pixels, but the photo is {width} x {height} as it is shown", option
            )
    for x, y, color in settings.points:
        if x >= width or y >= height:
            raise WishError(
                f"the point {x:g},{y:g},{color} is outside of the photo, which is {width} x {height} pixels as it is"
                " shown",
                "--hint",
            )
