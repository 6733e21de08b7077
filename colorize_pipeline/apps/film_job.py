"""The work on one film: segments written aside, and a journal from which it goes on after any stop."""

import hashlib
import io
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from colorize_pipeline import __version__
from colorize_pipeline.apps.film_hints import FIRST, FilmHints
from colorize_pipeline.apps.film_planes import to_full_eight_bit
from colorize_pipeline.apps.film_source import Film, FilmError, Picture, read_pictures
from colorize_pipeline.apps.film_target import Encoder, Encoding, assemble
from colorize_pipeline.apps.workplace import WORKPLACE, hold, put_in_place
from colorize_pipeline.brush import Brush
from colorize_pipeline.video import Key, Resume, paint_film


if TYPE_CHECKING:
    import sqlite3

# A segment ends at the first frame from which painting can go on, after so many.
_FRAMES_PER_SEGMENT = 240
# Frames that wait to be encoded.
_WAITING = 16
# Seconds by which a time that was told may be rounded.
_SAME_TIME = 0.0006


@dataclass(frozen=True)
class Job:
    """
    What to make of a film.

    Args:
        film (`Film`), encoding (`Encoding`), target (`Path`): From what, how and where.
        saturation (`float`): Factor for the chroma.
        start (`float` or `None`), end (`float` or `None`): Seconds.
        deinterlace (`bool`): Make full pictures of fields.
        comment (`str`): What the result says of how it was made.
        overwrite (`bool`): Replace a result that exists.
        hints (`FilmHints`): Colors that are known; of them only those with a time, the brush knows the others.
    """

    film: Film
    encoding: Encoding
    target: Path
    saturation: float
    start: float | None
    end: float | None
    deinterlace: bool
    comment: str
    overwrite: bool
    hints: FilmHints = FilmHints()

    def fingerprint(self, brush: Brush) -> str:
        """Tell apart what would give other bytes."""
        status = self.film.path.stat()
        told = {
            "version": __version__,
            "source": [str(self.film.path.resolve()), status.st_size, status.st_mtime_ns],
            "encoding": asdict(self.encoding),
            "colors": [self.saturation, self.start, self.end, self.deinterlace, self.comment],
            "hints": self.hints.record,
            "brush": [brush.num_inference_steps, brush.ensemble_size, brush.seed, sorted(brush.scene_seeds.items())],
        }
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


class _Segments:
    """
    What is done of a film, in a folder of its own beside the result.

    Args:
        job (`Job`): What is made.
        fingerprint (`str`): Of it; what another has left is thrown away.

    Raises:
        `FilmError`: if another process makes the same result, or the disk does not take it.
    """

    def __init__(self, job: Job, fingerprint: str):
        name = hashlib.sha256(job.target.name.encode()).hexdigest()[:16]
        self.folder = job.target.absolute().parent / WORKPLACE / f"film-{name}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FilmError(f"{self.folder}: {error.strerror}") from error
        self._lock: sqlite3.Connection | None = hold(str(self.folder / "lock"))
        if self._lock is None:
            raise FilmError(f"{job.target} is being made by another run")
        self._journal = self.folder / "journal.jsonl"
        self.paths: list[Path] = []
        self.frames = 0
        self.resume: Resume | None = None
        lines = self._journal.read_text().splitlines(keepends=True) if self._journal.exists() else []
        if not lines or lines[0].strip() != fingerprint:
            for path in self.folder.glob("*.*"):
                path.unlink()
            _write_safely(self._journal, f"{fingerprint}\n".encode())
            lines = []
        entries = [json.loads(line) for line in lines[1:] if line.endswith("\n")]
        for entry in entries:
            self.paths.append(self.folder / entry["segment"])
            self.frames += entry["frames"]
        if entries:
            # A line that was cut off is not written on.
            _write_safely(
                self._journal, "".join([lines[0], *(json.dumps(entry) + "\n" for entry in entries)]).encode()
            )
            self.resume = _load_resume(self.folder / f"{entries[-1]['segment']}.npz")

    @property
    def is_done(self) -> bool:
        return bool(self.paths) and self.resume is None

    def next_path(self) -> Path:
        return self.folder / f"{len(self.paths):06}.packets.part"

    def add(self, frames: int, resume: Resume | None) -> None:
        """Note a segment that is written; `resume` is `None` for the last."""
        path = self.next_path().with_suffix("")
        with self.next_path().open("rb") as file:
            os.fsync(file.fileno())
        self.next_path().replace(path)
        _write_safely(path.with_name(f"{path.name}.npz"), _dump_resume(resume))
        with self._journal.open("a") as file:
            file.write(json.dumps({"segment": path.name, "frames": frames}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.paths.append(path)
        self.frames += frames

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()


def run_job(job: Job, brush: Brush, say: Callable[[str], None], advance: Callable[[int], None]) -> int:
    """
    Color a film, or go on with it.

    Args:
        job (`Job`): What to make.
        brush (`Brush`): How frames are painted.
        say (callable): Told in a line what the owner should know.
        advance (callable): Told of how many frames more are done.

    Returns:
        `int`: Frames of the result.

    Raises:
        `FilmError`: if it cannot be read or written.
    """
    with closing(_Segments(job, job.fingerprint(brush))) as segments:
        if not segments.is_done:
            _encode(job, brush, segments, say, advance)
        if not segments.frames:
            raise FilmError(f"{job.film.path}: there is no frame in this part of it")
        unfinished = segments.folder / f"whole{job.target.suffix}"
        assemble(
            job.film, job.encoding, segments.paths, unfinished, job.start, job.end, job.comment, say
        )  # fmt: skip
        if not put_in_place(str(unfinished), str(job.target), job.overwrite):
            raise FilmError(f"{job.target} exists (--overwrite replaces it)")
        segments.remove()
        return segments.frames


def _encode(
    job: Job, brush: Brush, segments: _Segments, say: Callable[[str], None], advance: Callable[[int], None]
) -> None:
    pictures: deque[Picture] = deque()
    turns = job.film.rotation // 90
    if segments.frames:
        say(f"{job.target}: goes on after {segments.frames} frames that are done")
        advance(segments.frames)

    told: dict[int, list] = {}

    def lumas() -> Iterator[torch.Tensor]:
        read = read_pictures(job.film, job.start, job.end, job.deinterlace, say)
        due = deque(job.hints.timed)
        for number, picture in enumerate(read):
            while due and due[0][0] <= picture.pts * job.film.time_base + _SAME_TIME:
                seconds, hints = due.popleft()
                if FIRST < seconds < (job.start or 0) - _SAME_TIME:
                    say(f"the hint at {seconds:g} seconds is before the start, and not taken")
                    continue
                at = number - segments_done
                told[at] = told[at] + hints if at in told else hints
            if number < segments_done:
                told.clear()
                continue
            pictures.append(picture)
            gray = np.rot90(to_full_eight_bit(picture.luma, job.film.space), turns)
            yield torch.from_numpy(np.ascontiguousarray(gray))
        for seconds, _ in due:
            say(f"the hint at {seconds:g} seconds is after the last frame, and not taken")

    segments_done = segments.frames
    written, encoder, scenes = 0, None, 0
    with ThreadPoolExecutor(1) as writer:
        waiting = deque()
        try:
            for colors in paint_film(brush, lumas(), segments.resume, lambda number: told.pop(number, None)):
                if encoder is None or (colors.resume is not None and written >= _FRAMES_PER_SEGMENT):
                    if encoder is not None:
                        waiting.append(writer.submit(_finish, encoder, segments, written, colors.resume))
                        _drain(waiting, 0)
                    encoder, written = Encoder(job.film, job.encoding, segments.next_path()), 0
                chroma = torch.rot90(job.saturation * colors.chroma, -turns, dims=(1, 2))
                waiting.append(writer.submit(encoder.write, pictures.popleft(), chroma))
                _drain(waiting, _WAITING)
                written, scenes = written + 1, colors.scene
                advance(1)
            for scene in sorted(brush.scene_seeds.keys() | brush.scene_hints.keys()):
                if scene > scenes:
                    say(f"there is no scene {scene}: the film has {scenes}")
            if encoder is not None:
                waiting.append(writer.submit(_finish, encoder, segments, written, None))
            _drain(waiting, 0)
        finally:
            for future in waiting:
                future.cancel()


def _finish(encoder: Encoder, segments: _Segments, frames: int, resume: Resume | None) -> None:
    encoder.close()
    segments.add(frames, resume)


def _drain(waiting: deque, allowed: int) -> None:
    while len(waiting) > allowed:
        waiting.popleft().result()


def _dump_resume(resume: Resume | None) -> bytes:
    buffer = io.BytesIO()
    arrays = {"done": np.array(resume is None)}
    if resume is not None:
        arrays |= {"scene": np.array(resume.scene), "seed": np.array(resume.seed, np.uint64)}
        if resume.key is not None:
            key = resume.key
            arrays |= {"small": key.small.numpy(), "chroma": key.chroma.numpy(), "owed": key.owed.numpy()}
            arrays["light"] = np.array(key.light)
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _load_resume(path: Path) -> Resume | None:
    with np.load(path, allow_pickle=False) as arrays:
        if arrays["done"]:
            return None
        key = None
        if "small" in arrays:
            planes = (torch.from_numpy(arrays[name]) for name in ("small", "chroma", "owed"))
            key = Key(*planes, light=float(arrays["light"]))
        return Resume(int(arrays["scene"]), int(arrays["seed"]), key)


def _write_safely(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f"{path.name}.part")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
