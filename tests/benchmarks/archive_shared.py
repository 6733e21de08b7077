"""
Two runs at once into one folder, a full disk, and a finished job of 100,000 photos:

    python tests/benchmarks/archive_shared.py two [PHOTOS]
    python tests/benchmarks/archive_shared.py disk FOLDER_ON_A_SMALL_DISK
    python tests/benchmarks/archive_shared.py journal [ENTRIES]

A small disk, as root: mount -t tmpfs -o size=3m none FOLDER. The other two use no more than a temporary folder.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from archive_job import COLORIZE, journal, leftovers, make_checkpoint, make_photos, results


# Linux; the figure that the parent gets of a child would be that of the parent if that is higher.
_TELLING_ITS_PEAK = [
    sys.executable,
    "-c",
    "import atexit, sys; from colorize_pipeline.apps.cli import main; atexit.register(lambda: print('peak',"
    " open('/proc/self/status').read().split('VmHWM:')[1].split()[0], file=sys.stderr)); main()",
]


def two_runs(photos: int, folder: Path) -> None:
    model = make_checkpoint(folder / "model")
    make_photos(folder / "album", photos, (64, 48))
    command = [*COLORIZE, str(folder / "album"), "--model", model, "--workers", "1", "-o"]
    subprocess.run([*command, str(folder / "alone")], capture_output=True, check=True)
    runs = [
        subprocess.Popen([*command, str(folder / "out")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [run.communicate() for run in runs]
    painted = [set(output.splitlines()) for output, _ in outputs]
    for _, errors in outputs:
        print(errors.strip())
    print(
        f"exit codes {[run.returncode for run in runs]}; painted {[len(targets) for targets in painted]} of {photos},"
        f" both {len(painted[0] & painted[1])}; results equal to those of a run alone:"
        f" {results(folder / 'out') == results(folder / 'alone')}, journal too:"
        f" {journal(folder / 'out') == journal(folder / 'alone')}, left: {leftovers(folder / 'out')}"
    )


def full_disk(disk: Path, folder: Path) -> None:
    model = make_checkpoint(folder / "model")
    size = shutil.disk_usage(disk).total
    make_photos(folder / "album", 24, (160, 120))
    command = [*COLORIZE, str(folder / "album"), "--model", model, "--workers", "1", "-o"]
    subprocess.run([*command, str(folder / "alone")], capture_output=True, check=True)
    expected = results(folder / "alone")
    needed = sum((folder / "alone" / name).stat().st_size for name in expected)
    out = disk / "out"
    ballast = disk / "ballast"
    ballast.write_bytes(b"\0" * max(0, size - needed // 2 - 200_000))
    first = subprocess.run([*command, str(out)], capture_output=True, text=True)
    there = results(out)
    print(first.stderr.strip()[-600:])
    broken = sum(there[name] != expected.get(name) for name in there)
    print(f"disk full: exit code {first.returncode}, {len(there)} of {len(expected)} results, {broken} broken, left:"
          f" {leftovers(out)}, {first.stderr.count('Traceback')} tracebacks")  # fmt: skip
    ballast.unlink()
    second = subprocess.run([*command, str(out)], capture_output=True, text=True)
    print(f"with room again: exit code {second.returncode}, equal to a run alone: {results(out) == expected}, journal:"
          f" {journal(out) == journal(folder / 'alone')}; {second.stderr.strip()}")  # fmt: skip
    shutil.rmtree(out)


def large_journal(entries: int, folder: Path) -> None:
    """The photos are small empty files: nothing is read of a photo that is done."""
    album, out = folder / "album", folder / "out"
    make_checkpoint(folder / "model")
    make_photos(folder / "one", 1, (64, 48))
    command = [*COLORIZE, "album", "-o", "out", "--model", "model"]
    album.mkdir()
    shutil.copy(next((folder / "one").iterdir()), album / "first.jpg")
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    for number in range(entries):
        below = f"roll {number // 1000:03}"
        if number % 1000 == 0:
            (album / below).mkdir()
            (out / below).mkdir()
        (album / below / f"photo {number:06}.jpg").touch()
        (out / below / f"photo {number:06}.color.png").touch()
    with sqlite3.connect(out / ".colorize" / "journal.sqlite") as connection:
        connection.execute("UPDATE result SET notes = '[\"a note of some length\"]'")
        columns = [row[1] for row in connection.execute("PRAGMA table_info(result)")]
        first = dict(zip(columns, connection.execute("SELECT * FROM result").fetchone(), strict=True))
        rows = []
        for number in range(entries):
            name = f"roll {number // 1000:03}/photo {number:06}"
            target, source = f"{name}.color.png".encode(), f"album/{name}.jpg".encode()
            rows.append(tuple({**first, "target": target, "source": source, "result_bytes": 0}.values()))
        connection.executemany(f"INSERT INTO result VALUES ({', '.join('?' * len(columns))})", rows)
    size = (out / ".colorize" / "journal.sqlite").stat().st_size
    for what, started in (
        ("one photo, a dry run", [*_TELLING_ITS_PEAK, "one", "--dry-run"]),
        ("a finished job", [*_TELLING_ITS_PEAK, *command[len(COLORIZE) :]]),
        ("a finished job, a dry run", [*_TELLING_ITS_PEAK, *command[len(COLORIZE) :], "--dry-run"]),
    ):
        seconds, cpu, peaks = [], [], []
        for _ in range(3):
            clock = time.perf_counter()
            process = subprocess.Popen(
                started, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            said, _, peak = process.stderr.read().rpartition("peak ")
            _, status, usage = os.wait4(process.pid, 0)
            seconds.append(time.perf_counter() - clock)
            cpu.append(usage.ru_utime + usage.ru_stime)
            peaks.append(int(peak) / 1000)
        print(f"{what}: {min(seconds):.1f} to {max(seconds):.1f} s, {min(cpu):.1f} to {max(cpu):.1f} CPU s, peak"
              f" {max(peaks):.0f} MB, exit code {os.waitstatus_to_exitcode(status)}: {said.strip()}")  # fmt: skip
    print(f"journal of {entries + 1} entries: {size / 1e6:.0f} MB")


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        if what == "two":
            two_runs(int(*rest or [400]), Path(folder))
        elif what == "disk":
            full_disk(Path(rest[0]), Path(folder))
        else:
            large_journal(int(*rest or [100_000]), Path(folder))
