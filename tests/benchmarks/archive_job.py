"""What the benchmarks of the command line share: a tiny real checkpoint, small photos, and the state of a folder."""

import hashlib
import os
import sqlite3
import sys
from pathlib import Path

import numpy as np
from PIL import Image


sys.path.insert(0, str(Path(__file__).parents[1]))

# The command by its module, so that the code beside this file is measured, installed or not.
COLORIZE = [sys.executable, "-c", "from colorize_pipeline.apps.cli import main; main()"]


def make_checkpoint(folder: Path) -> str:
    """Save an untrained network of tests/conftest.py: what is measured is not the painting."""
    from conftest import make_pipeline

    make_pipeline().save_pretrained(folder)
    return str(folder)


def make_photos(folder: Path, number: int, size: tuple[int, int], suffix: str = ".jpg") -> None:
    """Cut different pieces out of a sample photo of scikit-image, with some noise in them."""
    from skimage.data import camera

    random = np.random.default_rng(0)
    source = Image.fromarray(camera())
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        left, top = random.integers(0, 200, 2)
        photo = source.crop((left, top, left + 300, top + 300)).resize(size)
        noise = random.normal(0, 4, (size[1], size[0]))
        pixels = (np.asarray(photo) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"photo {index:05d}{suffix}")


def results(folder: Path) -> dict[str, str]:
    """Checksums of all files of a folder but the journal."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "journal.sqlite"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def journal(folder: Path) -> list[tuple]:
    """The results in the journal, without times and the numbers of runs."""
    with sqlite3.connect(folder / ".colorize" / "journal.sqlite") as connection:
        return connection.execute(
            "SELECT target, state, source, source_bytes, source_modified_ns, source_sha256, seed, settings, reason,"
            " again, notes, result_bytes, result_sha256 FROM result ORDER BY target"
        ).fetchall()


def leftovers(folder: Path) -> list[str]:
    """What is neither a result nor the journal."""
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if ".colorize" in path.parts]
    return [name for name in names if os.path.basename(name) not in (".colorize", "journal.sqlite")]
