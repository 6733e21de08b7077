"""`colorize info FILE`: what a file says of how its colors were made, in words or as JSON."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def info(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Results, or any photos.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs: one object for each file, one a line.")
    ] = False,
) -> None:
    """Say whether a model made the colors of a picture, which and how, and whether its gray is what went in."""
    from colorize_pipeline.apps.gray import judge, luma_of
    from colorize_pipeline.apps.photo import PHOTO_ERRORS
    from colorize_pipeline.apps.provenance import is_synthetic
    from colorize_pipeline.apps.reading import read_photo

    failed = False
    for path in files:
        try:
            photo = read_photo(path)
            record, verdict = judge(path, photo, luma_of(photo))
            synthetic = is_synthetic(photo.xmp)
        except PHOTO_ERRORS as error:
            failed = True
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            typer.echo(json.dumps({"file": str(path), "error": reason}) if as_json else f"{path}: {reason}")
            continue
        width, height = photo.size
        bits = 16 if photo.sixteen_bit else 8
        if as_json:
            words = {"file": str(path), "width": width, "height": height, "bits": bits, "synthetic": synthetic}
            words |= {"record": asdict(record) if record else None, "gray": asdict(verdict)}
            typer.echo(json.dumps(words))
            continue
        typer.echo(f"{path}: {width} x {height} pixels, {bits} bit")
        if not synthetic and record is None:
            typer.echo("  Nothing in it says that a model made its colors.")
            continue
        typer.echo("  Its colors were made by a trained model: they are a guess, not a record of what was there.")
        if record:
            settings = ", ".join(f"{name} {value}" for name, value in record.settings.items())
            typer.echo(f"  software  {record.software}\n  model     {record.model}, revision {record.revision}")
            typer.echo(f"  seed      {record.seed} (of the noise for this photo: {record.noise_seed})")
            typer.echo(f"  settings  {settings}")
        typer.echo(f"  gray      {verdict.words}")
    raise typer.Exit(failed)
