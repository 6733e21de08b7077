"""The command on folders of photos, as the tests of plan, journal and archive call it."""

import hashlib
import sqlite3
import sys

from typer.testing import CliRunner

from colorize_pipeline.apps.cli import app
from colorize_pipeline.apps.plan import Selection, make_plan


COLORIZE = [sys.executable, "-c", "from colorize_pipeline.apps.cli import main; main()"]


def invoke(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def plan(*photos, **wanted):
    naming = {name: wanted.pop(name) for name in ("wanted_format", "all_pages") if name in wanted}
    return make_plan(list(map(str, photos)), None, range(1), False, Selection(**wanted), **naming)


def journal_rows(folder):
    with sqlite3.connect(folder / ".colorize" / "journal.sqlite") as connection:
        return connection.execute(
            "SELECT target, state, source_sha256, seed, settings, reason, again, notes, result_bytes, result_sha256"
            " FROM result ORDER BY target"
        ).fetchall()


def checksums(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.png")}
