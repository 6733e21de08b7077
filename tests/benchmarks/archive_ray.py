"""
Kill an actor of `colorize --engine ray` while it paints, and see that nothing is lost or painted twice:

    python tests/benchmarks/archive_ray.py [PHOTOS]

Needs the extra [batch]. Linux: the actors are found by their names in /proc.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from archive_job import COLORIZE, journal, leftovers, make_checkpoint, make_photos, results


def main(photos: int, folder: Path) -> None:
    model = make_checkpoint(folder / "model")
    make_photos(folder / "album", photos, (320, 240))
    command = [*COLORIZE, "album", "--model", model, "--workers", "2", "-o"]
    subprocess.run([*command, "alone"], cwd=folder, capture_output=True, check=True)
    clock = time.perf_counter()
    run = subprocess.Popen(
        [*command, "out", "--engine", "ray"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not list((folder / "out").glob("*.png")) and run.poll() is None:
        time.sleep(0.05)
    started = time.perf_counter() - clock
    actors = [pid for pid in _actors() if pid]
    if actors:
        os.kill(actors[0], signal.SIGKILL)
    output, errors = run.communicate()
    told = Counter(output.splitlines())
    print(errors.strip()[-2000:])
    print("told beside results:", [line for line in told if not line.endswith(".png")])
    print(
        f"first result after {started:.0f} s, actors {actors}, one killed; exit code {run.returncode} after"
        f" {time.perf_counter() - clock:.0f} s; {len(told)} of {photos} told,"
        f" {sum(number > 1 for number in told.values())} twice;"
        f" results equal: {results(folder / 'out') == results(folder / 'alone')}, journal equal:"
        f" {journal(folder / 'out') == journal(folder / 'alone')}, left: {leftovers(folder / 'out')}"
    )


def _actors() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::" in path.read_bytes() and b"Worker" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(int((sys.argv[1:] or ["64"])[0]), Path(folder))
