"""
Colorize 2,000 files in odd formats and under odd names, and account for every one of them:

    python tests/benchmarks/archive_files.py FOLDER_OF_PHOTOS... [--files N] [--workers N]

The files are copies and conversions of what is in the folders, bad ones included, under names with spaces, line
breaks, other scripts, invalid UTF-8, a leading dash, 240 and 250 bytes, in links, as a FIFO, and in a folder that
cannot be read (as root the command runs by `setpriv` without the right to read all). Good is what can be decoded.
"""

import argparse
import hashlib
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from archive_job import COLORIZE, journal, make_checkpoint
from PIL import Image

from colorize_pipeline.apps.formats import PHOTO_SUFFIXES
from colorize_pipeline.apps.photo import PHOTO_ERRORS
from colorize_pipeline.apps.reading import read_photo


NAMES = (
    "{n}", "a name with spaces {n}", "-o {n}", "--model{n}", "line\nbreak {n}", "Ärger über Fotos {n}", "写真 {n}",
    "%s {n} $HOME `ls` *?[a]", "{n} 'quoted' \"twice\"", "a" * 234 + "{n:06}", "b" * 240 + "{n:06}",
    "ü" * 118 + "{n:06}", "trip.color{n}", "{n}.jpg", "..{n}", "invalid \udcff\udcfe {n}",
)  # fmt: skip
FORMATS = (".jpg", ".JPG", ".jpeg", ".png", ".tif", ".webp", ".bmp", ".gif", ".jp2")


def make_files(sources: list[Path], folder: Path, number: int) -> None:
    random.seed(0)
    photos = [path for path in sources if path.suffix.lower() in PHOTO_SUFFIXES]
    index = 0
    while index < number:
        source = photos[index % len(photos)]
        name = random.choice(NAMES).format(n=index)
        below = folder / random.choice(("", "1936", "1936/roll 7", "Straße", "名"))
        below.mkdir(parents=True, exist_ok=True)
        suffix = source.suffix
        if index >= len(photos) and random.random() < 0.7:
            suffix = random.choice(FORMATS)
        name = os.fsdecode(os.fsencode(name)[: 254 - len(suffix)])
        target = below / f"{name}{suffix}"
        try:
            if suffix == source.suffix:
                target.write_bytes(source.read_bytes())
            else:
                with Image.open(source) as image:
                    image.convert(random.choice(("L", "RGB"))).save(target)
        except PHOTO_ERRORS:
            target.unlink(missing_ok=True)
            target = below / f"{name}{source.suffix}"
            target.write_bytes(source.read_bytes())
        index += 1
    (folder / "link to a photo.jpg").symlink_to(next(folder.glob("*.jpg")).name)
    (folder / "link to nothing.jpg").symlink_to("nothing.jpg")
    (folder / "link to a folder").symlink_to("1936")
    (folder / "link to itself.jpg").symlink_to("link to itself.jpg")
    (folder / "a folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / ".hidden.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("no photo")
    (folder / "unreadable").mkdir()
    (folder / "unreadable" / "a.jpg").write_bytes(b"")
    (folder / "secret.jpg").write_bytes(photos[0].read_bytes())


def checksums(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def is_good(path: Path) -> bool:
    try:
        read_photo(path)
    except PHOTO_ERRORS:
        return False
    return True


def main(arguments: argparse.Namespace, folder: Path) -> None:
    model = make_checkpoint(folder / "model")
    album, out = folder / "album", folder / "out"
    make_files(sorted(path for root in arguments.folders for path in root.rglob("*") if path.is_file()), album,
               arguments.files)  # fmt: skip
    before = checksums(album)
    found = [path for path in sorted(album.rglob("*")) if not any(part.startswith(".") for part in path.parts[-4:])]
    photos = [path for path in found if path.suffix.lower() in PHOTO_SUFFIXES and not path.is_dir()]
    photos = [path for path in photos if not re.fullmatch(r"(?s).*\.(color|compare)(-\d+)?", path.stem)]
    hidden = {str(album / "unreadable" / "a.jpg"), str(album / "secret.jpg")}
    good = {str(path) for path in photos if str(path) not in hidden and path.is_file() and is_good(path)}
    without = "-dac_override,-dac_read_search"
    unprivileged = ["setpriv", f"--bounding-set={without}", f"--inh-caps={without}"] if os.getuid() == 0 else []
    for closed in ("unreadable", "secret.jpg"):
        os.chmod(album / closed, 0)

    command = [
        *unprivileged,
        *COLORIZE,
        "album",
        "missing.jpg",
        "-o",
        "out",
        "--model",
        model,
        "--workers",
        str(arguments.workers),
    ]
    clock = time.perf_counter()
    run = subprocess.run(command, cwd=folder, capture_output=True)
    seconds = time.perf_counter() - clock
    for closed in ("unreadable", "secret.jpg"):
        os.chmod(album / closed, 0o755)
    after = checksums(album)
    errors = run.stderr.decode(errors="surrogateescape")
    named = [line for line in errors.splitlines() if ": not colorized: " in line or "which exists" in line]
    results = list(out.rglob("*.png"))
    unreadable = [path for path in results if not is_good(path)]
    expected_bad = len(photos) + 1 - len(good) - 1  # and missing.jpg; without what lies in the unreadable folder
    states = Counter(row[1] for row in journal(out))
    print(errors[-3000:].encode(errors="backslashreplace").decode())
    print(
        f"{arguments.files} files, {seconds:.0f} s, exit code {run.returncode}: {len(good)} good, {len(results)}"
        f" results ({len(unreadable)} unreadable), {expected_bad} bad, {len(named)} named, journal {dict(states)},"
        f" {errors.count('Traceback')} tracebacks, {sum(after[path] != before[path] for path in before)}"
        " photos changed"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    with tempfile.TemporaryDirectory() as folder:
        main(parser.parse_args(sys.argv[1:]), Path(folder))
