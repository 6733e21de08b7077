"""
Colorize damaged files, each by a command of its own time limit at most, and account for every one of them:

    python tests/benchmarks/bad_files.py FOLDER... [--variants 500] [--seed 0]

All files of the folders are painted as they are, and then `--variants` copies of them that were cut off, or in which
some bits or a run of bytes were changed. One command paints a hundred of them. Good: each is read or refused in one
line, none ends in a traceback, no command hangs, and no input is changed.
"""

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from archive_job import COLORIZE, make_checkpoint


_FILES_A_COMMAND = 100
_SECONDS_A_COMMAND = 600
_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".tif", ".tiff", ".webp", ".jp2", ".j2k", ".avif", ".gif", ".bmp",
             ".dng", ".heic", ".mpo", ".jpe", ".cr2", ".nef")  # fmt: skip


def damage(data: bytes, chance: random.Random) -> bytes:
    """Cut a file off, flip some of its bits, or overwrite a run of its bytes; headers as often as pixels."""
    changed = bytearray(data)
    reach = len(changed) if chance.random() < 0.5 else min(len(changed), 512)
    kind = chance.randrange(3)
    if kind == 0:
        return data[: chance.randrange(reach)]
    if kind == 1:
        for _ in range(chance.randint(1, 12)):
            changed[chance.randrange(reach)] ^= 1 << chance.randrange(8)
    else:
        start = chance.randrange(reach)
        changed[start : start + chance.randint(1, 64)] = chance.randbytes(min(64, len(changed) - start))
    return bytes(changed)


def paint(files: list[Path], output: Path, model: str) -> tuple[int, int, int]:
    """Paint some files by one command: how many results, lines of refusal and tracebacks there are."""
    command = [*COLORIZE, *(f"./{path.name}" for path in files), "-o", str(output), "--model", model, "--steps", "1"]
    run = subprocess.run(command, cwd=files[0].parent, capture_output=True, timeout=_SECONDS_A_COMMAND)
    errors = run.stderr.decode(errors="replace")
    refused = [line for line in errors.splitlines() if ": not colorized: " in line]
    if "Traceback" in errors:
        print(errors[-4000:])
    return len(list(output.rglob("*.png"))), len(refused), errors.count("Traceback")


def main(arguments: argparse.Namespace, folder: Path) -> None:
    model = make_checkpoint(folder / "model")
    chance = random.Random(arguments.seed)
    sources = sorted(path for root in arguments.folders for path in root.rglob("*") if path.is_file())
    sources = [path for path in sources if path.stat().st_size]
    contents = [(path, path.read_bytes()) for path in sources]
    for index in range(arguments.variants):
        path, data = contents[index % len(sources)]
        contents.append((path, damage(data, chance)))
    album = folder / "album"
    album.mkdir()
    files = [album / f"{index:05d}{path.suffix}" for index, (path, _) in enumerate(contents)]
    for file, (_, data) in zip(files, contents, strict=True):
        file.write_bytes(data)
    before = {file: hashlib.sha256(file.read_bytes()).digest() for file in files}
    clock, results, refused, tracebacks = time.perf_counter(), 0, 0, 0
    for start in range(0, len(files), _FILES_A_COMMAND):
        part = files[start : start + _FILES_A_COMMAND]
        counts = paint(part, folder / f"out-{start}", model)
        results, refused, tracebacks = (a + b for a, b in zip((results, refused, tracebacks), counts, strict=True))
        if counts[0] + counts[1] != len(part):
            print(f"of the files {part[0].name} to {part[-1].name} {counts[0]} were painted and {counts[1]} refused")
    changed = sum(hashlib.sha256(file.read_bytes()).digest() != digest for file, digest in before.items())
    print(
        f"{len(sources)} files and {arguments.variants} damaged ones, {time.perf_counter() - clock:.0f} s: {results}"
        f" painted, {refused} refused in a line, {tracebacks} tracebacks, {changed} inputs changed"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--variants", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    with tempfile.TemporaryDirectory() as folder:
        main(parser.parse_args(sys.argv[1:]), Path(folder))
