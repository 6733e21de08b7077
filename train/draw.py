"""
Draw the pictures of `docs/theory.md`:

    python train/draw.py

writes them into `docs/theory`. The photos are those inside scikit-image; the checkpoint is the one that ships, or
another one with `--checkpoint`. Seeds are fixed: on one machine the same command gives the same pictures.
"""

import argparse
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from colorize_pipeline import DEFAULT_CHECKPOINT, ColorizationPipeline
from colorize_pipeline.color import join, rgb_to_chroma
from colorize_pipeline.likelihood import (
    BitsPerDimension,
    bits_per_dimension,
    forward_marginal,
    forward_step,
    from_clean_sample,
    sampling_variances,
    to_clean_sample,
)


@dataclass(frozen=True)
class Kind:
    """A family of noise schedules, and how it looks in every picture."""

    name: str
    beta_schedule: str
    zero_snr: bool
    color: str

    def alphas_cumprod(self, num_timesteps: int) -> Tensor:
        """Give diffusers' schedule, `(T,)` in float64."""
        settings = {"beta_schedule": self.beta_schedule, "rescale_betas_zero_snr": self.zero_snr}
        return DDPMScheduler(num_timesteps, **settings).alphas_cumprod.double()


# Blue and orange are told apart by every eye; what is no schedule has other colors.
LINEAR = Kind("linear", "linear", False, "#e69f00")
COSINE = Kind("cosine", "squaredcos_cap_v2", False, "#56b4e9")
LINEAR_ZERO = Kind("linear, zero terminal SNR", "linear", True, "#a63603")
COSINE_ZERO = Kind("cosine, zero terminal SNR", "squaredcos_cap_v2", True, "#08519c")
FOUR_COLORS = ("#117733", "#aa4499", "#999933", "#333333")

NUM_LEVELS = 10

# Corners of a square whose unit is that of the noise.
TOY_POINTS = 2 * torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]], dtype=torch.float64)
TOY_PARTICLES = 400
TOY_LIMIT = 4.2
TOY_FRAMES = 30
GIF_COLORS = 48


def main(arguments: argparse.Namespace) -> None:
    # 1. The checkpoint, the photos and the folder
    pipeline = ColorizationPipeline.from_pretrained(arguments.checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    photos = {
        name: Image.fromarray(getattr(skimage.data, name)()) for name in ("astronaut", "chelsea", "coffee", "rocket")
    }
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)

    # 2. The forward process, of chroma and of RGB
    small = photos["astronaut"].resize((128, 128), Image.Resampling.LANCZOS)
    luma, rgb = torch.from_numpy(np.array(small.convert("L"))), torch.from_numpy(np.array(small))
    rgb = rgb.permute(2, 0, 1)[None].double() / 255  # (1, 3, H, W)
    chroma = F.avg_pool2d(rgb_to_chroma(rgb), pipeline.config.luminance_patch) / pipeline.config.chroma_scale
    rgb = F.avg_pool2d(rgb, 2) * 2 - 1  # COLORIZED was trained at 64 x 64
    titles = ["$x_0$", *(f"t = {level / NUM_LEVELS:.1f} T" for level in range(1, NUM_LEVELS + 1))]
    for name, clean in (("chroma", chroma[0]), ("rgb", rgb[0])):
        rows = {
            f"{kind.name}\nT = {num_timesteps}": [
                to_picture(sample, luma, pipeline.config.chroma_scale)
                for sample in forward_process(kind.alphas_cumprod(num_timesteps), clean, seeded(0))
            ]
            for kind, num_timesteps in ((LINEAR, 300), (LINEAR, 1000), (COSINE, 1000))
        }
        save(draw_strip(rows, titles), output / f"forward_{name}.jpg")

    # 3. The reverse process, and what the network takes x_0 for on the way
    luma = torch.from_numpy(skimage.data.camera())
    num_steps = NUM_LEVELS * arguments.steps_per_picture
    steps = reverse_process(pipeline, Image.fromarray(luma.numpy()), num_steps, seeded(arguments.seed))
    times, noisy, clean = zip(*steps[:: arguments.steps_per_picture], strict=True)
    final = steps[-1][2]  # the last step returns its estimate
    rows = {
        "$x_t$": [to_picture(sample, luma, pipeline.config.chroma_scale) for sample in (*noisy, final)],
        "estimate\nof $x_0$": [to_picture(sample, luma, pipeline.config.chroma_scale) for sample in (*clean, final)],
    }
    titles = [f"t = {(t + 1) / len(pipeline.scheduler.alphas_cumprod):.1f} T" for t in times]
    save(draw_strip(rows, [*titles, "$x_0$"]), output / "reverse.jpg")

    # 4. Charts: the schedules, and the terms of the bound
    save(draw_schedules((LINEAR, LINEAR_ZERO, COSINE, COSINE_ZERO), (300, 1000)), output / "schedules.png")
    bits = {name: bits_per_dimension(pipeline, photo, generator=seeded(0)) for name, photo in photos.items()}
    save(draw_loss_terms(bits), output / "loss_terms.png")

    # 5. Four points to a Gaussian and back
    schedule = LINEAR.alphas_cumprod(1000)
    paths = {
        "forward": toy_forward(schedule, TOY_POINTS, TOY_PARTICLES, seeded(0)),
        "reverse": toy_reverse(schedule, TOY_POINTS, TOY_PARTICLES, seeded(1)),
    }
    save(draw_toy_strip(schedule, paths), output / "toy.png")
    save_toy_animation(schedule, paths, output / "toy.gif")
    for path in sorted(output.iterdir()):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


# --------------------------------------------------------------------------------------------------------- photographs


def forward_process(schedule: Tensor, clean_sample: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Give x_0 and x_t at `NUM_LEVELS` evenly spaced steps up to T, all with the same noise."""
    noise = torch.randn(clean_sample.shape, generator=generator, dtype=clean_sample.dtype)
    samples = [clean_sample]
    for level in range(1, NUM_LEVELS + 1):
        mean, variance = forward_marginal(schedule, clean_sample, len(schedule) * level // NUM_LEVELS - 1)
        samples.append(mean + variance.sqrt() * noise)
    return samples


def reverse_process(
    pipeline: ColorizationPipeline, photo: Image.Image, num_inference_steps: int, generator: torch.Generator
) -> list[tuple[int, Tensor, Tensor]]:
    """
    Colorize a photo and give timestep, x_t and the estimate of x_0, both `(channels, rows, columns)`, of each step.

    A step callback sees neither x_T nor what the network said; a hook on the network sees both.
    """
    scheduler, processor = pipeline.scheduler, pipeline.image_processor
    resolution = pipeline.config.default_processing_resolution
    _, (rows, columns) = processor.preprocess(processor.to_codes(photo, "L"), resolution)
    schedule = scheduler.alphas_cumprod.double()
    clip = scheduler.config.clip_sample_range if scheduler.config.get("clip_sample") else math.inf
    steps = []

    def record(unet, arguments, output):
        model_input, t = arguments
        noisy = model_input[:, : unet.config.out_channels].double()
        clean = to_clean_sample(schedule, output[0].double(), noisy, int(t), scheduler.config.prediction_type)
        steps.append((int(t), noisy[0, :, :rows, :columns], clean[0, :, :rows, :columns].clamp(-clip, clip)))

    handle = pipeline.unet.register_forward_hook(record)
    try:
        pipeline(photo, num_inference_steps=num_inference_steps, guidance_scale=1.0, generator=generator)
    finally:
        handle.remove()
    return steps


def to_picture(sample: Tensor, luma: Tensor, chroma_scale: float) -> Image.Image:
    """Show RGB in `[-1, 1]`, `(3, height, width)`, as it is, and chroma, `(2, rows, columns)`, on its photo's luma."""
    if len(sample) == 3:
        return Image.fromarray(((sample + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy())
    return Image.fromarray(join(luma, sample * chroma_scale).numpy())


def draw_strip(rows: dict[str, list[Image.Image]], titles: list[str]) -> Figure:
    """Lay out rows of pictures of one shape, each with its name on the left, under the titles of the columns."""
    picture = next(iter(rows.values()))[0]
    cell = (128, round(128 * picture.height / picture.width))  # all in pixels
    label, head, gap = 100, 30, 6
    width, height = label + len(titles) * (cell[0] + gap), head + len(rows) * (cell[1] + gap)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    for column, title in enumerate(titles):
        left = label + column * (cell[0] + gap)
        figure.text((left + cell[0] / 2) / width, 1 - head / 2 / height, title, ha="center", va="center", fontsize=11)
        for line, (name, pictures) in enumerate(rows.items()):
            bottom = height - head - line * (cell[1] + gap) - cell[1]
            figure.text(6 / width, (bottom + cell[1] / 2) / height, "" if column else name, va="center", fontsize=11)
            smaller = pictures[column].width < cell[0]  # its pixels are to be seen
            resample = Image.Resampling.NEAREST if smaller else Image.Resampling.LANCZOS
            figure.figimage(np.asarray(pictures[column].resize(cell, resample)), left, bottom, origin="upper")
    return figure


# -------------------------------------------------------------------------------------------------------------- charts


def draw_schedules(kinds: tuple[Kind, ...], lengths: tuple[int, ...]) -> Figure:
    """Draw signal, noise and their ratio against t / T: a row for each T."""
    figure = Figure(figsize=(10, 2.6 * len(lengths) + 0.5), dpi=110, layout="constrained")
    grid = figure.subplots(len(lengths), 3, squeeze=False, sharex=True, sharey="col")
    for row, num_timesteps in zip(grid, lengths, strict=True):
        time = torch.arange(1, num_timesteps + 1) / num_timesteps
        for kind in kinds:
            schedule = kind.alphas_cumprod(num_timesteps)
            for axes, values in zip(row, (schedule.sqrt(), (1 - schedule).sqrt(), schedule.logit()), strict=True):
                line = "--" if kind.zero_snr else "-"  # most lie upon the other one
                axes.plot(time, values, line, color=kind.color, label=kind.name, linewidth=1.8)
        row[0].set_ylabel(f"T = {num_timesteps}", fontweight="bold")
    grid[0, 0].set_title(r"signal,  $\sqrt{\bar\alpha_t}$", fontsize=10)
    grid[0, 1].set_title(r"noise,  $\sqrt{1 - \bar\alpha_t}$", fontsize=10)
    grid[0, 2].set_title(r"log SNR,  $\ln(\bar\alpha_t / (1 - \bar\alpha_t))$", fontsize=10)
    for axes in grid.flat:
        plain(axes)
    for axes in grid[-1]:
        axes.set_xlabel("t / T")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(kinds), frameon=False)
    return figure


def draw_loss_terms(bits: dict[str, BitsPerDimension]) -> Figure:
    """Draw what each step costs, and what all steps up to it cost, against t."""
    figure = Figure(figsize=(10, 3.8), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    for color, (name, bound) in zip(FOUR_COLORS, bits.items(), strict=True):
        steps = torch.arange(1, len(bound.terms) + 1)
        left.loglog(steps, bound.terms, ".", color=color, markersize=2, alpha=0.15)  # two noises each
        edges = torch.logspace(0, math.log10(len(steps) + 1), 60).round().long().unique()
        bins = [(steps[a - 1 : b - 1].double().mean(), bound.terms[a - 1 : b - 1].mean()) for a, b in pairwise(edges)]
        left.loglog(*zip(*bins, strict=True), color=color, linewidth=1.8)
        label = f"{name}: {bound.total:.2f} bits"
        right.semilogx(steps, bound.terms.cumsum(dim=0), color=color, label=label, linewidth=1.8)
    left.set(xlabel="t", ylabel="bits per dimension", title=r"one term: $L_{t-1}$")
    right.set(xlabel="t", ylim=(0, None), title=r"all terms up to it: $L_0 + \ldots + L_{t-1}$")
    for axes in (left, right):
        plain(axes)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=len(bits), frameon=False)
    return figure


def plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)


# ---------------------------------------------------------------------------------------------------------------- toy


def toy_score(schedule: Tensor, noisy_sample: Tensor, t: int, points: Tensor) -> Tensor:
    """
    Give grad log q(x_t), `(batch_size, dimensions)`, of data that is one of some `points`, `(number, dimensions)`, all
    equally likely: exact, without a network.

    q(x_t) is a mixture of one Gaussian for each point, so that E[x_0 | x_t] is the mean of the points, each weighed by
    how probable it is to have become x_t; Tweedie's formula makes the score of it.
    """
    means, variance = forward_marginal(schedule, points, t)  # (number, dimensions)
    distances = (noisy_sample[:, None] - means).square().sum(dim=-1)  # (B, number)
    best = (-distances / (2 * variance)).softmax(dim=-1) @ points
    return from_clean_sample(schedule, best, noisy_sample, t, "score")


def toy_forward(schedule: Tensor, points: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Noise `number` samples of the points step by step: x_0, x_1, ... x_T, shape `(T + 1, number, dimensions)`."""
    samples = [points.repeat(number // len(points), 1)]
    for t in range(len(schedule)):
        mean, variance = forward_step(schedule, samples[-1], t)
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
        samples.append(mean + variance.sqrt() * noise)
    return torch.stack(samples)


def toy_reverse(schedule: Tensor, points: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Follow the score from noise back to the points, in the order and shape of [`toy_forward`]: x_0 comes first."""
    alphas = schedule / torch.cat((torch.ones_like(schedule[:1]), schedule[:-1]))
    variances = sampling_variances(schedule, "fixed_small")
    samples = [torch.randn(number, points.shape[1], generator=generator, dtype=points.dtype)]
    for t in range(len(schedule) - 1, -1, -1):
        score = toy_score(schedule, samples[-1], t, points)
        mean = (samples[-1] + (1 - alphas[t]) * score) / alphas[t].sqrt()
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
        samples.append(mean + variances[t].sqrt() * noise)
    return torch.stack(samples[::-1])


def draw_toy(axes: Axes, schedule: Tensor, path: Tensor, t: int, with_score: bool) -> None:
    """Draw x_t in the color of the point where each particle starts or ends, over arrows along the score."""
    if with_score and t > 0:
        line = torch.arange(-3.5, 3.6, 1.0, dtype=torch.float64)
        grid = torch.cartesian_prod(line, line)
        # Times the variance the score is the way to sqrt(alpha_cumprod) E[x_0 | x_t]: of one size at every t.
        arrows = (1 - schedule[t - 1]) * toy_score(schedule, grid, t - 1, TOY_POINTS)
        axes.quiver(*grid.T, *arrows.T, angles="xy", scale_units="xy", scale=6, color="0.6", width=0.005)
    axes.scatter(*TOY_POINTS.T, s=60, edgecolors=FOUR_COLORS, facecolors="none", linewidths=1)
    nearest = torch.cdist(path[0], TOY_POINTS).argmin(dim=1)
    axes.scatter(*path[t].T, s=4, c=[FOUR_COLORS[index] for index in nearest], linewidths=0)
    axes.set(xlim=(-TOY_LIMIT, TOY_LIMIT), ylim=(-TOY_LIMIT, TOY_LIMIT), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_color("0.8")


def draw_toy_strip(schedule: Tensor, paths: dict[str, Tensor]) -> Figure:
    """Draw both ways at six times."""
    times = range(0, len(schedule) + 1, len(schedule) // 5)
    figure = Figure(figsize=(10, 3.7), dpi=110, layout="constrained")
    for row, (name, path) in zip(figure.subplots(2, len(times)), paths.items(), strict=True):
        for axes, t in zip(row, times, strict=True):
            draw_toy(axes, schedule, path, t, with_score=name == "reverse")
            axes.set_title(f"t = {t / len(schedule):.1f} T" if name == "forward" else "", fontsize=9)
        row[0].set_ylabel({"forward": "forward  →", "reverse": "←  reverse"}[name])
    return figure


def save_toy_animation(schedule: Tensor, paths: dict[str, Tensor], path: Path) -> None:
    """Write the way out and the way back as one looping GIF that rests at both ends."""
    times = [len(schedule) * frame // TOY_FRAMES for frame in range(TOY_FRAMES + 1)]
    moments, frames = [*(("forward", t) for t in times), *(("reverse", t) for t in reversed(times))], []
    for name, t in moments:
        figure = Figure(figsize=(3.4, 3.6), dpi=100, layout="constrained")
        axes = figure.subplots()
        draw_toy(axes, schedule, paths[name], t, with_score=name == "reverse")
        axes.set_title(f"{name}, t = {t / len(schedule):.2f} T", fontsize=10)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    palette = frames[-2].quantize(GIF_COLORS, Image.Quantize.FASTOCTREE)  # a frame with every color there is
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [1200 if t in (0, len(schedule)) else 80 for _, t in moments]  # milliseconds
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, pil_kwargs={"quality": 82} if path.suffix == ".jpg" else {"optimize": True})


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="docs/theory", help="folder for the pictures")
    parser.add_argument(
        "--checkpoint", default=DEFAULT_CHECKPOINT, help="folder or Hub name; default: the one shipped"
    )
    parser.add_argument("--seed", type=int, default=5, help="of the reverse process")
    parser.add_argument("--steps-per-picture", type=int, default=10, help="of the reverse process")
    main(parser.parse_args())
