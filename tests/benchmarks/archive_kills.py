"""
Kill `colorize FOLDER -o OUT` at random moments, and see that nothing is broken, left or lost:

    python tests/benchmarks/archive_kills.py [KILLS] [TERMINATIONS] [OF_THEM_WITH_WORKERS]

Each run is a process of its own, forked from one that has imported all: so that most signals come while it paints.
The last ones run two workers, which import for themselves. After each, every result that is there is compared with
that of a run that was left alone; at the end also the journal.
"""

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from archive_job import journal, leftovers, make_checkpoint, make_photos, results

from colorize_pipeline import ColorizationPipeline  # noqa: F401 (imported before the forks)
from colorize_pipeline.apps import engines  # noqa: F401
from colorize_pipeline.apps.cli import main as colorize


PHOTOS = 60


def start(arguments: list[str], folder: Path) -> tuple[int, int]:
    """Fork a run. Returns its process id and the reading end of its output."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    os.chdir(folder)
    os.dup2(writing, 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))
    sys.argv = ["colorize", *arguments]
    try:
        colorize()
    except SystemExit as end:
        os._exit(end.code or 0)
    os._exit(70)


def run_alone(arguments: list[str], folder: Path) -> float:
    clock = time.perf_counter()
    pid, output = start(arguments, folder)
    while os.read(output, 65536):
        pass
    os.close(output)
    os.waitpid(pid, 0)
    return time.perf_counter() - clock


def main(kills: int, terminations: int, with_workers: int, folder: Path) -> None:
    if os.fork() == 0:  # so that this process has no threads of PyTorch when it forks
        make_checkpoint(folder / "model")
        os._exit(0)
    os.wait()
    make_photos(folder / "album", PHOTOS, (64, 48))
    (folder / "album" / "broken.jpg").write_bytes(b"no photo")
    command = ["album", "--model", "model", "-o"]
    alone = run_alone([*command, "alone", "--workers", "1"], folder)
    expected, expected_journal = results(folder / "alone"), journal(folder / "alone")
    assert len(expected) == PHOTOS and len(expected_journal) == PHOTOS + 1

    random.seed(0)
    signals = [signal.SIGKILL] * kills + [signal.SIGTERM] * terminations
    random.shuffle(signals)
    partial = left_by_term = left_after_next = painting = wrong = round_ = 0
    codes = set()
    for number, which in enumerate(signals):
        workers = 2 if number >= len(signals) - with_workers else 1
        pid, output = start([*command, f"out {round_}", "--workers", str(workers)], folder)
        if workers == 2 or number % 2:
            os.read(output, 1)
            time.sleep(random.uniform(0, 0.1 * alone))
        else:
            time.sleep(random.uniform(0, 0.3 * alone))
        os.kill(pid, which)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        os.close(output)
        time.sleep(0.5)  # workers of a killed run end by themselves
        out = folder / f"out {round_}"
        there = {name: value for name, value in results(out).items() if not name.startswith(".colorize")}
        painting += 0 < len(there) < PHOTOS
        partial += sum(value != expected.get(name) for name, value in there.items())
        left = leftovers(out)
        if which == signal.SIGTERM:
            codes.add(code)
            left_by_term += len(left) if code > 0 else 0  # below 0: before it could be asked to stop
        print(f"{number + 1}: {which.name}, {workers} worker(s), {len(there)} results, left {left}", flush=True)
        round_ += len(there) == PHOTOS
    for number in range(round_ + 1):
        out = folder / f"out {number}"
        run_alone([*command, str(out), "--workers", "1"], folder)
        wrong += results(out) != expected or journal(out) != expected_journal
        left_after_next += len(leftovers(out))
    print(
        f"{kills} SIGKILLs and {terminations} SIGTERMs ({painting} with some but not all results; exit codes of"
        f" SIGTERM {codes}): {partial} partial results, {left_by_term} files left by SIGTERMs, {left_after_next} left"
        f" after the run that went on, {wrong} of {round_ + 1} folders differ from that of the run alone in results or"
        " journal"
    )


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        main(*(numbers or [50, 20, 4]), Path(folder))
