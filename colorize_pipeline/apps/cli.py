"""The command line: `colorize PHOTO...`"""

import os
import re
import sys
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from colorize_pipeline import DEFAULT_CHECKPOINT
from colorize_pipeline.apps import info, restore


# Results are told from photos by their names, so that a folder can be colorized again.
_RESULT_NAME = re.compile(r".*\.(color|compare)(-\d+)?")

# What `--format` may be; `same` is that of the photo, and PNG where results cannot have it.
_FORMATS = {"png": ".png", "jpg": ".jpg", "tif": ".tif", "webp": ".webp", "same": None}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def colorize(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos, or folders of photos.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File (.png .jpg .tif .webp) or folder. Default: beside the photo."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Also write gray and color side by side.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other colors, the same seed the same.")] = 0,
    num_images: Annotated[int, typer.Option(min=1, help="Versions of each photo: seeds SEED, SEED+1, ...")] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps; 1 is dull but safe.")] = None,
    saturation: Annotated[float, typer.Option(min=0, max=4, help="0 is gray, 1 as painted, 2 vivid.")] = 1.0,
    model: Annotated[str, typer.Option(help="Folder or Hub name of another model.", show_default=False)] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, ... Default: the fastest there is.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    output_format: Annotated[
        str, typer.Option("--format", help="png, jpg, tif, webp, or same: that of the photo. -o FILE names its own.")
    ] = "png",
    pages: Annotated[
        str, typer.Option(help="Of a TIFF of several pages: first, or all, each a result of its own.")
    ] = ("first"),
    depth: Annotated[
        int | None, typer.Option(help="8 rounds 16-bit scans to 8 bit, and makes gray of black-and-white ones.")
    ] = None,
    max_megapixels: Annotated[int, typer.Option(min=1, help="Larger photos are refused: they may be a trap.")] = 250,
) -> None:
    """
    Turn gray photographs into color. The gray of each photo is kept, value for value.

    Writes NAME.color.png beside each PHOTO (several versions: NAME.color-SEED.png). The photo itself is never touched.
    Reads JPEG, PNG, TIFF (BigTIFF, too), WebP, JPEG 2000, AVIF, HEIC, GIF and BMP; 16-bit results are PNG or TIFF.

    colorize info FILE says how a result was made; colorize restore FILE gives the gray back that is in it. (A photo
    of such a name: ./info)
    """
    if model:
        from colorize_pipeline.model_folder import is_model_folder

        try:
            is_model_folder(model)
        except ValueError as error:
            typer.echo(f"The model cannot be loaded: {error}", err=True)
            raise typer.Exit(1) from error
    # The heavy imports wait until here, so that --help answers at once.
    import torch
    from diffusers.utils import logging
    from PIL import Image
    from tqdm import tqdm

    from colorize_pipeline import ColorizationPipeline
    from colorize_pipeline.apps.photo import PHOTO_ERRORS

    for option, value, known in (("--format", output_format, _FORMATS), ("--pages", pages, ("first", "all"))):
        if value not in known:
            raise typer.BadParameter(f"must be {', '.join(known)}, not {value!r}", param_hint=option)
    if depth not in (None, 8):
        raise typer.BadParameter(f"must be 8, not {depth}: 16 bit stay 16 bit without it", param_hint="--depth")
    jobs = _plan(photos, output, seed, num_images, compare, output_format, pages)
    if dtype not in ("float32", "bfloat16", "float16"):
        raise typer.BadParameter(f"must be float32, bfloat16 or float16, not {dtype!r}", param_hint="--dtype")
    logging.disable_progress_bar()
    # Pillow refuses photos of twice that many pixels, and warns of those between, which are nothing strange here.
    Image.MAX_IMAGE_PIXELS = max_megapixels * 500_000
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        pipe = ColorizationPipeline.from_pretrained(model or DEFAULT_CHECKPOINT, dtype=getattr(torch, dtype))
        pipe.to(device)
    except (OSError, ValueError, RuntimeError, AssertionError) as error:  # the last: PyTorch without that device
        typer.echo(f"The model cannot be loaded: {error}", err=True)
        raise typer.Exit(1) from error
    pipe.set_progress_bar_config(disable=True)

    counts = {"colorized": 0, "kept": 0, "failed": 0}
    noted = Counter()  # what an archive's scans have in common is said once
    with tqdm(jobs, unit="photo", disable=len(jobs) < 2) as progress:
        for source, page, targets in progress:
            wanted = [(number, target) for number, target in enumerate(targets) if overwrite or not target.exists()]
            try:
                notes = []
                if wanted:
                    notes += _colorize_one(
                        pipe, source, page, depth, wanted, seed, steps, saturation, overwrite, model
                    )
                    counts["colorized"] += 1
                else:
                    counts["kept"] += 1
                    tqdm.write(f"{source}: kept {targets[0]}, which exists (--overwrite replaces it)")
                if compare:
                    notes += _compare(pipe, targets, overwrite)
                for note in notes:
                    if not noted[note]:
                        tqdm.write(f"{source}: {note}")
                    noted[note] += 1
                for _, target in wanted:
                    tqdm.write(str(target))
            except Image.DecompressionBombError:
                counts["failed"] += 1
                tqdm.write(f"{source}: not colorized: more than {max_megapixels} megapixels (--max-megapixels)")
            except (*PHOTO_ERRORS, RuntimeError) as error:  # RuntimeError: a photo too large for the device's memory
                counts["failed"] += 1
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                tqdm.write(f"{source}: not colorized: {reason}")
    for note, number in noted.items():
        if number > 1:
            typer.echo(f"{number} photos: {note}")
    if len(jobs) > 1:
        typer.echo(", ".join(f"{number} {what}" for what, number in counts.items()))
    if counts["failed"]:
        raise typer.Exit(1)


def _colorize_one(
    pipe,
    source: Path,
    page: int,
    depth: int | None,
    targets: list[tuple[int, Path]],
    seed: int,
    steps: int | None,
    saturation: float,
    overwrite: bool,
    model: str,
) -> list[str]:
    """Read, colorize and write one photo. Returns what its owner should know."""
    from colorize_pipeline.apps.painting import describe_call, paint_photo
    from colorize_pipeline.apps.reading import read_photo
    from colorize_pipeline.apps.writing import write_photo

    photo = read_photo(source, page, depth)
    notes = list(photo.notes)
    seeds = [seed + number for number, _ in targets]
    paintings = paint_photo(pipe, photo, seeds, steps, saturation)
    record = describe_call(pipe, model, paintings[0], steps, saturation)
    for (_, target), own_seed, painting in zip(targets, seeds, paintings, strict=True):
        notes += write_photo(target, painting, photo, overwrite, replace(record, seed=own_seed))
    return list(dict.fromkeys(notes))


def _compare(pipe, results: list[Path], overwrite: bool) -> list[str]:
    """Write gray and color side by side for each result that has no such picture. Returns what went wrong."""
    import torch
    from PIL import Image

    from colorize_pipeline.apps.photo import PHOTO_ERRORS
    from colorize_pipeline.apps.reading import read_photo
    from colorize_pipeline.apps.writing import write_photo

    notes = []
    for result in results:
        if _compare_path(result).exists() and not overwrite:
            continue
        try:
            photo = read_photo(result)
            color = photo.image
            if photo.sixteen_bit:
                color = Image.fromarray(pipe.image_processor.to_eight_bit(torch.from_numpy(color)).numpy())
            pair = Image.new("RGB", (2 * color.width, color.height))
            pair.paste(color.convert("L"), (0, 0))
            pair.paste(color.convert("RGB"), (color.width, 0))
            write_photo(_compare_path(result), pair, photo, overwrite)
        except PHOTO_ERRORS as error:  # the photo itself is colorized
            notes.append(f"no comparison: {error}")
    return notes


def _compare_path(target: Path) -> Path:
    """photo.color-2.png -> photo.compare-2.jpg; other.tif -> other.compare.jpg"""
    stem = target.stem if _RESULT_NAME.fullmatch(target.stem) else f"{target.stem}.color"
    return target.with_name(f"{'.compare'.join(stem.rsplit('.color', 1))}.jpg")


def _plan(
    photos: list[Path],
    output: Path | None,
    seed: int,
    num_images: int,
    compare: bool,
    output_format: str,
    pages: str,
) -> list[tuple[Path, int, list[Path]]]:
    """Decide which pages of which photos are read and where each result goes, before anything is done."""
    from colorize_pipeline.apps.reading import PHOTO_SUFFIXES, count_pages, find_photos
    from colorize_pipeline.apps.refused import OTHER_SUFFIXES
    from colorize_pipeline.apps.writing import OUTPUT_SUFFIXES

    found = {}  # by absolute path, since a photo may be named twice: (photo, the folder it was found in)
    for path in photos:
        entries, root = ([path], path.parent) if not path.is_dir() else (find_photos(path), path)
        for entry in entries:
            if entry == path or not _RESULT_NAME.fullmatch(entry.stem):
                found.setdefault(os.path.abspath(entry), (entry, root))
    sources = list(found.values())
    if not sources:
        raise typer.BadParameter("there are no photos in " + ", ".join(map(str, photos)), param_hint="PHOTO")
    is_file = output is not None and output.suffix.lower() in OUTPUT_SUFFIXES and not output.is_dir()
    if is_file and (len(sources) > 1 or num_images > 1):
        raise typer.BadParameter(
            f"{output} is one file, but there are several results: name a folder", param_hint="-o"
        )
    # "out.psd" was meant for a file, the folders "album.1936" and "Dr. Smith" were not.
    other_suffixes = {*PHOTO_SUFFIXES, *OTHER_SUFFIXES}.difference(OUTPUT_SUFFIXES)
    if output is not None and output.suffix.lower() in other_suffixes and not output.is_dir():
        raise typer.BadParameter(f"{output} must end in {', '.join(OUTPUT_SUFFIXES)}, or be a folder", param_hint="-o")

    jobs, taken = [], {}
    originals = {source.resolve() for source, _ in sources}
    stems = Counter(source.with_suffix("") for source, _ in sources)
    for source, root in sources:
        folder = source.parent if output is None else output / source.parent.relative_to(root)
        name = source.stem if stems[source.with_suffix("")] == 1 else source.name  # a.tif and a.jpg side by side
        suffix = _FORMATS[output_format] or (source.suffix if source.suffix.lower() in OUTPUT_SUFFIXES else ".png")
        versions = [""] if num_images == 1 else [f"-{number}" for number in range(seed, seed + num_images)]
        count = count_pages(source) if pages == "all" and source.exists() else 1
        if is_file and count > 1:
            raise typer.BadParameter(f"{output} is one file, but {source} has {count} pages", param_hint="-o")
        for page in range(count):
            stem = name if count == 1 else f"{name}.page-{page + 1}"
            targets = [output] if is_file else [folder / f"{stem}.color{version}{suffix}" for version in versions]
            _check_targets(source, targets, compare, originals, taken)
            taken[targets[0]] = source
            jobs.append((source, page, targets))
    return jobs


def _check_targets(source: Path, targets: list[Path], compare: bool, originals: set[Path], taken: dict) -> None:
    """Refuse results that would be written over photos, over comparisons, or over one another."""
    if compare and _compare_path(targets[0]) == targets[0]:
        raise typer.BadParameter(f"{targets[0]} is the name of the comparison: choose another", param_hint="-o")
    for target in [*targets, *map(_compare_path, targets if compare else [])]:
        if target.resolve() in originals:
            raise typer.BadParameter(f"{target} is one of the photos, and would be replaced", param_hint="-o")
    if targets[0] in taken:
        raise typer.BadParameter(
            f"{source} and {taken[targets[0]]} would both be written to {targets[0]}: colorize them one after"
            " the other, each with its own -o",
            param_hint="PHOTO",
        )


def main() -> None:
    """Entry point of the `colorize` command."""
    for stream in (sys.stdout, sys.stderr):  # old disks hold names that are no UTF-8
        stream.reconfigure(errors="backslashreplace")
    # Commands of their own, so that `colorize photo.jpg` needs no word more.
    command = {"info": info.app, "restore": restore.app}.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if command is not None:
        command(sys.argv[2:], prog_name=f"colorize {sys.argv[1]}")
    app()
