"""Colors that the user knows of a film: of which frame, and of which place in it."""

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from colorize_pipeline.apps.wishes import WishError, find_layer, make_point, read_entries, read_strokes


if TYPE_CHECKING:
    from PIL import Image

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)")
_SHAPE = '[{"x": 120, "y": 80, "color": "#7a3b1c", "time": "1:30"}, ...], with "time" or "scene" or neither'
# Before any frame.
FIRST = float("-inf")


@dataclass(frozen=True)
class FilmHints:
    """
    Colors that are known.

    Args:
        timed (`tuple` of `(seconds, hints)`): In the order of time; `FIRST` is the first frame that is painted.
        scenes (`dict` of `int` to hints): Of the frame that each scene is painted from, which --preview shows.
        record (`str`): The same in a line, with checksums of files.
    """

    timed: "tuple[tuple[float, list | Image.Image], ...]" = ()
    scenes: dict[int, list] = field(default_factory=dict)
    record: str = ""


def seconds_of(text: str) -> float | None:
    """Read a time such as 90, 1:30 or 0:01:30.5; `None` if it is none."""
    if (found := _TIME.fullmatch(text)) is None:
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def read_film_hints(hint: list[str], path: str | None, size: tuple[int, int]) -> FilmHints:
    """
    Read what the user knows.

    Args:
        hint (`list` of `str`): Points `x,y,color` of the first frame, or `x,y,color@time`.
        path (`str` or `None`): A JSON file, or a layer of strokes of the first frame.
        size (`tuple`): `(width, height)` of the film as it is shown.

    Raises:
        `WishError`: if it cannot be meant, or is outside of the frame.
    """
    if path is not None and not path.lower().endswith(".json"):
        return _read_layer(hint, path, size)
    timed: dict[float, list] = {}
    scenes: dict[int, list] = {}
    for text in hint:
        wrong = f"{text!r} is no point such as 120,80,#7a3b1c or 120,80,#7a3b1c@1:30"
        place, _, time = text.partition("@")
        x, y, color = (place.split(",", 2) + ["", "", ""])[:3]
        point = make_point(x, y, color.strip(), wrong, "--hint")
        timed.setdefault(_time(time or None, wrong, "--hint"), []).append(_inside(point, size, "--hint"))
    for entry, wrong in [] if path is None else read_entries(path, _SHAPE):
        more = entry.keys() - {"x", "y", "color"}
        if len(entry) != 3 + len(more) or len(more) > 1 or more - {"time", "scene"}:
            raise WishError(wrong, "--hints")
        point = _inside(make_point(entry["x"], entry["y"], entry["color"], wrong, "--hints"), size, "--hints")
        if "scene" in entry:
            if type(entry["scene"]) is not int or entry["scene"] < 1:
                raise WishError(wrong, "--hints")
            scenes.setdefault(entry["scene"], []).append(point)
        else:
            timed.setdefault(_time(entry.get("time"), wrong, "--hints"), []).append(point)
    record = json.dumps([sorted(timed.items()), sorted(scenes.items())]) if timed or scenes else ""
    return FilmHints(tuple(sorted(timed.items())), scenes, record)


def _read_layer(hint: list[str], path: str, size: tuple[int, int]) -> FilmHints:
    from colorize_pipeline.apps.photo import PHOTO_ERRORS, reason_of

    if hint:
        raise WishError("cannot be given together with a layer of strokes: paint the point on that", "--hint")
    found = find_layer(path, "--hints")
    try:
        layer = read_strokes(path)
    except PHOTO_ERRORS as error:
        raise WishError(f"{path}: {reason_of(error, 250)}", "--hints") from error
    if layer.size != size:
        raise WishError(
            f"the file is {layer.size[0]} x {layer.size[1]} pixels, but the film is {size[0]} x {size[1]} as it is"
            " shown",
            "--hints",
        )
    return FilmHints(((FIRST, layer),), {}, f"sha256:{found.sha256}")


def _time(told: str | float | None, wrong: str, option: str) -> float:
    if told is None:
        return FIRST
    seconds = seconds_of(told) if isinstance(told, str) else told
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < float("inf"):
        raise WishError(wrong, option)
    return float(seconds)


def _inside(point: tuple[float, float, str], size: tuple[int, int], option: str) -> tuple[float, float, str]:
    if point[0] >= size[0] or point[1] >= size[1]:
        raise WishError(
            f"the point {point[0]:g},{point[1]:g},{point[2]} is outside of the film, which is {size[0]} x {size[1]}"
            " pixels as it is shown",
            option,
        )
    return point
