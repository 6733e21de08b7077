"""
Kill a training run while it writes checkpoints, ten times, and read the newest one after each kill:

    python tests/benchmarks/kill_checkpoints.py FOLDER_OF_PHOTOS

The run saves the 250 MB of preset `medium` after every small update, so that most kills fall into the writing.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path


ROOT = Path(__file__).parents[2]
KILLS = 10


def main(photos: str, folder: Path) -> None:
    command = [
        sys.executable, str(ROOT / "train" / "train.py"), "--config", str(ROOT / "train" / "configs" / "smoke.json"),
        "--dataset", photos, "--output_dir", str(folder), "--preset", "medium", "--resolutions", "32",
        "--stage_photos", "1024000", "--batch_size", "4", "--log_photos", "4", "--checkpoint_photos", "4",
        "--validation_photos", "0",
    ]  # fmt: skip
    random.seed(0)
    unreadable = during_write = 0
    for kill in range(KILLS):
        expected = any(folder.glob("checkpoint-*"))
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        ) as run:
            resumed = False
            for line in run.stdout:
                resumed |= line.startswith("resumed from")
                if " photos: loss" in line:
                    break
            else:
                sys.exit("the run ended by itself")
            unreadable += expected and not resumed
            time.sleep(random.uniform(0, 3))
            run.kill()
        writing = any(folder.glob(".unfinished-*"))
        during_write += writing
        newest = max((int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*")), default=0)
        print(f"kill {kill + 1}: newest checkpoint-{newest}, killed while writing: {writing}")
    print(f"{KILLS} kills, {during_write} of them while a checkpoint was written, {unreadable} unreadable newest ones")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(sys.argv[1], Path(folder))
