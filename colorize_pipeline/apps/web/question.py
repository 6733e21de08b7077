"""What the page asks for: strokes of color and of area, as the pipeline's hints and mask."""

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass

from PIL import Image, ImageDraw


MAX_STROKES = 500
MAX_POINTS = 50_000  # of all strokes together: an hour of drawing
MAX_SATURATION = 4.0  # as on the command line

_COLOR = re.compile(r"#[0-9a-f]{6}")
# Beside strokes, which are a layer, a click is a disc of this radius, in units of the photo's longer side.
_CLICK_RADIUS = 0.004


@dataclass(frozen=True)
class Stroke:
    """
    A line that was drawn on the photo, or a click.

    Args:
        color (`str`): `"#rrggbb"`, which is known there; or `"area"`, where only the inside is painted.
        size (`float`): Of the brush: its diameter, in units of the photo's longer side.
        points (`tuple` of `(float, float)`): From the left and from the top, in `[0, 1]`; one is a click.
    """

    color: str
    size: float
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Question:
    """
    All that the page sends with whatever it asks.

    Args:
        serial (`int`): Of the question. A later one makes earlier ones stale.
        version (`int`): The version that is chosen, which is its seed, too: from 1.
        revision (`int`): The page's own number for this set of strokes: a version says with which it was painted.
        strokes (`tuple` of `Stroke`): In the order in which they were drawn.
        outside (`str`): Outside of areas there is what was painted before these (`"painted"`), or the `"photo"`.
        use_reference (`bool`): Whether colors are taken over from the reference.
        saturation (`float`): In `[0, 4]`.
    """

    serial: int
    version: int = 0
    revision: int = 0
    strokes: tuple[Stroke, ...] = ()
    outside: str = "painted"
    use_reference: bool = True
    saturation: float = 1.0

    @property
    def areas(self) -> tuple[Stroke, ...]:
        return tuple(stroke for stroke in self.strokes if stroke.color == "area")

    @property
    def colors(self) -> tuple[Stroke, ...]:
        return tuple(stroke for stroke in self.strokes if stroke.color != "area")

    @property
    def colors_before_areas(self) -> tuple[Stroke, ...]:
        """The colors that were drawn before the first area."""
        first = next((number for number, stroke in enumerate(self.strokes) if stroke.color == "area"), None)
        return self.strokes[:first]


def parse_question(data: object) -> Question:
    """
    Read what a browser sent, which may be anything.

    Raises:
        `ValueError`: if it is not what the page sends.
    """
    try:
        strokes = tuple(_parse_stroke(stroke) for stroke in data["strokes"][: MAX_STROKES + 1])
        question = Question(
            serial=int(data["serial"]),
            version=int(data["version"]),
            revision=int(data["revision"]),
            strokes=strokes,
            outside="photo" if data["outside"] == "photo" else "painted",
            use_reference=bool(data["use_reference"]),
            saturation=_number(data["saturation"], 0, MAX_SATURATION),
        )
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise ValueError(f"the page sent what this program does not know ({error}): load it again") from error
    if len(strokes) > MAX_STROKES or sum(len(stroke.points) for stroke in strokes) > MAX_POINTS:
        raise ValueError(f"more than {MAX_STROKES} strokes or {MAX_POINTS} points: undo some")
    return question


def _parse_stroke(data: dict) -> Stroke:
    color = str(data["color"]).lower()
    if color != "area" and not _COLOR.fullmatch(color):
        raise ValueError(f"no color: {color[:20]!r}")
    points = tuple((_number(x, 0, 1), _number(y, 0, 1)) for x, y in data["points"][: MAX_POINTS + 1])
    if not points:
        raise ValueError("a stroke of no points")
    return Stroke(color, _number(data["size"], 0, 1), points)


def _number(value: object, low: float, high: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"no number: {value!r}")
    return min(max(number, low), high)


def hints_of(strokes: tuple[Stroke, ...], size: tuple[int, int]) -> Image.Image | list[tuple[int, int, str]] | None:
    """
    Give the `hints` of the pipeline.

    Args:
        strokes (`tuple` of `Stroke`): Of color.
        size (`tuple` of `int`): Width and height of the photo.

    Returns:
        A list of points `(x, y, color)` if all are clicks; else an RGBA layer of that size; `None` without strokes.
    """
    if not strokes:
        return None
    if all(len(stroke.points) == 1 for stroke in strokes):
        return [(*_pixel(stroke.points[0], size), stroke.color) for stroke in strokes]
    layer = Image.new("RGBA", size)
    _draw(layer, strokes, None)
    return layer


def mask_of(strokes: tuple[Stroke, ...], size: tuple[int, int]) -> Image.Image | None:
    """Give the `mask_image` of the pipeline: white on the areas, in mode L; `None` without any."""
    if not strokes:
        return None
    mask = Image.new("L", size)
    _draw(mask, strokes, 255)
    return mask


def describe(question: Question, reference_sha256: str | None) -> dict:
    """What the record of a result tells of them, with which its owner recognizes a set of strokes; `{}` of none."""
    told = {}
    for name, strokes in (("hints", question.colors), ("mask_image", question.areas)):
        if strokes:
            digest = hashlib.sha256(json.dumps([asdict(stroke) for stroke in strokes]).encode()).hexdigest()
            told[name] = f"{len(strokes)} drawn on the page, sha256:{digest}"
    if reference_sha256 and question.use_reference:
        told["reference_image"] = f"sha256:{reference_sha256}"
    return told


def _pixel(point: tuple[float, float], size: tuple[int, int]) -> tuple[int, int]:
    return min(int(point[0] * size[0]), size[0] - 1), min(int(point[1] * size[1]), size[1] - 1)


def _draw(image: Image.Image, strokes: tuple[Stroke, ...], fill: int | None) -> None:
    draw = ImageDraw.Draw(image)
    for stroke in strokes:
        color = stroke.color if fill is None else fill
        points = [_pixel(point, image.size) for point in stroke.points]
        radius = max(image.size) * stroke.size / 2
        if len(points) == 1 and fill is None:
            radius = min(radius, max(image.size) * _CLICK_RADIUS)
        if len(points) > 1:
            draw.line(points, color, max(1, round(2 * radius)), joint="curve")
        for x, y in (points[0], points[-1]):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), color)
