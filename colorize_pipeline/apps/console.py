"""A run as the user sees it: what is planned, how it goes, what has become of it. Results go to standard output, all
else to standard error."""

import itertools
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from colorize_pipeline.apps.batch import NOT_COLORIZED, Request, Run, decide
from colorize_pipeline.apps.journal import DONE, Journal, JournalError, peek
from colorize_pipeline.apps.plan import Plan
from colorize_pipeline.apps.report import estimate, summary, write_report
from colorize_pipeline.apps.tasks import EngineError, Outcome, Settings
from colorize_pipeline.apps.workplace import remove_unfinished


# Names of files may hold line breaks, and what steers terminals.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A worker is worth the seconds in which it imports and loads if it has some photos to paint.
_PHOTOS_PER_WORKER = 8
# Each takes some 0.7 GB; who has more memory and cores asks for more.
_MAX_WORKERS = 8
# Of work for a photo, where none has been timed yet.
_GUESSED_SECONDS = 1.0
# Photos that are claimed in one transaction: few leave work to a second run, many are faster to claim.
_CLAIMED_AT_ONCE, _CLAIMED_AT_ONCE_FOR_RAY = 8, 1000


class _Stopped(Exception):
    """By a signal, of which this is the number."""


class Console:
    """
    Where a run tells how it goes.

    Args:
        photos (`int`): How many there are; the bar is for more than one, and only on a terminal.
        names (`dict` of `str`): What to call some paths; a result with an empty name is not told.
    """

    def __init__(self, photos: int, names: dict[str, str]):
        from tqdm import tqdm

        self._names = names
        self._results = sys.stderr if "" in names.values() else sys.stdout  # which then is the picture's alone
        self._noted = Counter()
        self._progress = tqdm(total=photos, unit="photo", disable=True if photos < 2 else None)

    def say(self, line: str) -> None:
        """Tell one line."""
        for path, name in self._names.items():
            line = line.replace(path, name)
        line = _CONTROL.sub(lambda found: repr(found[0])[1:-1], line)
        self._progress.write(line, file=sys.stderr)

    def advance(self, line: str) -> None:
        """Go on by one photo, of which there may be something to say."""
        if line:
            self.say(line)
        self._progress.update()

    def tell(self, outcome: Outcome) -> None:
        """Tell the results of a photo and its notes. What an archive's scans have in common is said once."""
        for note in outcome.notes:
            if not self._noted[note]:
                self.say(f"{outcome.task.name}: {note}")
            self._noted[note] += 1
        for verdict in outcome.verdicts:
            if verdict.state == DONE and self._names.get(verdict.target, verdict.target):
                self.tell_result(verdict.target)

    def tell_result(self, path: str) -> None:
        """Give a path to whoever reads standard output."""
        with suppress(BrokenPipeError):  # who reads the list may stop, the photos go on
            self._progress.write(path, file=self._results)
            self._results.flush()

    def close(self) -> None:
        """End the bar, and count what was said once."""
        self._progress.close()
        for note, number in self._noted.items():
            if number > 1:
                self.say(f"{number} photos: {note}")


def tell_plan(plan: Plan, request: Request, workers: int | None) -> int:
    """
    Tell every photo and what would become of it, what is passed over, and how long it would take. Nothing is written.

    Args:
        plan (`Plan`): What to tell.
        request (`Request`): What is asked for.
        workers (`int` or `None`): How many would paint at the same time.

    Returns:
        `int`: The exit code.
    """
    try:
        entries, seconds = peek(plan.folder) if plan.folder is not None else ({}, None)
    except JournalError as error:
        print(error, file=sys.stderr)
        return 1
    # What another run has claimed is told as to do: only a run of its own could find out whether that one lives.
    claimed_by = {entry.run for entry in entries.values()}
    todo, totals = [], Counter()
    for job in plan.jobs:
        decision = decide(job, request, entries, plan.folder, -1, claimed_by)
        if problem := job.problem or decision.failed:
            totals[NOT_COLORIZED] += 1
            print(f"{job.name}: cannot be colorized: {problem}")
        elif decision.wanted:
            todo.append(job)
            print(f"{job.name} -> {', '.join(target for _, target in decision.wanted)}")
        elif decision.exists:
            totals["kept"] += 1
            print(f"{job.name}: keeps {decision.exists}, which exists (--overwrite replaces it)")
        else:
            totals["done before"] += 1
    for entry in plan.passed_over:
        print(f"{entry.path}: passed over: {entry.reason}")
    workers = workers or min(_MAX_WORKERS, os.cpu_count() or 1, max(1, len(todo) // _PHOTOS_PER_WORKER))
    print(estimate(todo, seconds or _GUESSED_SECONDS, workers, is_guess=seconds is None))
    for line in summary(totals, plan.passed_over):
        print(line)
    return 0


def run_plan(
    plan: Plan,
    settings: Settings,
    request: Request,
    report: str | None,
    workers: int | None,
    engine: str,
    console: Console,
) -> int:
    """
    Do what is planned.

    Args:
        plan (`Plan`): What to do.
        settings (`Settings`): How to paint.
        request (`Request`): What is asked for.
        report (`str` or `None`): Where to write the report.
        workers (`int` or `None`): How many paint at the same time.
        engine (`str`): `"local"` or `"ray"`.
        console (`Console`): Where to tell how it goes.

    Returns:
        `int`: The exit code: 0, 1 if something failed, 128 and its number for a signal.
    """
    folders = {os.path.dirname(target) or "." for job in plan.jobs for target in job.targets}
    with _stoppable():
        try:
            with closing(Journal(plan.folder, settings.of_colors(), settings.overwrite)) as journal:
                remove_unfinished(folders)
                journal.bury()
                at_once = _CLAIMED_AT_ONCE_FOR_RAY if engine == "ray" else _CLAIMED_AT_ONCE
                run = Run(plan.jobs, request, journal, plan.folder, at_once, console.advance)
                try:
                    with closing(_outcomes(run, settings, len(plan.jobs), workers, engine)) as outcomes:
                        for outcome in outcomes:
                            run.note(outcome)
                            console.tell(outcome)
                finally:
                    remove_unfinished(folders)  # of workers that were stopped
                    console.close()
                lines = summary(run.totals, plan.passed_over)
                if len(plan.jobs) > 1 or plan.passed_over:
                    for line in lines:
                        console.say(line)
                journal.finish()
                if report is not None:
                    try:
                        for page in write_report(report, journal.rows(), plan.passed_over, lines):
                            console.tell_result(page)
                    except OSError as error:
                        console.say(f"{report}: the report is not written: {error.strerror}")
                        return 1
        except _Stopped as stopped:
            again = "." if plan.folder is None else ": give the same command again to go on."
            console.say(f"Stopped{again}")
            return 128 + stopped.args[0]
        except (JournalError, EngineError) as error:
            console.say(str(error))
            return 1
    failed = run.totals[NOT_COLORIZED] or any(entry.lost for entry in plan.passed_over)
    return int(bool(failed))


def _outcomes(run: Run, settings: Settings, photos: int, workers: int | None, engine: str) -> Iterator[Outcome]:
    tasks = run.tasks()
    if (first := next(tasks, None)) is None:  # a job that is done, or has nothing that can be painted, ends at once
        return
    tasks = itertools.chain([first], tasks)
    # Imported here, for it takes Pillow and NumPy, which a dry run can do without.
    from colorize_pipeline.apps.engines import paint_here, paint_in_processes, paint_on_ray

    workers = workers or (None if engine == "ray" else _default_workers(photos, settings.device))
    if engine == "ray":
        yield from paint_on_ray(tasks, settings, workers)
    elif workers == 1:
        yield from paint_here(tasks, settings)
    else:
        yield from paint_in_processes(tasks, settings, workers)


def _default_workers(photos: int, device: str) -> int:
    if photos < 2 * _PHOTOS_PER_WORKER:
        return 1
    if device == "auto" or device.startswith("cuda"):
        import torch

        if torch.cuda.is_available():
            return torch.cuda.device_count() if device in ("auto", "cuda") else 1
        if torch.backends.mps.is_available():
            return 1
    elif device != "cpu":
        return 1
    return min(_MAX_WORKERS, os.cpu_count() or 1, photos // _PHOTOS_PER_WORKER)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a run by an exception, so that it leaves nothing behind."""

    def stop(number: int, _) -> None:
        for other in handlers:  # once is enough
            signal.signal(other, signal.SIG_IGN)
        raise _Stopped(number)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
