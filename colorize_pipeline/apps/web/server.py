"""Serves the page, and nothing else: of all that Gradio can do, only what the page needs is let through."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from colorize_pipeline.apps.workplace import hold


# Read by Gradio as it is imported. No figures of use are sent, no runs are kept in the browser.
_ENVIRONMENT = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False"}

_FOLDER = "colorize-web-"
_LOCK = "lock"

# Paths of the page itself, and of its questions; everything else of Gradio's is closed.
_OPEN = (
    ("GET", ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/")),
    ("POST", ("/gradio_api/run/",)),
)
_OPEN_EXACTLY = {
    "GET": (
        "/", "/config", "/theme.css", "/favicon.ico", "/robots.txt", "/gradio_api/theme.css", "/gradio_api/queue/data",
        "/gradio_api/startup-events", "/gradio_api/upload_progress", "/gradio_api/app_id", "/gradio_api/info",
    ),
    "POST": ("/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/cancel", "/gradio_api/reset"),
}  # fmt: skip
_FILE = "/gradio_api/file="

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Guard:
    """
    Refuses, before Gradio sees it, what the page does not ask for: other paths, files of ours that are not a client's,
    files of the machine, addresses to fetch from, and questions that another site's page asks in the visitor's name.

    Args:
        app: The ASGI application behind it.
        folder (`Path`): Of the clients' files, each in a folder of a name that nobody guesses.
        host (`str`): Where the server listens; on loopback it answers to no other name.
    """

    def __init__(self, app, folder: Path, host: str):
        self.app, self.folder, self.host = app, os.path.realpath(folder), host

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and self._is_open(scope)):
            await self.app(scope, receive, send)
            return
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"Not part of this page."})

    def _is_open(self, scope) -> bool:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if self.host in LOOPBACK and host.rsplit(":", 1)[0].strip("[]") not in LOOPBACK:
            return False  # a name of somebody else's that leads here
        origin = headers.get("origin")
        if origin is not None and origin.split("://")[-1] != headers.get("x-forwarded-host", host):
            return False
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        path = scope["path"].rstrip("/") or "/"
        if method == "GET" and path.startswith(_FILE):
            return self._is_file_of_client(path.removeprefix(_FILE))
        if path in _OPEN_EXACTLY.get(method, ()):
            return True
        return ".." not in path and any(method == m and path.startswith(starts) for m, starts in _OPEN)

    def _is_file_of_client(self, path: str) -> bool:
        real = os.path.realpath(path)
        return real.startswith(self.folder + os.sep) and real == os.path.normpath(path) and os.path.isfile(real)


@dataclass(frozen=True)
class Bounds:
    """
    What the server takes.

    Args:
        host (`str`), port (`int`): Where it listens; 0 is any free port.
        num_painters (`int`): Versions painted at a time.
        max_queue (`int`): Questions that wait.
        max_upload_megabytes (`int`): Larger files are refused while they are sent.
        max_megapixels (`int`): Larger photos are refused.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    num_painters: int = 1
    max_queue: int = 16
    max_upload_megabytes: int = 200
    max_megapixels: int = 250


@contextmanager
def own_folder() -> Iterator[Path]:
    """
    Make a folder for all temporary files that nobody else can read; it is removed at the end, and so are those of
    servers that were killed.
    """
    parent = Path(tempfile.gettempdir())
    for old in parent.glob(f"{_FOLDER}*"):
        with suppress(OSError):  # somebody else's
            if old.is_dir() and not old.is_symlink() and (lock := hold(str(old / _LOCK))):
                shutil.rmtree(old, ignore_errors=True)
                lock.close()
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=parent))
    lock = hold(str(folder / _LOCK))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            lock.close()


@contextmanager
def serve(model, bounds: Bounds, **studio_options) -> Iterator[str]:
    """
    Serve the page until the context ends.

    Args:
        model (`Model`): As [`colorize_pipeline.apps.workers.load_model`] gives it.
        bounds (`Bounds`): Where, and how much.
        studio_options: Of [`Studio`], for those who wait for less.

    Yields:
        `str`: Address of the page.

    Raises:
        `ImportError`: without Gradio.
        `OSError`: if the port is taken.
    """
    with own_folder() as folder:
        os.environ.update(_ENVIRONMENT)
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
        from starlette.middleware import Middleware

        from colorize_pipeline.apps.web.page import CSS, build_page, theme
        from colorize_pipeline.apps.web.studio import Studio

        studio = Studio(model, folder, bounds.num_painters, bounds.max_megapixels, **studio_options)
        blocks = build_page(studio, bounds.num_painters, bounds.max_queue)
        try:
            _, address, _ = blocks.launch(
                server_name=bounds.host,
                server_port=bounds.port or _free_port(bounds.host),
                max_file_size=bounds.max_upload_megabytes * 1_000_000,
                allowed_paths=[str(studio.folder)],
                app_kwargs={"middleware": [Middleware(Guard, folder=studio.folder, host=bounds.host)]},
                theme=theme(),
                css=CSS,
                footer_links=[],
                share=False,
                ssr_mode=False,
                mcp_server=False,
                pwa=False,
                enable_monitoring=False,
                show_error=False,
                inbrowser=False,
                quiet=True,
                prevent_thread_lock=True,
            )
            yield address
        finally:
            studio.close()
            blocks.close(verbose=False)


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]
