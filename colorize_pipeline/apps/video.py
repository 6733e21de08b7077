"""`colorize video IN OUT`: a film in colors that do not flicker."""

import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colorize_pipeline.apps.film_hints import FIRST, read_film_hints, seconds_of
from colorize_pipeline.apps.tasks import DTYPES, EngineError, Settings
from colorize_pipeline.apps.wishes import WishError


if TYPE_CHECKING:
    from colorize_pipeline.apps.film_job import Job
    from colorize_pipeline.apps.workers import Model
    from colorize_pipeline.brush import Brush

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_SCENE_SEED = re.compile(r"([1-9]\d*)=(\d+)")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_PREVIEW_SEEDS = 4
# Characters of hints that a result tells.
_LONGEST_TOLD = 2000


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
    hint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y,COLOR[@TIME]",
            help="A color that you know, in pixels of the first frame, or of that at a time: '120,80,#7a3b1c@1:30'.",
        ),
    ] = None,
    hints: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help='The same from a file: .json with [{"x":120,"y":80,"color":"#7a3b1c","time":"1:30"}], or "scene":3'
            " for the frame that --preview shows; or a transparent layer with strokes for the first frame.",
        ),
    ] = None,
    reference: Annotated[
        str, typer.Option(metavar="FILE", help="A color photo whose colors are taken for what looks alike.")
    ] = "",
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
        known = read_film_hints(hint or [], hints, film.size_shown)
        if film.interlaced and not deinterlace:
            typer.echo(f"{source}: is interlaced, and stays so (--deinterlace makes full pictures of it)", err=True)
        encoding = None
        if not preview:
            encoding = encoding_of(film, target.suffix, codec, crf, lossless, depth, full_chroma)
            if encoding.space.bits < film.space.bits:
                typer.echo(f"{target}: {film.space.bits} bit are rounded to {encoding.space.bits}", err=True)

        from colorize_pipeline.apps.film_job import Job
        from colorize_pipeline.apps.film_preview import write_sheets
        from colorize_pipeline.apps.workers import load_model
        from colorize_pipeline.brush import Brush
        from colorize_pipeline.hints import HintWarning

        settings = Settings(
            model=model, device=device, dtype=dtype, steps=steps, saturation=saturation, reference=reference
        )
        loaded = load_model(settings)
        brush = Brush(loaded.pipe, steps, None, samples, seed, seeds, known.scenes, loaded.reference)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", HintWarning)
            if preview:
                brushes = [replace(brush, seed=seed + number, scene_seeds={}) for number in range(_PREVIEW_SEEDS)]
                first = dict(known.timed).get(FIRST)
                for path, scenes in write_sheets(film, target, brushes, saturation, *part, first):
                    typer.echo(f"{path}: {scenes} scene{'s' * (scenes > 1)}", err=True)
            else:
                comment = _comment(loaded, seed, seeds, known.record)
                job = Job(film, encoding, target, saturation, *part, deinterlace, comment, overwrite, known)
                _colorize(job, brush)
        for line in dict.fromkeys(str(told.message) for told in caught if told.category is HintWarning):
            typer.echo(f"{source}: {line}", err=True)
    except WishError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from error
    except (FilmError, EngineError, ValueError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(target)


def _comment(loaded: "Model", seed: int, scene_seeds: dict[int, int], hints: str) -> str:
    """What the result says of how it was made."""
    record = loaded.record
    told = [
        f"seed {seed}",
        str(scene_seeds or "all scenes"),
        *(f"{name} {record.settings[name]}" for name in ("saturation", "reference") if name in record.settings),
    ]
    if hints:
        told.append(f"hints {hints[:_LONGEST_TOLD]}")
    return (
        f"Colors made by a trained model (compositeWithTrainedAlgorithmicMedia): {record.software}, model"
        f" {record.model} {record.revision}, {', '.join(told)}"
    )


def _colorize(job: "Job", brush: "Brush") -> None:
    from tqdm import tqdm

    from colorize_pipeline.apps.film_job import run_job

    total = job.film.frames
    if (job.start, job.end) != (None, None) and total:
        seconds = total / job.film.rate
        total = max(0, round((min(job.end or seconds, seconds) - (job.start or 0)) * job.film.rate))
    with tqdm(total=total or None, unit="frame", disable=None) as bar:
        run_job(job, brush, lambda line: bar.write(line, file=sys.stderr), bar.update)


def _seconds(text: str | None, option: str) -> float | None:
    if text is None:
        return None
    if (seconds := seconds_of(text)) is None:
        raise typer.BadParameter(f"{text!r} is no time such as 90, 1:30 or 0:01:30.5", param_hint=option)
    return seconds


def _scene_seed(text: str) -> tuple[int, int]:
    if (found := _SCENE_SEED.fullmatch(text)) is None:
        raise typer.BadParameter(f"{text!r} is not SCENE=SEED, such as 3=7", param_hint="--scene-seed")
    return int(found[1]), int(found[2])
