"""`colorize video IN OUT`: a film in colors that do not flicker."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colorize_pipeline.apps.tasks import DTYPES, EngineError, Settings


if TYPE_CHECKING:
    from colorize_pipeline.apps.workers import Model

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)")
_SCENE_SEED = re.compile(r"([1-9]\d*)=(\d+)")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_PREVIEW_SEEDS = 4


@app.command()
def video(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A film, gray or color, in any format of FFmpeg.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="File: .mp4 .m4v .mov .mkv .avi; a picture with --preview.")
    ],
    codec: Annotated[
        str | None, typer.Option(help="h264, h265, or ffv1 (without a loss, for archives). Default: by OUT.")
    ] = None,
    crf: Annotated[
        int | None, typer.Option(min=0, max=51, help="Lower is better and larger. Default: 18, or 20.")
    ] = None,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="The gray of each frame is kept, code for code.")
    ] = False,
    depth: Annotated[
        int | None, typer.Option(help="8, 10, 12 or 16 bit. Default: as IN, if the codec has it.")
    ] = None,
    full_chroma: Annotated[
        bool, typer.Option("--444", help="Colors at full size (4:4:4); without a loss always. Few players take it.")
    ] = False,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="Only from there on: 90, 1:30 or 0:01:30.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Only until before there.")] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Make OUT a picture: one frame of each scene, in four seeds.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other colors.")] = 0,
    scene_seed: Annotated[
        list[str] | None, typer.Option(metavar="SCENE=SEED", help="Another seed for one scene, by its number: 3=7.")
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Drawn for each further frame of a scene that is painted; the best is kept.")
    ] = 4,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps; 1 is dull but safe.")] = None,
    saturation: Annotated[float, typer.Option(min=0, max=4, help="0 is gray, 1 as painted, 2 vivid.")] = 1.0,
    model: Annotated[str, typer.Option(help="Folder or Hub name of another model.", show_default=False)] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, ... Default: the fastest there is.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto.")] = "auto",
    deinterlace: Annotated[bool, typer.Option("--deinterlace", help="Make full pictures of fields.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
) -> None:
    """
    Turn a gray film into color, steadily: colors stay on what they belong to, and change only at cuts.

    Sound, subtitles, chapters, metadata, rotation, times and number of the frames are those of IN. Stop it at any
    moment, and give the same command again to go on; the result is that of a run that nobody stopped.
    """
    try:
        import av  # noqa: F401
    except ImportError as error:
        typer.echo("Films need PyAV: pip install 'colorize-pipeline[video]'", err=True)
        raise typer.Exit(1) from error
    if dtype not in DTYPES:
        raise typer.BadParameter(f"must be one of {', '.join(DTYPES)}, not {dtype!r}", param_hint="--dtype")
    if depth not in (None, 8, 10, 12, 16):
        raise typer.BadParameter(f"must be 8, 10, 12 or 16, not {depth}", param_hint="--depth")
    part = _seconds(start, "--start"), _seconds(end, "--end")
    if None not in part and part[0] >= part[1]:
        raise typer.BadParameter(f"{end} is not after {start}", param_hint="--end")
    seeds = dict(_scene_seed(text) for text in scene_seed or ())
    if preview and target.suffix.lower() not in _PICTURES:
        raise typer.BadParameter(f"with --preview {target} must end in {', '.join(_PICTURES)}", param_hint="OUT")
    if target.exists() and source.exists() and target.samefile(source):
        raise typer.BadParameter(f"{target} is the film itself, and would be replaced", param_hint="OUT")
    if target.exists() and not overwrite:
        typer.echo(f"{target} exists (--overwrite replaces it)", err=True)
        raise typer.Exit(1)

    from colorize_pipeline.apps.film_source import FilmError, open_film
    from colorize_pipeline.apps.film_target import ENCODERS, encoding_of

    if codec not in (None, *ENCODERS):
        raise typer.BadParameter(f"must be one of {', '.join(ENCODERS)}, not {codec!r}", param_hint="--codec")
    try:
        film = open_film(source)
        if film.interlaced and not deinterlace:
            typer.echo(f"{source}: is interlaced, and stays so (--deinterlace makes full pictures of it)", err=True)
        encoding = None
        if not preview:
            encoding = encoding_of(film, target.suffix, codec, crf, lossless, depth, full_chroma)
            if encoding.space.bits < film.space.bits:
                typer.echo(f"{target}: {film.space.bits} bit are rounded to {encoding.space.bits}", err=True)

        from colorize_pipeline.apps.workers import load_model

        loaded = load_model(Settings(model=model, device=device, dtype=dtype, steps=steps, saturation=saturation))
        if preview:
            _preview(loaded, film, target, range(seed, seed + _PREVIEW_SEEDS), samples, steps, saturation, part)
        else:
            _colorize(
                loaded, film, encoding, target, seed, seeds, samples, steps, saturation, part, deinterlace, overwrite
            )
    except (FilmError, EngineError, ValueError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(target)


def _preview(loaded: "Model", film, target, seeds, samples, steps, saturation, part) -> None:
    from colorize_pipeline.apps.film_preview import write_sheets
    from colorize_pipeline.brush import Brush

    brushes = [Brush(loaded.pipe, steps, None, samples, seed, {}) for seed in seeds]
    for path, scenes in write_sheets(film, target, brushes, saturation, *part):
        typer.echo(f"{path}: {scenes} scenes", err=True)


def _colorize(
    loaded, film, encoding, target, seed, scene_seeds, samples, steps, saturation, part, deinterlace, overwrite
) -> None:
    from tqdm import tqdm

    from colorize_pipeline.apps.film_job import Job, run_job
    from colorize_pipeline.brush import Brush

    record = loaded.record
    comment = (
        f"Colors made by a trained model (compositeWithTrainedAlgorithmicMedia): {record.software}, model"
        f" {record.model} {record.revision}, seed {seed}, {scene_seeds or 'all scenes'}, saturation {saturation:g}"
    )
    job = Job(film, encoding, target, saturation, *part, deinterlace, comment, overwrite)
    brush = Brush(loaded.pipe, steps, None, samples, seed, scene_seeds)
    total = film.frames
    if part != (None, None) and total:
        seconds = total / film.rate
        total = round((min(part[1] or seconds, seconds) - (part[0] or 0)) * film.rate)
    with tqdm(total=total or None, unit="frame", disable=None) as progress:
        run_job(job, brush, lambda line: progress.write(line, file=sys.stderr), progress.update)


def _seconds(text: str | None, option: str) -> float | None:
    if text is None:
        return None
    if (found := _TIME.fullmatch(text)) is None:
        raise typer.BadParameter(f"{text!r} is no time such as 90, 1:30 or 0:01:30.5", param_hint=option)
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def _scene_seed(text: str) -> tuple[int, int]:
    if (found := _SCENE_SEED.fullmatch(text)) is None:
        raise typer.BadParameter(f"{text!r} is not SCENE=SEED, such as 3=7", param_hint="--scene-seed")
    return int(found[1]), int(found[2])
