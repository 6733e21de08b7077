"""The journal of an output folder: what has become of every result, so that a job can stop at any moment and go on."""

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

from colorize_pipeline.apps.workplace import WORKPLACE, hold, hold_new


# Paths are bytes: old disks hold names that are no text. Pages count from 1, and are of files that have several.
# `settings` and `notes` are JSON, `dtype` is what the network was painted in; times are seconds.
_TABLES = """
CREATE TABLE IF NOT EXISTS run (
    id TEXT PRIMARY KEY, round INTEGER NOT NULL, settings TEXT NOT NULL, overwrite INTEGER NOT NULL,
    finished INTEGER NOT NULL DEFAULT 0, started REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS result (
    target BLOB PRIMARY KEY, state TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL,
    source BLOB NOT NULL, source_bytes INTEGER NOT NULL, source_modified_ns INTEGER NOT NULL, source_sha256 TEXT,
    page INTEGER,
    seed INTEGER NOT NULL, settings TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', again INTEGER NOT NULL DEFAULT 0,
    notes TEXT NOT NULL DEFAULT '[]', dtype TEXT, result_bytes INTEGER, result_sha256 TEXT, started REAL, seconds REAL
) WITHOUT ROWID;
"""
_BUSY_SECONDS = 60.0
CLAIMED, DONE, KEPT, FAILED = "claimed", "done", "kept", "failed"


class JournalError(Exception):
    """The journal cannot be read or written."""


class Entry(NamedTuple):
    """
    What the journal knows of a result when a run starts.

    Args:
        state (`str`): `"claimed"` by a run that is painting it, or was when it ended; `"done"`; `"failed"`; or
            `"kept"`: there was another file of that name.
        run (`str`): The run that wrote this.
        round (`int`): Runs with --overwrite that continue each other share a number.
        source_bytes, source_modified_ns (`int`): The photo, as it was then.
        settings (`str`): What was asked for.
        result_bytes (`int` or `None`): Size of the result.
        reason (`str`): Why it failed.
        again (`int`): Whether it may well succeed the next time: the disk was full, the file could not be reached.
    """

    state: str
    run: str
    round: int
    source_bytes: int
    source_modified_ns: int
    settings: str
    result_bytes: int | None
    reason: str
    again: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A result that a run wants to make, and what it saw of it in the journal when it decided so."""

    target: str
    source: str
    source_bytes: int
    source_modified_ns: int
    seed: int
    seen: Entry | None
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What has become of one result.

    Args:
        target (`str`): Its path.
        state (`str`): `"done"`, `"kept"` or `"failed"`.
        reason (`str`): Why it failed.
        again (`bool`): Whether it may well succeed the next time.
        notes (`str`): JSON list of what of the photo's file could not be kept.
        dtype (`str` or `None`): Of the network that painted it.
        source_sha256, result_sha256 (`str` or `None`): Checksums of the files.
        result_bytes (`int` or `None`): Size of the result.
        started, seconds (`float`): When the photo was begun, and how much work it was.
    """

    target: str
    state: str
    reason: str = ""
    again: bool = False
    notes: str = "[]"
    dtype: str | None = None
    source_sha256: str | None = None
    result_sha256: str | None = None
    result_bytes: int | None = None
    started: float = 0.0
    seconds: float = 0.0


class Journal:
    """
    The journal of one run in an output folder, or in memory where results go beside their photos.

    Only the command itself writes it, never its workers, so that the machines of a cluster need not agree on the locks
    of a network disk.

    Args:
        folder (`str` or `None`): The output folder; `None` keeps the journal in memory.
        settings (`str`): What the results of this run depend on, as JSON.
        overwrite (`bool`): Whether this run makes results again that exist.

    Raises:
        `JournalError`: if there is one that cannot be read, or the folder cannot be written.
    """

    def __init__(self, folder: str | None, settings: str, overwrite: bool):
        self._folder, self._settings = folder, settings
        self._lock = threading.RLock()  # claims come from the thread that reads ahead, and some verdicts
        self._unwritten: list[Verdict] = []
        self._alive = None
        self.run = os.urandom(8).hex()
        path = ":memory:"
        try:
            if folder is not None:
                os.makedirs(os.path.join(folder, WORKPLACE), exist_ok=True)
                path = self._path("journal.sqlite")
                self.run, self._alive = hold_new(lambda: os.urandom(8).hex(), self._alive_path)
            # A journal that rolls back, not a write-ahead log: that needs memory shared between the machines.
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            for statement in _TABLES.split(";"):
                self._connection.execute(statement)
            self.round = self._begin(overwrite)
        except OSError as error:
            raise JournalError(f"{folder}: nothing can be written there: {error.strerror}") from error
        except sqlite3.Error as error:
            raise JournalError(f"{path} cannot be used: {error}. Move it away to begin a new one.") from error

    def finish(self) -> None:
        """
        Note that the run has come to its end.

        Raises:
            `JournalError`: if the disk does not take that, or has not taken all results.
        """
        self.record([])
        with self._transaction():
            self._connection.execute("UPDATE run SET finished = 1 WHERE round = ?", (self.round,))

    def close(self) -> None:
        """Let another run have what this one has claimed and not done."""
        self._connection.close()
        if self._alive is not None:
            self._alive.close()
            with suppress(OSError):
                os.unlink(self._alive_path(self.run))

    def entries(self) -> dict[bytes, Entry]:
        """All results by their [`result_key`]."""
        return _entries(self._connection)

    def entry(self, target: str) -> Entry | None:
        """One result, as the journal knows it now."""
        with self._lock:
            return self._entry(result_key(target, self._folder))

    def rows(self) -> Iterator[dict]:
        """All columns of all results, in the order of their names, with whole paths as `str`."""
        cursor = self._connection.execute("SELECT * FROM result ORDER BY target")
        columns = [column[0] for column in cursor.description]
        for values in cursor:
            row = dict(zip(columns, values, strict=True))
            target = os.path.join(self._folder or "", os.fsdecode(row["target"]))
            yield {**row, "target": target, "source": os.fsdecode(row["source"])}

    def dead(self, runs: Iterable[str]) -> set[str]:
        """Which of some runs have ended; the files that said that they live are removed."""
        dead = set()
        for run in set(runs) - {self.run}:
            path = self._alive_path(run)
            if not os.path.exists(path):
                dead.add(run)
            elif (lock := hold(path)) is not None:
                with suppress(OSError):
                    os.unlink(path)
                lock.close()
                dead.add(run)
        return dead

    def bury(self) -> None:
        """Remove what runs left that ended without claims."""
        if self._folder is not None:
            names = os.listdir(os.path.join(self._folder, WORKPLACE))
            self.dead(name.removesuffix(".alive") for name in names if name.endswith(".alive"))

    def claim(self, claims: list[Claim]) -> list[bool]:
        """
        Take results that this run will make.

        Returns:
            `list` of `bool`: False for those of which another run has written in the meantime.

        Raises:
            `JournalError`: if the disk does not take it; then none is claimed.
        """
        granted = []
        with self._transaction():
            for claim in claims:
                key = result_key(claim.target, self._folder)
                granted.append(self._entry(key) == claim.seen)
                if granted[-1]:
                    self._connection.execute(
                        "REPLACE INTO result (target, state, run, round, source, source_bytes, source_modified_ns,"
                        " page, seed, settings, started) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (
                            key, CLAIMED, self.run, self.round, os.fsencode(claim.source), claim.source_bytes,
                            claim.source_modified_ns, None if claim.page is None else claim.page + 1, claim.seed,
                            self._settings, time.time(),
                        ),
                    )  # fmt: skip
        return granted

    def record(self, verdicts: list[Verdict]) -> None:
        """
        Write what has become of claimed results. What a full disk does not take is tried again with the next.

        Raises:
            `JournalError`: if the disk does not take it; the results themselves are in place.
        """
        with self._lock:
            self._unwritten += verdicts
            with self._transaction():
                self._connection.executemany(
                    "UPDATE result SET state = ?, reason = ?, again = ?, notes = ?, dtype = ?, source_sha256 = ?,"
                    " result_sha256 = ?, result_bytes = ?, started = ?, seconds = ? WHERE target = ? AND run = ?",
                    [
                        (
                            verdict.state, verdict.reason, verdict.again, verdict.notes, verdict.dtype,
                            verdict.source_sha256, verdict.result_sha256, verdict.result_bytes, verdict.started,
                            verdict.seconds, result_key(verdict.target, self._folder), self.run,
                        )
                        for verdict in self._unwritten
                    ],
                )  # fmt: skip
            self._unwritten = []

    def _entry(self, key: bytes) -> Entry | None:
        row = self._connection.execute(
            f"SELECT {', '.join(Entry._fields)} FROM result WHERE target = ?", (key,)
        ).fetchone()
        return None if row is None else Entry(*row)

    def _alive_path(self, run: str) -> str:
        return self._path(f"{run}.alive")

    def _path(self, name: str) -> str:
        return os.path.join(self._folder or "", WORKPLACE, name)

    def _begin(self, overwrite: bool) -> int:
        with self._transaction():
            (last,) = self._connection.execute("SELECT COALESCE(MAX(round), 0) FROM run").fetchone()
            unfinished = self._connection.execute(
                "SELECT MAX(round) FROM run WHERE overwrite AND NOT finished AND settings = ?", (self._settings,)
            ).fetchone()[0]
            number = unfinished if overwrite and unfinished is not None else last + 1
            self._connection.execute(
                "INSERT INTO run (id, round, settings, overwrite, started) VALUES (?, ?, ?, ?, ?)",
                (self.run, number, self._settings, overwrite, time.time()),
            )
        return number

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._connection.execute("COMMIT")
                finally:
                    if self._connection.in_transaction:  # something went wrong; a full disk has rolled it back already
                        self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise JournalError(f"the journal cannot be written: {error}") from error


def result_key(target: str, folder: str | None) -> bytes:
    """The name of a result in the journal: its path below the output folder, which may be moved as a whole."""
    if folder is None:
        return os.fsencode(os.path.abspath(target))
    below = f"{os.path.normpath(folder)}{os.sep}"
    return os.fsencode(target[len(below) :] if target.startswith(below) else os.path.relpath(target, folder))


def peek(folder: str) -> tuple[dict[bytes, Entry], float | None]:
    """
    Look into the journal of a folder without writing anything.

    Returns:
        `tuple`: the entries, as [`Journal.entries`] gives them, and the median of the seconds of work for a photo;
        none and `None` if there is no journal yet.

    Raises:
        `JournalError`: if there is one that cannot be read.
    """
    path = os.path.join(folder, WORKPLACE, "journal.sqlite")
    if not os.path.exists(path):
        return {}, None
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA query_only = 1")
            seconds = connection.execute("SELECT seconds FROM result WHERE state = 'done' ORDER BY seconds").fetchall()
            return _entries(connection), seconds[len(seconds) // 2][0] if seconds else None
    except sqlite3.Error as error:
        raise JournalError(f"{path} cannot be read: {error}. Move it away to begin a new one.") from error


def _entries(connection: sqlite3.Connection) -> dict[bytes, Entry]:
    rows = connection.execute(f"SELECT target, {', '.join(Entry._fields)} FROM result")
    at = Entry._fields.index("settings") + 1  # of a hundred thousand results they are the same few texts
    return {row[0]: Entry(*row[1:at], sys.intern(row[at]), *row[at + 1 :]) for row in rows}
