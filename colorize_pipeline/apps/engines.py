"""Where the workers run: in this process, in one process each, or on a Ray cluster."""

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from types import ModuleType

from colorize_pipeline.apps.journal import FAILED, Verdict
from colorize_pipeline.apps.tasks import EngineError, Outcome, Settings, Task
from colorize_pipeline.apps.workers import load_model, paint_photos


# Photos that a process has at once: one is read ahead, one painted, one written; one more waits in its pipe.
_WINDOW = 4
# A photo at which so many workers ended is not tried again. The second is alone with it, so it is to blame.
_DEATHS = 2
# So many workers in a row that end before their first photo will not get better.
_STILLBORN = 3

# Photos that go to a Ray actor at once; what is lost with a killed one is painted again.
_RAY_BATCH = 8


def paint_here(tasks: Iterable[Task], settings: Settings) -> Iterator[Outcome]:
    """Paint one photo after the other in this process. Yields the outcome of each."""
    return paint_photos(tasks, settings, lambda: load_model(settings))


@dataclass
class _Worker:
    index: int
    process: multiprocessing.process.BaseProcess
    connection: Connection
    careful: bool  # one photo at a time, to learn at which one it ends
    tasks: list[Task] = field(default_factory=list)
    has_answered: bool = False
    told_to_end: bool = False


def paint_in_processes(tasks: Iterable[Task], settings: Settings, workers: int) -> Iterator[Outcome]:
    """
    Paint photos in processes. One that ends (for want of memory, or by a defect of a decoder) is replaced, and loses
    nothing.

    Args:
        tasks (iterable of `Task`): Asked for the next when a worker has room for it.
        settings (`Settings`): How.
        workers (`int`): How many processes.

    Yields:
        `Outcome`: for each task, in the order in which they are done.

    Raises:
        `EngineError`: if the model cannot be loaded.
    """
    tasks, retries, deaths = iter(tasks), deque(), Counter()
    crew = [_start(index, settings, careful=False) for index in range(workers)]
    stillborn = 0
    try:
        for worker in crew:
            _feed(worker, tasks, retries)
        while crew:
            ready = multiprocessing.connection.wait([worker.connection for worker in crew])
            for worker in [worker for worker in crew if worker.connection in ready]:
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):  # the process has ended
                    message = None
                if isinstance(message, EngineError):
                    raise message
                if message is not None:
                    worker.has_answered, stillborn = True, 0
                    worker.tasks.remove(message.task)
                    yield message
                    _feed(worker, tasks, retries)
                    continue
                crew.remove(worker)
                worker.connection.close()
                worker.process.join()
                if worker.told_to_end and not worker.tasks:
                    continue
                stillborn += not worker.has_answered
                if stillborn == _STILLBORN:
                    raise EngineError(f"The workers end before they paint: exit code {worker.process.exitcode}")
                for task in worker.tasks:
                    deaths[task] += 1
                    if deaths[task] < _DEATHS:
                        retries.append(task)
                    else:
                        yield _given_up(task, f"the worker ended at it, exit code {worker.process.exitcode}")
                crew.append(_start(worker.index, settings, careful=True))
                _feed(crew[-1], tasks, retries)
    finally:
        for worker in crew:
            worker.process.kill()
            worker.process.join()
            worker.connection.close()


def _feed(worker: _Worker, tasks: Iterator[Task], retries: deque[Task]) -> None:
    worker.careful = worker.careful and bool(retries)
    while not worker.told_to_end and len(worker.tasks) < (1 if worker.careful else _WINDOW):
        task = retries.popleft() if worker.careful and retries else next(tasks, None)
        if task is None:
            worker.told_to_end = True
        else:
            worker.tasks.append(task)
        try:
            worker.connection.send(task)
        except OSError:  # it has ended, which the reading of its answers shows
            return
        if worker.careful and not retries:
            return


def _start(index: int, settings: Settings, careful: bool) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, settings, index), daemon=True)
    # Ctrl-C reaches the whole group, but it is this process that stops its workers.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.start()
    signal.signal(signal.SIGINT, handler)
    theirs.close()
    return _Worker(index, process, ours, careful)


def _serve(connection: Connection, settings: Settings, index: int) -> None:
    """What a process does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        for outcome in paint_photos(iter(connection.recv, None), settings, lambda: load_model(settings, index)):
            connection.send(outcome)
    except EngineError as error:
        connection.send(error)


def _end_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)  # whatever the others of its threads do


def _given_up(task: Task, reason: str) -> Outcome:
    return Outcome(task, tuple(Verdict(target, FAILED, reason) for _, target in task.versions), reason=reason)


def paint_on_ray(tasks: Iterable[Task], settings: Settings, workers: int | None) -> Iterator[Outcome]:
    """
    Paint photos with Ray Data: on this machine, or on the cluster that `ray start` or `RAY_ADDRESS` has joined it to.
    An actor that ends is replaced, and what it had is painted again.

    Args:
        tasks (iterable of `Task`): All are taken at once. Their paths must lead to the same files on every machine.
        settings (`Settings`): How.
        workers (`int` or `None`): How many actors; `None` is one for each core or GPU of the cluster.

    Yields:
        `Outcome`: for each task, in the order in which they are done.

    Raises:
        `EngineError`: if Ray is not installed or gives up, or the model cannot be loaded.
    """
    tasks = list(tasks)
    if not tasks:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise EngineError("--engine ray needs Ray: pip install 'colorize-pipeline[batch]'") from error

    with contextlib.redirect_stdout(sys.stderr):  # where its threads tell of actors that have ended
        ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        try:
            yield from _paint_on_ray(ray, tasks, settings, workers)
        finally:
            ray.shutdown()  # and they tell it late


def _paint_on_ray(ray: ModuleType, tasks: list[Task], settings: Settings, workers: int | None) -> Iterator[Outcome]:
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # how its blocks go is nothing to the user
    resources = ray.cluster_resources()
    on_gpu = settings.device.startswith("cuda") or (settings.device == "auto" and resources.get("GPU", 0) > 0)
    workers = workers or max(1, int(resources.get("GPU" if on_gpu else "CPU", 1)))
    # A block is the least that is given to an actor, and few blocks would keep few actors busy.
    blocks = max(1, -(-len(tasks) // _RAY_BATCH), min(workers, len(tasks)))
    rows = [{"number": number, "task": pickle.dumps(_absolute(task))} for number, task in enumerate(tasks)]
    model = os.path.abspath(settings.model) if os.path.isdir(settings.model) else settings.model
    outcomes = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        _RayWorker,
        fn_constructor_args=(replace(settings, model=model),),
        batch_size=_RAY_BATCH,
        compute=ray.data.ActorPoolStrategy(size=min(workers, blocks)),
        num_cpus=0 if on_gpu else 1,
        num_gpus=1 if on_gpu else 0,
    )
    try:
        for row in outcomes.iter_rows():
            task, outcome = tasks[row["number"]], pickle.loads(row["outcome"])
            verdicts = zip(outcome.verdicts, task.versions, strict=True)
            verdicts = tuple(replace(verdict, target=target) for verdict, (_, target) in verdicts)
            yield replace(outcome, task=task, verdicts=verdicts)
    except ray.exceptions.RayError as error:
        raise EngineError(f"Ray has given up: {str(error).strip().splitlines()[-1]}") from error


def _absolute(task: Task) -> Task:
    return replace(
        task,
        source=os.path.abspath(task.source),
        versions=tuple((seed, os.path.abspath(target)) for seed, target in task.versions),
        targets=tuple(map(os.path.abspath, task.targets)),
    )


class _RayWorker:
    """An actor: it loads the model once."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._model = load_model(settings)

    def __call__(self, batch: dict) -> dict:
        tasks = [pickle.loads(task) for task in batch["task"]]
        outcomes = {outcome.task: outcome for outcome in paint_photos(tasks, self._settings, lambda: self._model)}
        return {"number": batch["number"], "outcome": [pickle.dumps(outcomes[task]) for task in tasks]}
