"""
How many steps a sample needs, under which sampler:

    python train/step_curve.py --photos ../shared/evaluation/kodak --results train/results

paints the same photos with every scheduler in 1 to 50 steps and writes `steps.json` and the chart `steps.png`. In one
step all samplers give the mean of all answers. `--training runs/small` adds the curves of a run, its loss and what its
validation saw on the way: `training.json` and `training.png`.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from scoring.painted_photos import SCHEDULERS, Painter, load_spread, set_scheduler
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

from colorize_pipeline import DEFAULT_CHECKPOINT, ColorizationPipeline
from colorize_pipeline.metrics import ColorScores, score_colors


STEPS = (1, 2, 4, 8, 16, 50)


def main(arguments: argparse.Namespace) -> None:
    if not (arguments.photos or arguments.training):
        raise ValueError("There is nothing to do: name `--photos` to paint, or a run by `--training`.")
    folder = Path(arguments.results)
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.training:
        curves = read_training(Path(arguments.training) / "logs")
        if "loss" not in curves:
            raise ValueError(f"`--training` must be the output folder of a run, but {arguments.training} has no logs.")
        (folder / "training.json").write_text(json.dumps(curves, indent=1) + "\n")
        draw_training(curves).savefig(folder / "training.png")
    if not arguments.photos:
        return
    pipeline = ColorizationPipeline.from_pretrained(arguments.checkpoint, dtype=torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    squares = [
        ImageOps.fit(photo, (arguments.size, arguments.size), Image.Resampling.LANCZOS)
        for source in arguments.photos
        for photo in load_spread(source, arguments.files, arguments.split, arguments.max_photos)
    ]
    rows = []
    for name in SCHEDULERS:
        set_scheduler(pipeline, name)
        for steps in STEPS:
            painter = Painter(pipeline, arguments.samples, steps=steps)
            scores = [score_samples(painter, truth, number) for number, truth in enumerate(tqdm(squares, name))]
            rows.append({"scheduler": name, "steps": steps, **summarize(scores)})
    results = {
        "command": shlex.join(["python", "train/step_curve.py", *sys.argv[1:]]),
        "num_images": len(squares),
        "samples": arguments.samples,
        "rows": rows,
    }
    (folder / "steps.json").write_text(json.dumps(results, indent=1) + "\n")
    draw_steps(rows, arguments.samples).savefig(folder / "steps.png")


def score_samples(painter: Painter, truth: Image.Image, number: int) -> list[ColorScores]:
    """Paint the `number`-th photo several times and score what comes out."""
    samples = painter.samples(truth.convert("L"), painter.num_samples, number)
    return [score_colors(np.asarray(sample), np.asarray(truth)) for sample in samples]


def summarize(photos: list[list[ColorScores]]) -> dict[str, float]:
    """Average what the chart shows over the photos."""
    samples = [score for photo in photos for score in photo]
    return {
        "one sample dE00": float(np.mean([score.delta_e for score in samples])),
        "best dE00": float(np.mean([min(score.delta_e for score in photo) for photo in photos])),
        "CF": float(np.mean([score.colorfulness for score in samples])),
        "true CF": float(np.mean([score.true_colorfulness for score in samples])),
    }


def read_training(logs: Path) -> dict[str, list[list[float]]]:
    """Read every curve that a run wrote for TensorBoard: `[photos seen, value]`."""
    curves = {}
    for events in sorted(logs.rglob("events*"), key=lambda path: path.stat().st_mtime):
        accumulator = EventAccumulator(str(events))
        accumulator.Reload()
        for tag in accumulator.Tags()["scalars"]:
            points = {step: value for step, value in curves.get(tag, [])}
            points |= {event.step: event.value for event in accumulator.Scalars(tag)}
            curves[tag] = [[step, points[step]] for step in sorted(points)]
    return curves


def draw_steps(rows: list[dict], samples: int) -> Figure:
    """Draw the scores against the number of steps, a line for each scheduler."""
    figure = Figure(figsize=(10, 3.2), dpi=100, layout="constrained")
    titles = {"one sample dE00": "one sample, dE00", "best dE00": f"best of {samples}, dE00", "CF": "colorfulness"}
    for axes, (column, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        for name in SCHEDULERS:
            line = [row for row in rows if row["scheduler"] == name]
            axes.plot([row["steps"] for row in line], [row[column] for row in line], marker="o", ms=4, label=name)
        if column == "CF":
            axes.axhline(rows[0]["true CF"], color="0.4", ls=":", label="true colors")
        axes.set_xscale("log", base=2)
        axes.set_xticks(STEPS, [str(steps) for steps in STEPS])
        _finish(axes, title, "steps")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    return figure


def draw_training(curves: dict[str, list[list[float]]]) -> Figure:
    """Draw the loss and, where it came more than once, what validation saw against the photos seen."""
    figure = Figure(figsize=(10, 3), dpi=100, layout="constrained")
    validated = ("validation/delta_e_mean", "validation/delta_e_best")
    names = ["loss", *(name for name in validated if len(curves.get(name, [])) > 1)]  # one point is no curve
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        steps, values = np.array(curves[name]).T
        axes.plot(steps / 1000, values, marker="o" if len(steps) < 30 else None, ms=4)
        _finish(axes, name.replace("_", " ").replace("delta e", "dE00"), "thousand photos seen")
    return figure


def _finish(axes: Axes, title: str, label: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(label)
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help="folder or Hub name; default: that shipped")
    parser.add_argument("--photos", nargs="*", default=[], help="folders of color photos, or Hub data sets")
    parser.add_argument("--files", default="*.parquet", help="which shards of a folder of shards")
    parser.add_argument("--split", default="test", help="of data sets on the Hub")
    parser.add_argument("--max-photos", type=int, default=8, help="of each folder, spread over it")
    parser.add_argument("--size", type=int, default=128, help="side of the square photos, in pixels")
    parser.add_argument("--samples", type=int, default=4, help="samples of each photo")
    parser.add_argument("--training", help="output folder of a training run")
    parser.add_argument("--results", default="train/results", help="folder for the numbers and charts")
    main(parser.parse_args())
