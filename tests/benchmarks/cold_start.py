"""
How long the command takes from nothing, beside the classes of diffusers and transformers that it cannot do without:

    python tests/benchmarks/cold_start.py [REPEATS] [FOLDER_OF_ANOTHER_VERSION]

CPU seconds (user and system) and seconds of the wall clock: minimum, median, maximum. The repeats take turns, so that
a busy spell of the machine meets all of them. Another version of this package is measured beside this one.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from archive_job import COLORIZE, make_photos


ROOT = Path(__file__).parents[2]
FLOOR = "from diffusers import DiffusionPipeline, UNet2DModel; from transformers import EfficientNetModel"


def main(repeats: int, other: str | None, folder: Path) -> None:
    make_photos(folder / "album", 3, (1024, 768))
    photo = str(folder / "album" / "photo 00000.jpg")
    commands = {
        "import colorize_pipeline": [sys.executable, "-c", "import colorize_pipeline"],
        "colorize --help": [*COLORIZE, "--help"],
        "colorize missing.jpg": [*COLORIZE, "missing.jpg"],
        "colorize --dry-run album/": [*COLORIZE, "--dry-run", str(folder / "album")],
        "the floor": [sys.executable, "-c", FLOOR],
        "colorize photo.jpg": [*COLORIZE, photo, "--overwrite"],
    }
    figures = {}
    for _ in range(repeats):
        for name, command in commands.items():
            for version in [str(ROOT), *([other] if other else [])]:
                if (
                    name == "the floor"
                    and version == other
                    or name == "colorize --dry-run album/"
                    and version == other
                ):
                    continue
                label = name if version != other else f"{name}, the other version"
                clock = time.perf_counter()
                process = subprocess.Popen(
                    command, cwd=folder, env={**os.environ, "PYTHONPATH": version},
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )  # fmt: skip
                _, _, usage = os.wait4(process.pid, 0)
                seconds = time.perf_counter() - clock
                figures.setdefault(label, []).append((usage.ru_utime + usage.ru_stime, seconds))
    for label, pairs in figures.items():
        cpu, wall = zip(*pairs, strict=True)
        print(f"{label:45s} CPU {_spread(cpu)}, wall {_spread(wall)}")
    floor = min(cpu for cpu, _ in figures["the floor"])
    print(f"colorize photo.jpg / floor: {min(cpu for cpu, _ in figures['colorize photo.jpg']) / floor:.2f}")


def _spread(values: tuple[float, ...]) -> str:
    return f"{min(values):6.2f} {statistics.median(values):6.2f} {max(values):6.2f} s"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(int((sys.argv[1:] or ["5"])[0]), (sys.argv[2:] or [None])[0], Path(folder))
