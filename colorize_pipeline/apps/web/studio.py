"""Answers the clients of the page: keeps what each has here, and lets the painters work for it."""

import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from colorize_pipeline.apps.doubt_picture import DOUBT_NOTE, DOUBT_TITLE, legend_steps
from colorize_pipeline.apps.photo import PHOTO_ERRORS, Photo, limit_megapixels, reason_of
from colorize_pipeline.apps.reading import read_photo
from colorize_pipeline.apps.reference import read_reference
from colorize_pipeline.apps.web.painters import Painters
from colorize_pipeline.apps.web.question import Question, parse_question
from colorize_pipeline.apps.web.session import RESULT_SUFFIXES, Original, Session
from colorize_pipeline.apps.workers import DOUBT_SAMPLES, Model


VERSIONS_AT_A_TIME = 4
MAX_VERSIONS = 12
_POLL_SECONDS = 0.2
_DOUBT_LEGEND = {"title": DOUBT_TITLE, "note": DOUBT_NOTE, "steps": legend_steps()}
_GONE = "the photo is no longer here: drop it again"


class Studio:
    """
    All that the page does, for many clients at once.

    Args:
        model (`Model`): All paint with it.
        folder (`Path`): For all files: `uploads/`, and `sessions/` with a folder for each client.
        num_painters (`int`): Versions painted at a time.
        max_megapixels (`int`): Larger photos are refused.
        seconds_to_return (`float`): How long a client that has closed the page may come back to its photo.
        seconds_idle (`float`): How long a client that has not may do nothing.
        max_sessions (`int`): Clients with files here; beyond them, who has done nothing for longest goes.
    """

    def __init__(
        self,
        model: Model,
        folder: Path,
        num_painters: int = 1,
        max_megapixels: int = 250,
        seconds_to_return: float = 300,
        seconds_idle: float = 7200,
        max_sessions: int = 100,
    ):
        limit_megapixels(max_megapixels)
        self.record, self.max_megapixels = model.record, max_megapixels
        self.uploads, self.folder = Path(folder, "uploads").resolve(), Path(folder, "sessions").resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.seconds_to_return, self.seconds_idle, self.max_sessions = seconds_to_return, seconds_idle, max_sessions
        self._painters, self._pipe = Painters(model, num_painters), model.pipe
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep_now_and_then, daemon=True)
        self._sweeper.start()

    def close(self) -> None:
        """Stop what is being painted, and remove the files of all clients."""
        self._closing.set()
        with self._lock:
            sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            session.close()
        self._painters.close()

    # What the page asks for. `client` is the hash with which Gradio tells pages apart.

    def paint(self, client: str, data: dict) -> Iterator[dict]:
        """
        Open a photo or a reference, and paint: new versions, the chosen one anew, or where the model doubts.

        Args:
            client (`str`): Who asks.
            data (`dict`): Question, and `kind`: `"open"`, `"more"`, `"edit"`, `"doubt"` or `"reference"`; of an upload
                also its `path`, as the server has told it.

        Yields:
            `dict`: What the page shows from now on.
        """
        session, question = self._session(client, "open" if data.get("kind") == "open" else ""), None
        try:
            question = parse_question(data)
            if session is None:
                raise ValueError(_GONE)
            if self._is_stale(session, question):
                return
            session.latest = question.serial
            kind = str(data.get("kind"))
            if kind == "open":
                session.open_photo(self._uploaded(data.get("path")))
                yield self._state(session, question, progress=0.0)
            elif kind == "reference":
                session.open_reference(self._uploaded(data["path"]) if data.get("path") else None)
            if session.photo is None:
                raise ValueError(_GONE)
            seeds = self._seeds(session, kind, question)
            yield from self._work(session, seeds, question, "painting", self._paint_version)
            if kind == "doubt" and question.version in session.versions:
                doing = "looking where the colors are a guess"
                yield from self._work(session, [question.version], question, doing, self._paint_doubt)
            told = kind == "open" and not self._is_stale(session, question)
            yield self._state(session, question, message="; ".join(session.photo.notes) if told else "")
        except (*PHOTO_ERRORS, RuntimeError) as error:  # RuntimeError: a photo too large for the device's memory
            yield self._state(session, question, error=reason_of(error, self.max_megapixels))

    def restyle(self, client: str, data: dict) -> dict:
        """Show the versions with another saturation, or another outside of the areas."""
        session, question = self._session(client), None
        try:
            question = parse_question(data)
            if session is None or session.photo is None:
                raise ValueError(_GONE)
            session.restyle(question)
            return self._state(session, question)
        except PHOTO_ERRORS as error:
            return self._state(session, question, error=reason_of(error, self.max_megapixels))

    def save(self, client: str, data: dict) -> dict:
        """Write the chosen version at full size, for the browser to download."""
        session, question = self._session(client), None
        try:
            question = parse_question(data)
            suffix = f".{data.get('format')}"
            if session is None or question.version not in session.versions or suffix not in RESULT_SUFFIXES:
                raise ValueError(_GONE)
            original, photo, reference = self._read(session, question)
            version = self._painters.submit(
                self._painters.paint, original, photo, reference, question, question.version, question.saturation
            ).result()
            stem = str(data.get("name", ""))
            name, notes = session.save_result(original, version, photo, stem, suffix, self.record)
            return self._state(session, question, result=self._url(session, name), message="; ".join(notes))
        except (*PHOTO_ERRORS, RuntimeError) as error:
            return self._state(session, question, error=reason_of(error, self.max_megapixels))

    def halt(self, client: str, serial: object) -> None:
        """Stop all that was asked before that serial."""
        session = self._session(client)
        if session is not None and isinstance(serial, int):
            session.latest = max(session.latest, serial)

    def leave(self, client: str) -> None:
        """The page was closed; or a phone sleeps, and comes back."""
        if (session := self._session(client)) is not None:
            session.left = True

    # Painting

    def _seeds(self, session: Session, kind: str, question: Question) -> list[int]:
        if kind in ("open", "more"):
            first = max(session.versions, default=0) + 1
            return list(range(first, min(first + VERSIONS_AT_A_TIME, MAX_VERSIONS + 1)))
        chosen = session.versions.get(question.version)
        if chosen is not None and chosen.question.revision == question.revision and kind != "reference":
            return []
        return [question.version] if 0 < question.version <= MAX_VERSIONS else []

    def _work(
        self, session: Session, seeds: list[int], question: Question, doing: str, work: Callable[..., None]
    ) -> Iterator[dict]:
        """Work on versions, as many at a time as there are painters; the states show each as soon as it is there."""
        if not seeds or self._is_stale(session, question):
            return
        gone, steps_done = threading.Event(), [0]
        num_steps = len(seeds) * self.record.settings["num_inference_steps"] * (2 if work == self._paint_doubt else 1)

        def after_step(pipe, step, timestep, tensors) -> dict:
            steps_done[0] += 1
            pipe._interrupt = is_vain()
            return {}

        def is_vain() -> bool:
            return gone.is_set() or self._is_stale(session, question)

        read = self._read(session, question)
        try:
            futures = {
                self._painters.submit(work, session, *read, question, seed, after_step, is_vain) for seed in seeds
            }
            while futures:
                done, futures = wait(futures, _POLL_SECONDS, FIRST_COMPLETED)
                for future in done:
                    future.result()
                number = min(len(seeds) - len(futures) + 1, len(seeds))
                words = f"{doing} version {number} of {len(seeds)}" if len(seeds) > 1 else doing
                yield self._state(session, question, progress=min(0.99, steps_done[0] / num_steps), doing=words)
        finally:
            gone.set()  # whoever asked may not wait any more

    def _read(self, session: Session, question: Question) -> tuple[Original, Photo, Image.Image | None]:
        reference = read_reference(session.reference) if session.reference and question.use_reference else None
        return session.photo, read_photo(session.photo.path), reference

    def _paint_version(self, session, original, photo, reference, question, seed, after_step, is_vain) -> None:
        if is_vain():
            return
        version = self._painters.paint(original, photo, reference, question, seed, 1.0, after_step)
        if not is_vain():
            session.keep(original, version)

    def _paint_doubt(self, session, original, photo, reference, question, seed, after_step, is_vain) -> None:
        if is_vain():
            return
        asked = replace(question, strokes=question.colors)  # the whole of the photo is looked at
        version = self._painters.paint(
            original, photo, reference, asked, seed, question.saturation, after_step, doubt_samples=DOUBT_SAMPLES
        )
        if not is_vain():
            session.show_doubt(original, version.painting.doubt, question)

    def _is_stale(self, session: Session, question: Question) -> bool:
        return session.latest > question.serial or self._closing.is_set()

    # What the page shows

    def _state(
        self,
        session: Session | None,
        question: Question | None,
        progress: float | None = None,
        doing: str = "",
        message: str = "",
        error: str = "",
        result: str = "",
    ) -> dict:
        state = {
            "moment": time.monotonic(),
            "serial": question.serial if question else 0,
            "progress": progress,
            "doing": doing,
            "message": message,
            "error": error,
            "result": result,
            "photo": None,
        }
        if session is None or session.photo is None:
            return state
        with session.lock:
            photo = session.photo
            state["photo"] = {
                "width": photo.size[0],
                "height": photo.size[1],
                "has_color": photo.has_color,
                "view": self._url(session, session.photo_view),
            }
            state["versions"] = [
                {
                    "seed": seed,
                    "view": self._url(session, version.view),
                    "notes": "; ".join(version.painting.notes),
                    **{name: getattr(version.question, name) for name in ("revision", "saturation", "outside")},
                }
                for seed, version in sorted(session.versions.items())
            ]
            state["more"] = max(session.versions, default=0) < MAX_VERSIONS
            state["reference"] = self._url(session, session.reference_view)
            state["doubt"] = {"view": self._url(session, session.doubt_view), **_DOUBT_LEGEND}
            if asked := session.doubt_question:
                state["doubt"] |= {name: getattr(asked, name) for name in ("version", "revision", "saturation")}
        return state

    def _url(self, session: Session, name: str) -> str:
        return f"gradio_api/file={quote((session.folder / name).as_posix())}" if name else ""

    def _uploaded(self, path: object) -> Path:
        """Check that a path is one of the files that clients have uploaded; anything else is not theirs to open."""
        real = os.path.realpath(str(path))
        if not real.startswith(str(self.uploads) + os.sep) or not os.path.exists(real):
            raise ValueError(_GONE)
        if not stat.S_ISREG(os.stat(real).st_mode):
            raise ValueError("not a regular file")
        return Path(real)

    # Sessions

    def _session(self, client: str, why: str = "") -> Session | None:
        with self._lock:
            session = self._sessions.get(client)
            if session is None and why == "open" and not self._closing.is_set():
                session = self._sessions[client] = Session(self.folder / secrets.token_hex(16), self._pipe)
                surplus = sorted(self._sessions, key=lambda other: self._sessions[other].used)[: -self.max_sessions]
                for other in surplus:
                    self._sessions.pop(other).close()
            if session is not None:
                session.used, session.left = time.monotonic(), False
            return session

    def _sweep_now_and_then(self) -> None:
        while not self._closing.wait(min(30, self.seconds_to_return)):
            self.sweep()

    def sweep(self) -> None:
        """Remove the files of clients who have gone, and uploads that nobody has asked to open."""
        now = time.monotonic()
        with self._lock:
            for client, session in list(self._sessions.items()):
                if now - session.used > (self.seconds_to_return if session.left else self.seconds_idle):
                    self._sessions.pop(client).close()
        for upload in self.uploads.glob("*/*"):
            try:
                if time.time() - upload.stat().st_mtime > self.seconds_to_return:
                    upload.unlink()
                    upload.parent.rmdir()
            except OSError:  # it was opened in this moment
                continue
