"""Paints for the clients of the page: one pipeline for each that is painted for at a time."""

import copy
import os
import queue
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from PIL import Image

from colorize_pipeline.apps.painting import Painting, paint_photo
from colorize_pipeline.apps.photo import PHOTO_ERRORS, Photo, limit_megapixels, reason_of
from colorize_pipeline.apps.reading import read_photo
from colorize_pipeline.apps.reference import read_reference
from colorize_pipeline.apps.web.session import RESULT_SUFFIXES, Session, Version, seen_in_srgb
from colorize_pipeline.apps.web.wishes import Wishes, hints_of, parse_wishes
from colorize_pipeline.apps.workers import DOUBT_SAMPLES, Model, noise_seed


VERSIONS_AT_A_TIME = 4
MAX_VERSIONS = 12
_DOUBT_COLOR = (255, 0, 170)  # no photo has it
_POLL_SECONDS = 0.2
_GONE = "the photo is no longer here: drop it again"


class Studio:
    """
    All that the page does, for many clients at once.

    Args:
        model (`Model`): Its networks are shared; each painter has a pipeline of its own around them, since a run is
            stopped by a mark on its pipeline.
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
        self._pipes: queue.SimpleQueue = queue.SimpleQueue()
        for _ in range(num_painters):
            pipe = copy.copy(model.pipe)  # the networks are the same; a scheduler counts its steps
            pipe.scheduler = copy.deepcopy(model.pipe.scheduler)
            self._pipes.put(pipe)
        self._painters = ThreadPoolExecutor(num_painters)
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
        self._painters.shutdown(cancel_futures=True)

    # What the page asks for. `client` is the hash with which Gradio tells pages apart.

    def paint(self, client: str, data: dict) -> Iterator[dict]:
        """
        Open a photo or a reference, and paint: new versions, the chosen one anew, or where the model doubts.

        Args:
            client (`str`): Who asks.
            data (`dict`): Wishes, and `kind`: `"open"`, `"more"`, `"edit"`, `"doubt"` or `"reference"`; of an upload
                also its `path`, as the server has told it.

        Yields:
            `dict`: What the page shows from now on.
        """
        session, wishes = self._session(client, "open" if data.get("kind") == "open" else ""), None
        try:
            wishes = parse_wishes(data)
            if session is None:
                raise ValueError(_GONE)
            if self._is_stale(session, wishes):
                return
            session.latest = wishes.serial
            kind = str(data.get("kind"))
            if kind == "open":
                session.open_photo(self._uploaded(data.get("path")))
                yield self._state(session, wishes, progress=0.0)
            elif kind == "reference":
                session.open_reference(self._uploaded(data["path"]) if data.get("path") else None)
            if session.photo is None:
                raise ValueError(_GONE)
            seeds = self._seeds(session, kind, wishes)
            yield from self._paint_versions(session, seeds, wishes)
            if kind == "doubt" and not self._is_stale(session, wishes):
                yield self._state(session, wishes, progress=0.0, doing="looking where the model doubts")
                self._painters.submit(self._paint_doubt, session, wishes).result()
            stopped = self._is_stale(session, wishes)
            yield self._state(session, wishes, message="" if stopped else "; ".join(session.photo.notes))
        except (*PHOTO_ERRORS, RuntimeError) as error:  # RuntimeError: a photo too large for the device's memory
            yield self._state(session, wishes, error=reason_of(error, self.max_megapixels))

    def restyle(self, client: str, data: dict) -> dict:
        """Show the versions with another saturation, or another outside of the areas."""
        session, wishes = self._session(client), None
        try:
            wishes = parse_wishes(data)
            if session is None or session.photo is None:
                raise ValueError(_GONE)
            session.restyle(wishes)
            return self._state(session, wishes)
        except PHOTO_ERRORS as error:
            return self._state(session, wishes, error=reason_of(error, self.max_megapixels))

    def save(self, client: str, data: dict) -> dict:
        """Write the chosen version at full size, for the browser to download."""
        session, wishes = self._session(client), None
        try:
            wishes = parse_wishes(data)
            suffix = f".{data.get('format')}"
            if session is None or wishes.version not in session.versions or suffix not in RESULT_SUFFIXES:
                raise ValueError(_GONE)
            name, notes = session.save_result(wishes.version, str(data.get("name", "")), suffix, self.record)
            return self._state(session, wishes, result=self._url(session, name), message="; ".join(notes))
        except PHOTO_ERRORS as error:
            return self._state(session, wishes, error=reason_of(error, self.max_megapixels))

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

    def _seeds(self, session: Session, kind: str, wishes: Wishes) -> list[int]:
        if kind in ("open", "more"):
            first = max(session.versions, default=0) + 1
            return list(range(first, min(first + VERSIONS_AT_A_TIME, MAX_VERSIONS + 1)))
        chosen = session.versions.get(wishes.version)
        if chosen is not None and chosen.wishes.revision == wishes.revision and kind != "reference":
            return []
        return [wishes.version] if 0 < wishes.version <= MAX_VERSIONS else []

    def _paint_versions(self, session: Session, seeds: list[int], wishes: Wishes) -> Iterator[dict]:
        """Paint versions, as many at a time as there are painters; the states show each as soon as it is there."""
        if not seeds:
            return
        photo, gone = read_photo(session.photo.path), threading.Event()
        reference = read_reference(session.reference) if session.reference and wishes.use_reference else None
        steps_done = [0]
        num_steps = len(seeds) * self.record.settings["num_inference_steps"]
        work = (session, photo, reference, wishes, gone, steps_done)
        try:
            futures = {self._painters.submit(self._paint_version, seed, *work) for seed in seeds}
            while futures:
                done, futures = wait(futures, _POLL_SECONDS, FIRST_COMPLETED)
                for future in done:
                    future.result()
                number = min(len(seeds) - len(futures) + 1, len(seeds))
                doing = f"painting version {number} of {len(seeds)}" if len(seeds) > 1 else "painting"
                yield self._state(session, wishes, progress=min(0.99, steps_done[0] / num_steps), doing=doing)
        finally:
            gone.set()  # whoever asked may not wait any more

    def _paint_version(
        self,
        seed: int,
        session: Session,
        photo: Photo,
        reference: Image.Image | None,
        wishes: Wishes,
        gone: threading.Event,
        steps_done: list[int],
    ) -> None:
        def after_step(pipe, step, timestep, tensors) -> dict:
            steps_done[0] += 1
            pipe._interrupt = gone.is_set() or self._is_stale(session, wishes)
            return {}

        def paint(strokes) -> Painting:
            (painting,) = paint_photo(
                pipe,
                photo,
                [noise_seed(session.photo.sha256, None, seed)],
                hints=hints_of(strokes, photo.size),
                reference_image=reference,
                callback_on_step_end=after_step,
            )
            return replace(painting, luma=session.photo.luma)

        pipe = self._pipes.get()
        try:
            if gone.is_set() or self._is_stale(session, wishes):
                return
            painting, before = paint(wishes.colors), None
            if wishes.areas:
                before = painting if wishes.colors == wishes.colors_before_areas else paint(wishes.colors_before_areas)
            if not (gone.is_set() or self._is_stale(session, wishes)):
                session.keep(Version(seed, painting, before, wishes))
        finally:
            self._pipes.put(pipe)

    def _paint_doubt(self, session: Session, wishes: Wishes) -> None:
        def after_step(pipe, step, timestep, tensors) -> dict:
            pipe._interrupt = self._is_stale(session, wishes)
            return {}

        pipe = self._pipes.get()
        try:
            seen = seen_in_srgb(session.photo)
            height, width = seen.shape
            (doubt,) = pipe(
                seen,
                hints=hints_of(wishes.colors, (width, height)),
                ensemble_size=DOUBT_SAMPLES,
                output_uncertainty=True,
                generator=torch.Generator().manual_seed(noise_seed(session.photo.sha256, None, wishes.version)),
                callback_on_step_end=after_step,
            ).uncertainty
        finally:
            self._pipes.put(pipe)
        if self._is_stale(session, wishes):
            return
        layer = np.empty((height, width, 4), np.uint8)
        layer[:, :, :3], layer[:, :, 3] = _DOUBT_COLOR, np.asarray(doubt)
        session.doubt_view = session.save_view(Image.fromarray(layer))
        session.doubt_revision = wishes.revision

    def _is_stale(self, session: Session, wishes: Wishes) -> bool:
        return session.latest > wishes.serial or self._closing.is_set()

    # What the page shows

    def _state(
        self,
        session: Session | None,
        wishes: Wishes | None,
        progress: float | None = None,
        doing: str = "",
        message: str = "",
        error: str = "",
        result: str = "",
    ) -> dict:
        state = {
            "moment": time.monotonic(),
            "serial": wishes.serial if wishes else 0,
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
                "id": photo.path.name,
                "width": photo.size[0],
                "height": photo.size[1],
                "has_color": photo.has_color,
                "view": self._url(session, session.photo_view),
            }
            state["versions"] = [
                {
                    "seed": seed,
                    "view": self._url(session, version.view),
                    **{name: getattr(version.wishes, name) for name in ("revision", "saturation", "outside")},
                }
                for seed, version in sorted(session.versions.items())
            ]
            state["more"] = max(session.versions, default=0) < MAX_VERSIONS
            state["reference"] = self._url(session, session.reference_view)
            state["doubt"] = {"view": self._url(session, session.doubt_view), "revision": session.doubt_revision}
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
                session = self._sessions[client] = Session(self.folder / secrets.token_hex(16))
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
