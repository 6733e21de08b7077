"""Where unfinished files lie until they are results: told apart from those of the dead, and moved in one step."""

import errno
import filecmp
import os
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress


# Everything of ours that is not a result lies in folders of this name: unfinished files, and the journal.
WORKPLACE = ".colorize"

_LOCK = "lock"
_ATTEMPTS = 20


def hold(path: str) -> sqlite3.Connection | None:
    """
    Lock a file until the connection is closed or its process ends, however it ends.

    SQLite's lock is the one of the standard library that works on every system, and over those network file systems
    that know locks. The file stays empty.

    Returns:
        `sqlite3.Connection` or `None`: `None` if a living process holds it.
    """
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = MEMORY")  # else there would be a second file beside it
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        connection.close()
        return None
    return connection


def hold_new(name: Callable[[], str], path_of: Callable[[str], str]) -> tuple[str, sqlite3.Connection]:
    """
    Lock a file that is not there yet.

    Args:
        name (callable): Makes up a name.
        path_of (callable): Gives the path of the file for a name.

    Returns:
        `tuple`: the name, and what holds the lock.

    Raises:
        `OSError`: if the disk does not take it.
    """
    problem = ""
    for _ in range(_ATTEMPTS):
        chosen = name()
        try:
            lock = hold(path_of(chosen))
        except sqlite3.Error as error:  # the folder has been removed by another run, for which it was empty
            problem, lock = str(error), None
        # Whoever took this file for a dead run's has removed it before the lock was let go.
        if lock is not None:
            if os.path.exists(path_of(chosen)):
                return chosen, lock
            lock.close()
    raise OSError(errno.EIO, f"no place for unfinished files: {problem}", path_of(""))


@contextmanager
def unfinished_folder(folder: str) -> Iterator[str]:
    """
    Make a folder for unfinished files on the same disk as their targets, and remove it with what is left in it.

    Args:
        folder (`str`): Where the results go; it is made if it is not there.

    Raises:
        `OSError`: if the disk does not take it.
    """
    workplace = os.path.join(folder, WORKPLACE)

    made = []

    def make() -> str:
        made.append(os.path.join(workplace, uuid.uuid4().hex))
        with suppress(FileNotFoundError):  # another run removes the workplace in this moment, for which it was empty
            os.makedirs(made[-1])
        return made[-1]

    lock = None
    try:
        path, lock = hold_new(make, lambda path: os.path.join(path, _LOCK))
        yield path
    finally:
        for path in made:
            shutil.rmtree(path, ignore_errors=True)
        if lock is not None:
            lock.close()
        with suppress(OSError):  # others work in it, or the journal is there
            os.rmdir(workplace)


def remove_unfinished(folders: Iterable[str]) -> int:
    """
    Remove the unfinished files of runs that have ended without doing so. Returns of how many.

    Args:
        folders (iterable of `str`): Where results go.
    """
    removed = 0
    for workplace in {os.path.join(folder, WORKPLACE) for folder in folders}:
        try:
            names = os.listdir(workplace)
        except OSError:  # there is none, or it cannot be read: nothing of ours then
            continue
        for name in names:
            path = os.path.join(workplace, name)
            if not os.path.isdir(path) or len(name) != len(uuid.uuid4().hex):
                continue
            with suppress(sqlite3.Error):  # its owner has just finished
                lock = hold(os.path.join(path, _LOCK))
                if lock is not None:
                    shutil.rmtree(path, ignore_errors=True)
                    lock.close()
                    removed += 1
        with suppress(OSError):
            os.rmdir(workplace)
    return removed


def put_in_place(unfinished: str, target: str, overwrite: bool) -> bool:
    """
    Make a finished file the result, in one step: whole or not at all, and never over another file unless asked.

    Returns:
        `bool`: False if there is another file already. One with the same bytes is as good as the result: another run
        has made it.

    Raises:
        `OSError`: if the disk does not take it.
    """
    if overwrite:
        os.replace(unfinished, target)
        return True
    try:
        os.link(unfinished, target)
    except FileExistsError:
        return filecmp.cmp(unfinished, target, shallow=False)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.ENOENT, errno.EROFS):
            raise
        if os.path.exists(target):  # a file system without hard links
            return filecmp.cmp(unfinished, target, shallow=False)
        os.rename(unfinished, target)
    return True
