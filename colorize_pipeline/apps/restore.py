"""`colorize restore FILE`: the gray photo that is in every result, given back."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A result of colorize: PNG, TIFF or WebP.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File (.png .tif). Default: NAME.gray.png beside it.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> None:
    """
    Write the gray photo that went into a result, and say whether it is that one, code for code.

    The exit code is 0 if it is, and 1 if it is not, or if the file does not say what went in.
    """
    from colorize_pipeline.apps import color_space
    from colorize_pipeline.apps.gray import judge, luma_of
    from colorize_pipeline.apps.photo import PHOTO_ERRORS
    from colorize_pipeline.apps.provenance import unmark
    from colorize_pipeline.apps.reading import read_photo
    from colorize_pipeline.apps.writing import write_photo

    suffix = file.suffix if file.suffix.lower() in (".tif", ".tiff") else ".png"
    target = output or file.with_name(f"{'.gray'.join(file.stem.rsplit('.color', 1))}{suffix}")
    if target.suffix.lower() not in (".png", ".tif", ".tiff"):
        raise typer.BadParameter(f"{target} must end in .png, .tif or .tiff", param_hint="-o")
    if ".gray" not in target.stem and output is None:
        target = file.with_name(f"{file.stem}.gray{suffix}")
    if target.resolve() == file.resolve():
        raise typer.BadParameter(f"{target} is the result itself, and would be replaced", param_hint="-o")
    try:
        photo = read_photo(file)
        luma = luma_of(photo)
        _, verdict = judge(file, photo, luma)
        space = color_space.other_space(photo.icc_profile)
        profile = None if space is None else color_space.build_profile(space, "GRAY")
        photo = replace(photo, icc_profile=profile, xmp=unmark(photo.xmp) if photo.xmp else None)
        notes = write_photo(target, luma, photo, overwrite, synthetic=False)
    except PHOTO_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        typer.echo(f"{file}: not restored: {reason}", err=True)
        raise typer.Exit(1) from error
    for note in notes:
        typer.echo(f"{file}: {note}")
    typer.echo(f"{target}: {verdict.words}")
    raise typer.Exit(verdict.state != "exact")
