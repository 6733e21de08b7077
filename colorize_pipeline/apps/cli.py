"""The command line: `colorize PHOTO...`"""

import datetime
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from colorize_pipeline.apps import info, restore, video
from colorize_pipeline.apps.batch import Request
from colorize_pipeline.apps.console import Console, run_plan, tell_plan
from colorize_pipeline.apps.formats import FORMATS, result_suffix
from colorize_pipeline.apps.plan import Plan, PlanError, Selection, make_plan
from colorize_pipeline.apps.tasks import DTYPES, Layer, Settings
from colorize_pipeline.apps.wishes import WishError, check_wishes, find_layer, read_points


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def colorize(
    photos: Annotated[
        list[str], typer.Argument(metavar="PHOTO...", help="Photos, or folders of photos; - is standard input.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="File (.png .jpg .tif .webp), folder, or - for standard output. Default: beside the photo.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Also write gray and color side by side.")] = False,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Another seed gives other colors. With the same seed a photo gets the same colors alone, in a folder"
            " and under any name; different photos get their own.",
        ),
    ] = 0,
    num_images: Annotated[int, typer.Option(min=1, help="Versions of each photo: seeds SEED, SEED+1, ...")] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps; 1 is dull but safe.")] = None,
    saturation: Annotated[float, typer.Option(min=0, max=4, help="0 is gray, 1 as painted, 2 vivid.")] = 1.0,
    target_colorfulness: Annotated[
        float | None,
        typer.Option(min=0, help="Choose the saturation that makes photos as colorful as this: 30 to 45 is usual."),
    ] = None,
    hint: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y,COLOR", help="A color that you know, in pixels of the one photo: '120,80,#7a3b1c'."),
    ] = None,
    hints: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help='The same from a file: .json with [{"x":120,"y":80,"color":"#7a3b1c"}], or a'
            " transparent layer of the photo's size with strokes.",
        ),
    ] = None,
    mask: Annotated[
        str | None, typer.Option(metavar="FILE", help="White where the one photo is painted; the rest stays as it is.")
    ] = None,
    reference: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="A color photo: its colors go to what looks like the same thing.", show_default=False
        ),
    ] = "",
    doubt: Annotated[
        bool, typer.Option("--doubt", help="Also write NAME.doubt.png: where the colors are sure, and where a guess.")
    ] = False,
    model: Annotated[str, typer.Option(help="Folder or Hub name of another model.", show_default=False)] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, ... Default: the fastest there is.")] = "auto",
    dtype: Annotated[
        str,
        typer.Option(help="float32, bfloat16, float16, or auto: bfloat16 where the processor is made for it."),
    ] = "auto",
    wanted_format: Annotated[
        str, typer.Option("--format", help="png, jpg, tif, webp, or same: that of the photo. -o FILE names its own.")
    ] = "png",
    pages: Annotated[
        str, typer.Option(help="Of a TIFF of several pages: first, or all, each a result of its own.")
    ] = "first",
    depth: Annotated[
        int | None, typer.Option(help="8 rounds 16-bit scans to 8 bit, and makes gray of black-and-white ones.")
    ] = None,
    max_megapixels: Annotated[int, typer.Option(min=1, help="Larger photos are refused: they may be a trap.")] = 250,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Of folders, only these photos: '*.tif', '1936/*'.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Of folders, not these photos.")] = None,
    newer_than: Annotated[
        str | None, typer.Option(metavar="DATE", help="Of folders, only photos changed since: 2026-01-31[T12:00].")
    ] = None,
    keep_times: Annotated[bool, typer.Option("--keep-times", help="Give results the times of their photos.")] = False,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Try photos again that an earlier run with -o FOLDER could not read."),
    ] = False,
    report: Annotated[
        str | None, typer.Option(metavar="FILE.html", help="Write pages of all results, with thumbnails.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Photos painted at a time. Default: one for each core (up to 8) or GPU.")
    ] = None,
    engine: Annotated[str, typer.Option(help="local, or ray: on a cluster.")] = "local",
) -> None:
    """
    Turn gray photographs into color. The gray of each photo is kept, value for value.

    Writes NAME.color.png beside each PHOTO (several versions: NAME.color-SEED.png). The photo itself is never touched.
    Reads JPEG, PNG, TIFF (BigTIFF, too), WebP, JPEG 2000, AVIF, HEIC, GIF and BMP; 16-bit results are PNG or TIFF.

    With -o FOLDER a journal is kept there: stop the command at any moment, and give it again to go on.

    colorize info FILE says how a result was made; colorize restore FILE gives the gray back that is in it; colorize
    video IN OUT colors a film. (A photo of such a name: ./info)
    """
    for value, allowed, option in (
        (dtype, DTYPES, "--dtype"),
        (wanted_format, FORMATS, "--format"),
        (pages, ("first", "all"), "--pages"),
        (engine, ("local", "ray"), "--engine"),
    ):
        if value not in allowed:
            raise typer.BadParameter(f"must be one of {', '.join(allowed)}, not {value!r}", param_hint=option)
    if depth not in (None, 8):
        raise typer.BadParameter(f"must be 8, not {depth}: 16 bit stay 16 bit without it", param_hint="--depth")
    if target_colorfulness is not None and saturation != 1:
        raise typer.BadParameter(
            "it chooses the saturation: leave out --saturation", param_hint="--target-colorfulness"
        )
    if model:
        _check_model(model)
    points, strokes, mask_layer = _read_wishes(hint or [], hints, mask)
    settings = Settings(
        model=model,
        device=device,
        dtype=dtype,
        steps=steps,
        saturation=saturation,
        target_colorfulness=target_colorfulness,
        points=points,
        strokes=strokes,
        mask=mask_layer,
        reference=reference,
        doubt=doubt,
        format=wanted_format,
        pages=pages,
        depth=depth,
        compare=compare,
        overwrite=overwrite,
        keep_times=keep_times,
        max_megapixels=max_megapixels,
    )
    selection = Selection(tuple(only or ()), tuple(exclude or ()), _parse_date(newer_than))
    with _streams(photos, output, wanted_format) as (photos, output, names):
        if "" in names.values() and (compare or doubt or num_images > 1):
            option = "--compare" if compare else "--doubt" if doubt else "--num-images"
            raise typer.BadParameter(
                "standard output takes one picture: name a file or a folder with -o", param_hint=option
            )
        plan = _plan(photos, output, range(seed, seed + num_images), selection, settings)
        if settings.is_for_one_photo:
            _check_wishes(settings, plan)
        request = Request(seed, overwrite, retry_failed, compare, settings.of_colors())
        if dry_run:
            code = tell_plan(plan, request, workers)
        else:
            code = run_plan(plan, settings, request, report, workers, engine, Console(len(plan.jobs), names))
    raise typer.Exit(code)


def _check_model(model: str) -> None:
    """End with a line if there is no such model, before anything is imported that takes seconds."""
    from colorize_pipeline.model_folder import is_model_folder

    try:
        is_model_folder(model)
    except ValueError as error:
        typer.echo(f"The model cannot be loaded: {error}", err=True)
        raise typer.Exit(1) from error


def _read_wishes(
    hint: list[str], hints: str | None, mask: str | None
) -> tuple[tuple[tuple[float, float, str], ...], Layer | None, Layer | None]:
    """Returns points, strokes and the mask."""
    try:
        is_layer = hints is not None and not hints.lower().endswith(".json")
        if is_layer and hint:
            raise WishError("cannot be given together with a layer of strokes: paint the point on that", "--hint")
        return (
            read_points(hint, None if is_layer else hints),
            find_layer(hints, "--hints") if is_layer else None,
            None if mask is None else find_layer(mask, "--mask"),
        )
    except WishError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from error


def _check_wishes(settings: Settings, plan: Plan) -> None:
    if len(plan.jobs) != 1:
        raise typer.BadParameter(
            f"hints and masks are for one photo, but there are {len(plan.jobs)}", param_hint="PHOTO"
        )
    try:
        check_wishes(settings, plan.jobs[0].source)
    except WishError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from error


def _parse_date(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no date such as 2026-01-31 or 2026-01-31T12:00", param_hint="--newer-than"
        ) from error


def _plan(photos: list[str], output: str | None, numbers: range, selection: Selection, settings: Settings) -> Plan:
    try:
        return make_plan(
            photos, output, numbers, settings.compare, selection, settings.format, settings.pages == "all",
            settings.doubt,
        )  # fmt: skip
    except PlanError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from error


@contextmanager
def _streams(
    photos: list[str], output: str | None, wanted_format: str
) -> Iterator[tuple[list[str], str | None, dict[str, str]]]:
    """
    Put files in the place of the streams that `-` means.

    Yields:
        `tuple`: photos and output as paths, and what to call these in messages; an empty name for standard output,
        which says nothing but the picture.
    """
    if "-" not in photos and output != "-":
        yield photos, output, {}
        return
    if len(photos) > 1:
        raise typer.BadParameter("standard input and output are for one photo", param_hint="PHOTO")
    with tempfile.TemporaryDirectory() as folder:
        names = {}
        if photos == ["-"]:
            photos = [os.path.join(folder, "input")]
            names[photos[0]] = "standard input"
            with open(photos[0], "wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        to_stream = output in (None, "-") if names else output == "-"
        if to_stream:
            output = os.path.join(folder, f"output{result_suffix(wanted_format, photos[0])}")
            names[output] = ""
        yield photos, output, names
        if to_stream and os.path.exists(output):
            with open(output, "rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def main() -> None:
    """Entry point of the `colorize` command."""
    for stream in (sys.stdout, sys.stderr):  # old disks hold names that are no UTF-8
        stream.reconfigure(errors="backslashreplace")
    # Commands of their own, so that `colorize photo.jpg` needs no word more.
    command = {"info": info.app, "restore": restore.app, "video": video.app}.get(
        sys.argv[1] if len(sys.argv) > 1 else ""
    )
    if command is not None:
        command(sys.argv[2:], prog_name=f"colorize {sys.argv[1]}")
    app()
