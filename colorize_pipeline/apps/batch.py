"""One run over a plan: what is left to do, claimed before it is painted and noted after."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass

from colorize_pipeline.apps.journal import (
    CLAIMED,
    DONE,
    FAILED,
    KEPT,
    Claim,
    Entry,
    Journal,
    JournalError,
    Verdict,
    result_key,
)
from colorize_pipeline.apps.plan import Job, compare_path
from colorize_pipeline.apps.tasks import Outcome, Task


# What becomes of photos: colorized now, or by a run before; kept, since there is a file of that name; failed, now or
# before; left to another run that works in the same folder.
COLORIZED, DONE_BEFORE, KEPT_AS_IS, NOT_COLORIZED, LEFT = (
    "colorized",
    "done before",
    "kept",
    "failed",
    "left to another run",
)


@dataclass(frozen=True)
class Decision:
    """
    What a run has to do for a job.

    Args:
        wanted (`tuple` of `(int, str)`): Seed and path of the versions to paint.
        exists (`str`): A file that is kept, if that leaves nothing to do.
        failed (`str`): Why it failed before, if it is not tried again.
        left (`bool`): Whether another run has it.
        comparison (`bool`): Whether a comparison is to be made of what is there.
    """

    wanted: tuple[tuple[int, str], ...] = ()
    exists: str = ""
    failed: str = ""
    left: bool = False
    comparison: bool = False


@dataclass(frozen=True)
class Request:
    """
    What to do with what is there already.

    Args:
        seed (`int`): Of the first version.
        overwrite (`bool`): Make results again.
        retry_failed (`bool`): Try photos again that failed.
        compare (`bool`): Comparisons are wanted.
        settings (`str`): What results depend on, as the journal has it.
    """

    seed: int = 0
    overwrite: bool = False
    retry_failed: bool = False
    compare: bool = False
    settings: str = ""


def decide(
    job: Job, request: Request, entries: dict[bytes, Entry], folder: str | None, round_: int, dead: set[str]
) -> Decision:
    """
    See what is left to do for a job.

    Args:
        job (`Job`): The photo.
        request (`Request`): What is asked for.
        entries (`dict`): The journal as it was when the run began.
        folder (`str` or `None`): Where the journal is.
        round_ (`int`): Results of this round of --overwrite are new enough.
        dead (`set` of `str`): Runs that have ended.
    """
    wanted, exists, failed, left = [], "", "", False
    for seed, target in enumerate(job.targets, start=request.seed):
        entry = entries.get(result_key(target, folder))
        size = _size(target)
        if entry is not None and entry.state == CLAIMED:
            if entry.run in dead:
                wanted.append((seed, target))
            left |= entry.run not in dead
        elif request.overwrite and not (entry is not None and entry.state == DONE and entry.round == round_):
            wanted.append((seed, target))
        elif entry is not None and entry.state == DONE and size == entry.result_bytes:
            continue
        elif size is not None:
            exists = target
        elif entry is None or entry.state != FAILED or entry.again or request.retry_failed:
            wanted.append((seed, target))
        elif (job.size, job.modified_ns) != (entry.source_bytes, entry.source_modified_ns):
            wanted.append((seed, target))  # it is another photo now
        elif entry.settings != request.settings:
            wanted.append((seed, target))  # it failed for what was asked, such as 16 bit for what holds 8
        else:
            failed = entry.reason
    comparison = request.compare and not (failed or left or job.problem)
    comparison = comparison and any(_size(compare_path(target)) is None for target in job.targets)
    return Decision(tuple(wanted), exists, failed, left, comparison)


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return None


class Run:
    """
    A run over a plan.

    Args:
        jobs (`list` of `Job`): What is planned.
        request (`Request`): What is asked for.
        journal (`Journal`): Where it is noted.
        folder (`str` or `None`): The output folder, where the journal is.
        at_once (`int`): Photos that are claimed in one transaction: what another run beside this one has to do without
            at the end.
        say (callable): Told one line for the user, or an empty one, for each job that is dealt with.
    """

    def __init__(
        self,
        jobs: list[Job],
        request: Request,
        journal: Journal,
        folder: str | None,
        at_once: int,
        say: Callable[[str], None],
    ):
        self.totals = Counter()
        self._jobs, self._request, self._journal, self._folder = jobs, request, journal, folder
        self._at_once, self._say = at_once, say
        self._lock = threading.Lock()  # tasks are asked for from the thread that reads ahead

    def tasks(self) -> Iterator[Task]:
        """Yield what is to be painted, claimed for this run."""
        left = self._jobs
        for _ in range(2):  # perhaps the other run ends while this one works, and not as it should
            entries = self._journal.entries()
            dead = self._journal.dead(entry.run for entry in entries.values() if entry.state == CLAIMED)
            left = yield from self._claim(left, entries, dead)
        for _ in left:
            self._tally(LEFT)

    def note(self, outcome: Outcome) -> None:
        """Note in the journal, and count, what has become of a task."""
        with suppress(JournalError):  # the results are there, and are noted with the next, or at the end
            self._journal.record(list(outcome.verdicts))
        states = {verdict.state for verdict in outcome.verdicts}
        name, target = outcome.task.name, outcome.task.targets[0]
        if outcome.reason:
            self._tally(NOT_COLORIZED, f"{name}: not colorized: {outcome.reason}")
        elif KEPT in states:
            self._tally(KEPT_AS_IS, f"{name}: kept {target}, which exists (--overwrite replaces it)")
        else:
            self._tally(COLORIZED if states else DONE_BEFORE)

    def _claim(self, jobs: list[Job], entries: dict[bytes, Entry], dead: set[str]) -> Generator[Task, None, list[Job]]:
        """Returns the jobs that another run has."""
        left, waiting = [], []
        for job in jobs:
            decision = decide(job, self._request, entries, self._folder, self._journal.round, dead)
            if decision.wanted or decision.comparison:
                waiting.append((job, decision.wanted))
            elif decision.left:
                left.append(job)
            elif decision.failed:
                again = "(--retry-failed tries it again)"
                self._tally(NOT_COLORIZED, f"{job.name}: not colorized before: {decision.failed} {again}")
            elif decision.exists and self._has_changed(decision.exists, entries):
                left.append(job)  # another run has made it in the meantime
            elif decision.exists:
                exists = f"kept {decision.exists}, which exists (--overwrite replaces it)"
                self._tally(KEPT_AS_IS, f"{job.name}: {exists}")
            else:
                self._tally(DONE_BEFORE)
            if len(waiting) == self._at_once:
                left += yield from self._take(waiting, entries)
                waiting = []
        return left + (yield from self._take(waiting, entries))

    def _take(
        self, waiting: list[tuple[Job, tuple[tuple[int, str], ...]]], entries: dict[bytes, Entry]
    ) -> Generator[Task, None, list[Job]]:
        """Returns the jobs that another run has taken since this one began."""
        claims = [
            Claim(target, job.source, job.size, job.modified_ns, seed, entries.get(key), job.page)
            for job, wanted in waiting
            for seed, target in wanted
            for key in [result_key(target, self._folder)]
        ]
        try:
            granted = dict(zip(claims, self._journal.claim(claims), strict=True)) if claims else {}
        except JournalError as error:
            for job, _ in waiting:
                self._tally(NOT_COLORIZED, f"{job.name}: not colorized: {error}")
            return []
        ours = {(claim.seed, claim.target) for claim, is_ours in granted.items() if is_ours}
        left = []
        for job, wanted in waiting:
            versions = tuple(version for version in wanted if version in ours)
            task = Task(job.source, versions, job.targets, job.page)
            if wanted and not versions:
                left.append(job)
            elif job.problem:
                verdicts = tuple(Verdict(target, FAILED, job.problem, again=True) for _, target in versions)
                self.note(Outcome(task, verdicts, reason=job.problem))
            else:
                yield task
        return left

    def _has_changed(self, target: str, entries: dict[bytes, Entry]) -> bool:
        return self._journal.entry(target) != entries.get(result_key(target, self._folder))

    def _tally(self, what: str, line: str = "") -> None:
        with self._lock:
            self.totals[what] += 1
            self._say(line)
