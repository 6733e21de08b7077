"""The command `colorize-web`."""

import os
import signal
import threading
from importlib.util import find_spec
from typing import Annotated

import typer

from colorize_pipeline.apps.tasks import DTYPES, EngineError, Settings


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def colorize_web(
    host: Annotated[
        str, typer.Option(help="Address to listen on. 0.0.0.0 lets others in your network in: there is no password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 is any that is free.")] = 7860,
    model: Annotated[str, typer.Option(help="Folder or Hub name of another model.", show_default=False)] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, ... Default: the fastest there is.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or auto, as of colorize.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Versions painted at a time. Default: one for each core, up to 4.")
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="Questions that wait; further ones are refused at once.")] = 16,
    max_upload: Annotated[int, typer.Option(min=1, metavar="MB", help="Larger files are refused.")] = 200,
    max_megapixels: Annotated[int, typer.Option(min=1, help="Larger photos are refused: they may be a trap.")] = 250,
) -> None:
    """
    Serve a page on which photographs are colorized: versions to choose from, hints, masks, a reference, doubt.

    Everything stays on this computer. Stop it with Ctrl-C; what it was given is removed then.
    """
    if dtype not in DTYPES:
        raise typer.BadParameter(f"must be one of {', '.join(DTYPES)}, not {dtype!r}", param_hint="--dtype")
    if find_spec("gradio") is None:
        typer.echo("The page needs Gradio: pip install 'colorize-pipeline[web]'", err=True)
        raise typer.Exit(1)
    from colorize_pipeline.apps.web.server import LOOPBACK, Bounds, serve
    from colorize_pipeline.apps.workers import load_model

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        loaded = load_model(Settings(model=model, device=device, dtype=dtype))
        on_cpu = loaded.pipe.device.type == "cpu"
        painters = workers or (min(4, os.cpu_count() or 1) if on_cpu else 1)
        with serve(loaded, Bounds(host, port, painters, queue, max_upload, max_megapixels)) as address:
            typer.echo(f"The page is at {address} (Ctrl-C stops it)")
            if host not in LOOPBACK:
                typer.echo("Everybody who reaches this address can use it: there is no password.", err=True)
            while not stop.wait(1):  # where a wait keeps signals out, they come in between
                continue
    except EngineError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except OSError as error:
        typer.echo(f"The page cannot be served: {str(error).splitlines()[0]}", err=True)
        raise typer.Exit(1) from error


def main() -> None:
    """Entry point of the `colorize-web` command."""
    app()
