"""
Photos a second of `colorize FOLDER -o OUT`, beside a plain loop of read, paint and write with all cores:

    python tests/benchmarks/archive_throughput.py [PHOTOS] [REPEATS] [FOLDER_OF_ANOTHER_VERSION] [--memory]

One-megapixel JPEGs, the model that ships. The plain loop is what the command did before it had workers. All run
whole, with imports and loading, and take turns. The command of another version of this package, with the model that
it ships, is measured beside this one. `--memory` compares the peaks for 100 and for 2,000 photos instead (small ones,
tiny checkpoint).
"""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from archive_job import COLORIZE, make_checkpoint, make_photos


ROOT = Path(__file__).parents[2]
LOOP = """
import sys
from pathlib import Path
import torch
from colorize_pipeline import DEFAULT_CHECKPOINT, ColorizationPipeline
from colorize_pipeline.apps.reading import find_photos, read_photo
from colorize_pipeline.apps.writing import write_photo

pipe = ColorizationPipeline.from_pretrained(DEFAULT_CHECKPOINT)
pipe.set_progress_bar_config(disable=True)
for path in find_photos(Path(sys.argv[1])):
    photo = read_photo(path)
    color = pipe(photo.image, generator=[torch.Generator().manual_seed(0)]).images[0]
    write_photo(Path(sys.argv[2]) / f"{path.stem}.color.png", color, photo)
"""


def throughput(photos: int, repeats: int, other: str | None, folder: Path) -> None:
    make_photos(folder / "album", photos, (1152, 868))
    commands = {
        "plain loop": [sys.executable, "-c", LOOP, "album"],
        "a worker for each core": [*COLORIZE, "album", "--workers", str(os.cpu_count()), "-o"],
        "one worker": [*COLORIZE, "album", "--workers", "1", "-o"],
    }
    if other is not None:
        commands = {"the other version": [*COLORIZE, "album", "-o"], **commands}
    seconds, cpu = {}, {}
    for repeat in range(repeats):
        for name, command in commands.items():
            version = other if name == "the other version" else str(ROOT)
            clock = time.perf_counter()
            process = subprocess.Popen(
                [*command, f"{name} {repeat}"], cwd=folder, env={**os.environ, "PYTHONPATH": version},
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            _, status, usage = os.wait4(process.pid, 0)  # of its workers, too
            if status:
                sys.exit(f"{name}: exit code {os.waitstatus_to_exitcode(status)}")
            seconds.setdefault(name, []).append(time.perf_counter() - clock)
            cpu.setdefault(name, []).append(usage.ru_utime + usage.ru_stime)
            print(f"{name}: {seconds[name][-1]:.1f} s, {cpu[name][-1]:.1f} CPU s", flush=True)
    for name, values in seconds.items():
        rates = sorted(photos / value for value in values)
        print(
            f"{name:25s} {rates[0]:.2f} {statistics.median(rates):.2f} {rates[-1]:.2f} photos/s (min, median, max),"
            f" {min(cpu[name]) / photos:.2f} CPU seconds a photo"
        )
    best = {name: min(values) for name, values in seconds.items()}
    for name in [name for name in best if name in ("plain loop", "the other version")]:
        print(f"a worker for each core / {name}: {best[name] / best['a worker for each core']:.2f}")


def memory(folder: Path) -> None:
    model = make_checkpoint(folder / "model")
    for photos in (100, 2000):
        make_photos(folder / f"album {photos}", photos, (320, 240))
        command = [*COLORIZE, f"album {photos}", "-o", f"out {photos}", "--model", model, "--workers", "2"]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        peaks: dict[int, float] = {}
        thread = threading.Thread(target=_watch, args=(process, peaks))
        thread.start()
        process.wait()
        thread.join()
        total = sorted(peaks.values())
        print(
            f"{photos} photos: command and workers {[f'{peak:.0f}' for peak in total]} MB, together {sum(total):.0f}"
        )


def _watch(process: subprocess.Popen, peaks: dict[int, float]) -> None:
    """Note the highest resident size of a process and of its children (Linux)."""
    while process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        try:
            pids = [process.pid, *map(int, children.read_text().split())]
            for pid in pids:
                status = Path(f"/proc/{pid}/status").read_text()
                if "VmHWM:" in status:
                    peaks[pid] = int(status.split("VmHWM:")[1].split()[0]) / 1000
        except OSError:  # it has just ended
            continue
        time.sleep(0.2)


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdigit()]
    with tempfile.TemporaryDirectory() as folder:
        if "--memory" in sys.argv:
            memory(Path(folder))
        else:
            other = next((argument for argument in sys.argv[1:] if os.path.isdir(argument)), None)
            throughput(*(numbers + [200, 3][len(numbers) :]), other, Path(folder))
