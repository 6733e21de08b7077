"""
What a stroke of color does to the thing it lies on, and to the rest of the photo:

    python tests/benchmarks/strokes.py ../shared/evaluation/kodak --sheet /tmp/strokes.png

Twelve of Kodak's photos are painted from their gray without and with one stroke of a color that the thing has not.
What the stroke lies on was outlined by hand. Printed are the mean CIEDE2000 between the two results inside and outside
the outline, the share of the outline's pixels that came nearer to the asked chroma than half way (of those where that
chroma exists), and how many of the stroke's pixels end within 2 of the color that was asked for. All have one noise.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from colorize_pipeline import DEFAULT_CHECKPOINT, ColorizationPipeline
from colorize_pipeline.color import join, rgb_to_luma
from colorize_pipeline.hints import fit_to_gamut, read_hints
from colorize_pipeline.metrics import pixel_delta_e


sys.path.insert(0, str(Path(__file__).parents[2] / "train"))

from scoring.contact_sheet import contact_sheet  # noqa: E402


OBEYED = 2.0  # CIEDE2000: a difference that is seen side by side, if at all
WIDTH = 0.012  # of a stroke, as a share of the photo's longest side


@dataclass(frozen=True)
class Stroke:
    """One photo's stroke, and the outline of what it lies on; in percent of the photo's width and height."""

    photo: str
    thing: str
    color: str
    stroke: tuple[tuple[int, int], ...]
    outline: tuple[tuple[int, int], ...]


STROKES = (
    Stroke("03", "cap", "#e58fb0", ((18, 28), (30, 28)),
           ((10, 38), (13, 18), (23, 13), (33, 18), (39, 33), (40, 45), (33, 59), (22, 59), (9, 42))),
    Stroke("04", "hat", "#3f6fa8", ((28, 14), (62, 12)),
           ((0, 30), (15, 23), (20, 6), (45, 0), (78, 6), (88, 20), (100, 28), (100, 55), (84, 54), (75, 30), (30, 27),
            (22, 52), (0, 58))),
    Stroke("07", "shutter", "#8a3b2a", ((27, 30), (27, 70)),
           ((21, 79), (22, 28), (28, 9), (34, 9), (40, 22), (40, 79))),
    Stroke("08", "house", "#a5533f", ((43, 62), (43, 88)),
           ((32, 98), (34, 58), (38, 30), (40, 8), (58, 8), (53, 45), (53, 99))),
    Stroke("09", "spinnaker", "#d98a8a", ((60, 36), (76, 36)),
           ((50, 70), (52, 42), (55, 29), (66, 28), (80, 33), (87, 45), (86, 62), (80, 74), (58, 79))),
    Stroke("12", "shorts", "#2f5fa5", ((41, 47), (45, 48)), ((38, 44), (48, 44), (49, 54), (38, 54))),
    Stroke("14", "raft", "#3d8f5a", ((45, 72), (65, 77)),
           ((1, 44), (4, 40), (12, 41), (30, 50), (60, 66), (86, 60), (87, 72), (78, 87), (60, 86), (40, 80), (18, 66),
            (3, 52))),
    Stroke("18", "dress", "#7d2f3f", ((58, 62), (58, 84)),
           ((44, 41), (60, 37), (72, 45), (83, 58), (76, 62), (70, 58), (78, 91), (42, 91), (48, 62))),
    Stroke("19", "lawn", "#9a7b3a", ((10, 93), (85, 95)),
           ((0, 84), (40, 71), (55, 70), (100, 77), (100, 100), (0, 100))),
    Stroke("20", "nose of the plane", "#b04a3f", ((17, 44), (28, 47)),
           ((8, 45), (12, 39), (22, 38), (31, 43), (34, 57), (24, 56), (11, 50))),
    Stroke("21", "lighthouse", "#dba08f", ((45, 36), (45, 52)), ((41, 60), (43, 24), (48, 24), (50, 60))),
    Stroke("23", "parrot", "#3f7f9a", ((72, 45), (85, 62)),
           ((51, 32), (56, 22), (66, 20), (77, 25), (88, 47), (99, 72), (101, 101), (62, 101), (62, 60), (54, 55))),
)  # fmt: skip


def main(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    pipe = ColorizationPipeline.from_pretrained(arguments.checkpoint)
    pipe.set_progress_bar_config(disable=True)
    rows, outside = [], []
    for stroke in STROKES:
        (path,) = arguments.photos.glob(f"*_{stroke.photo}.*")
        photo = Image.open(path).convert("RGB")
        photo.thumbnail((arguments.longest_side, arguments.longest_side))
        row, change = measure(pipe, photo, stroke)
        rows.append(row)
        outside.append(change)
    print(f"outside the outlines: mean {np.mean(outside):.2f}, largest {np.max(outside):.2f}")
    contact_sheet(rows, ["stroke", "before", "after", "difference x 8"], arguments.cell, blocks=2).save(
        arguments.sheet
    )


def measure(pipe: ColorizationPipeline, photo: Image.Image, stroke: Stroke) -> tuple[list[Image.Image], float]:
    """Paint one photo without and with the stroke, and print what changed."""
    luma = rgb_to_luma(torch.from_numpy(np.array(photo)))
    layer = Image.new("RGBA", photo.size)
    width = round(WIDTH * max(photo.size))
    ImageDraw.Draw(layer).line(scaled(stroke.stroke, photo), fill=stroke.color, width=width)
    mask = Image.new("1", photo.size)
    ImageDraw.Draw(mask).polygon(scaled(stroke.outline, photo), fill=1)
    inside = np.array(mask)

    def paint(hints: Image.Image | None) -> np.ndarray:
        generator = torch.Generator().manual_seed(0)
        chroma = pipe(luma.numpy(), hints=hints, generator=generator, output_type="chroma").chroma[0]
        return join(luma, chroma).numpy()

    before, after = paint(None), paint(layer)
    change = pixel_delta_e(before, after)
    known = fit_to_gamut([read_hints(layer, tuple(luma.shape))], [luma])[0]
    asked_chroma = known.chroma.mean(dim=1, keepdim=True)[..., None].expand(2, *luma.shape)
    asked = join(luma, asked_chroma).numpy()
    wanted = pixel_delta_e(before, asked)
    reached = (pixel_delta_e(after, asked) < 0.5 * wanted)[inside & (wanted > OBEYED)].mean()
    exact = torch.zeros(2, *luma.shape)
    exact[:, known.rows, known.columns] = known.chroma
    obeyed = (pixel_delta_e(after, join(luma, exact).numpy())[known.rows, known.columns] <= OBEYED).mean()
    print(
        f"{stroke.photo} {stroke.thing}: inside {change[inside].mean():.2f}, outside {change[~inside].mean():.2f},"
        f" {100 * reached:.0f}% of the thing reached, {100 * obeyed:.1f}% of the stroke obeyed",
        flush=True,
    )
    shown = photo.convert("L").convert("RGBA")
    shown.alpha_composite(layer)
    ImageDraw.Draw(shown).polygon(scaled(stroke.outline, photo), outline="white")
    spread = Image.fromarray(np.clip(8 * change, 0, 255).astype(np.uint8)).convert("RGB")
    pictures = [shown.convert("RGB"), *(Image.fromarray(image) for image in (before, after)), spread]
    return pictures, float(change[~inside].mean())


def scaled(points: tuple[tuple[int, int], ...], photo: Image.Image) -> list[tuple[float, float]]:
    return [(x * photo.width / 100, y * photo.height / 100) for x, y in points]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="the folder of Kodak's photos")
    parser.add_argument("--checkpoint", default=str(DEFAULT_CHECKPOINT))
    parser.add_argument("--longest-side", type=int, default=768)
    parser.add_argument("--sheet", default="strokes.png", help="where the pictures go")
    parser.add_argument("--cell", type=int, default=320)
    parser.add_argument("--threads", type=int, default=1)
    main(parser.parse_args())
