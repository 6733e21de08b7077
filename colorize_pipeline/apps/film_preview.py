"""A sheet of what a film would look like: each scene a row, gray and in several seeds."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from colorize_pipeline.apps.film_planes import to_full_eight_bit
from colorize_pipeline.apps.film_source import Film, read_pictures
from colorize_pipeline.brush import Brush
from colorize_pipeline.color import join
from colorize_pipeline.video import paint_scenes


_THUMBNAIL, _MARGIN, _LINE = 240, 8, 16
_SCENES_PER_SHEET = 12


def write_sheets(
    film: Film,
    target: Path,
    brushes: list[Brush],
    saturation: float,
    start: float | None,
    end: float | None,
    first_hints: Image.Image | list | None = None,
) -> Iterator[tuple[Path, int]]:
    """
    Paint one frame of each scene in several seeds.

    Args:
        film (`Film`): What to look at.
        target (`Path`): A picture; of more than twelve scenes the further sheets get numbers.
        brushes (`list` of `Brush`): One for each seed.
        saturation (`float`): Factor for the chroma.
        start (`float` or `None`), end (`float` or `None`): Seconds.
        first_hints (`PIL.Image.Image`, list of points, or `None`): What is known of the first frame.

    Yields:
        `tuple`: the path of a sheet that is written, and how many scenes are on it.
    """
    turns = film.rotation // 90
    lumas = (
        torch.from_numpy(np.ascontiguousarray(np.rot90(to_full_eight_bit(picture.luma, film.space), turns)))
        for picture in read_pictures(film, start, end, False, lambda line: None)
    )
    rows, sheets, scene = [], 0, 0
    for number, luma, painted in paint_scenes(brushes, lumas, {0: first_hints}.get):
        scene += 1
        small = _shrunk(luma)
        pictures = [small, *(join(small, saturation * chroma) for chroma in painted)]
        rows.append((f"scene {scene}, from frame {number}", pictures))
        if len(rows) == _SCENES_PER_SHEET:
            sheets += 1
            yield _write(target, sheets, rows, brushes), len(rows)
            rows = []
    if rows:
        yield _write(target, sheets + 1, rows, brushes), len(rows)


def _shrunk(luma: torch.Tensor) -> torch.Tensor:
    image = Image.fromarray(luma.numpy())
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return torch.from_numpy(np.array(image))


def _write(target: Path, number: int, rows: list, brushes: list[Brush]) -> Path:
    heights = [pictures[0].shape[0] for _, pictures in rows]
    columns = len(brushes) + 1
    size = (columns * (_THUMBNAIL + _MARGIN) + _MARGIN, sum(heights) + len(rows) * (_LINE + _MARGIN) + _LINE + _MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(["gray", *(f"seed {brush.seed}" for brush in brushes)]):
        draw.text((_MARGIN + column * (_THUMBNAIL + _MARGIN), 2), title, fill="black")
    top = _LINE
    for (title, pictures), height in zip(rows, heights, strict=True):
        draw.text((_MARGIN, top), title, fill="black")
        top += _LINE
        for column, codes in enumerate(pictures):
            sheet.paste(Image.fromarray(codes.numpy()), (_MARGIN + column * (_THUMBNAIL + _MARGIN), top))
        top += height + _MARGIN
    path = target if number == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")
    sheet.save(path)
    return path
