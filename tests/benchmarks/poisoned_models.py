"""
Load model folders that were damaged, each in Python, on the command line and for a push, and say what came of it:

    python tests/benchmarks/poisoned_models.py [NUMBER]

Every attempt has a process of its own, forked from one that has the libraries loaded, with limits of memory and time.
"""

import json
import multiprocessing
import os
import resource
import runpy
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path


TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS))
MEMORY_LIMIT = 2 * 2**30  # bytes, of data; what a process held at its most is measured too
SECONDS = 120


def in_python(folder: Path, photo: Path) -> str:
    """Load and paint, and say what came of it."""
    import torch
    from PIL import Image

    from colorize_pipeline import ColorizationPipeline

    doing = "loading"
    try:
        pipeline = ColorizationPipeline.from_pretrained(folder)
        doing = "painting"
        pipeline.set_progress_bar_config(disable=True)
        pipeline(Image.open(photo), generator=torch.Generator().manual_seed(0))
        return "painted"
    except (ValueError, OSError) as error:
        return f"{'refused in one line' if str(error).count(chr(10)) == 0 else 'several lines'}, {doing}"


def on_the_command_line(arguments: list[str], script: Path | None = None) -> str:
    """Run `colorize` or a script as its users do, and say what came of it."""
    from colorize_pipeline.apps.cli import main

    said = os.memfd_create("said")
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = [str(script or "colorize"), *arguments]
    code = 0
    try:
        runpy.run_path(str(script), run_name="__main__") if script else main()
    except SystemExit as exit:
        code = exit.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os.lseek(said, 0, os.SEEK_SET)
    lines = [line for line in os.read(said, 2**20).decode(errors="replace").splitlines()]
    lines = [line for line in lines if line.strip() and "%|" not in line]  # without the bars of progress
    if not code:
        return "painted"
    return "refused in one line" if len(lines) == 1 else "several lines: " + " | ".join(lines)[:300]


def tell(act: Callable[[], str], outcome: Path) -> None:
    """Act within the limits, and write what came of it."""
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT, MEMORY_LIMIT))
    outcome.write_text(act())


def attempt(sound: Path, mutant, scratch: Path) -> dict:
    """Do all three, each in a child process. Returns what came of each, and how long it took."""
    folder = shutil.copytree(sound, scratch / "model")
    mutant.damage(folder)
    ways = {
        "python": lambda: in_python(folder, scratch / "photo.png"),
        "colorize": lambda: on_the_command_line([str(scratch / "photo.png"), "--model", str(folder)]),
        "push": lambda: on_the_command_line([str(folder), "ann/model"], TESTS.parent / "train" / "push_to_hub.py"),
    }
    seen = {"mutant": mutant.name, "seconds": 0.0}
    for way, act in ways.items():
        start = time.perf_counter()
        outcome = scratch / way
        child = multiprocessing.get_context("fork").Process(target=tell, args=(act, outcome))
        child.start()
        child.join()
        if child.exitcode < 0:
            seen[way] = f"killed by signal {-child.exitcode}"
        else:  # what raised has told nothing, and ended its process with 1
            seen[way] = outcome.read_text() if child.exitcode == 0 else "traceback"
        seen["seconds"] = max(seen["seconds"], time.perf_counter() - start)
    return seen


def main(number: int) -> None:
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    import torch
    from conftest import make_pipeline
    from model_mutants import make_mutants
    from PIL import Image

    import colorize_pipeline.hub  # noqa: F401 (so that no child has to)

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make_pipeline(with_encoder=True).save_pretrained(folder / "with encoder")
        make_pipeline().save_pretrained(folder / "plain")
        mutants = make_mutants(folder / "with encoder", number)
        results = []
        for mutant in mutants:
            # What is not about the encoder is tried on a model without one, which paints where it is sound.
            sound = folder / ("with encoder" if "image_encoder" in mutant.name else "plain")
            scratch = folder / "scratch"
            scratch.mkdir()
            Image.new("L", (40, 32), 90).save(scratch / "photo.png")
            results.append(attempt(sound, mutant, scratch))
            shutil.rmtree(scratch)
    for way in ("python", "colorize", "push"):
        told = Counter(result[way].split(":")[0] for result in results)
        print(f"{way:10}", ", ".join(f"{count} {what}" for what, count in told.most_common()))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10  # of the largest child
    print(f"at most {peak:.0f} MB and", end=" ")
    print(f"{max(result['seconds'] for result in results):.1f} seconds")
    for result in results:
        if any(result[way].startswith(("traceback", "killed", "several")) for way in ("python", "colorize", "push")):
            print(json.dumps(result))
    print("painted:", [result["mutant"] for result in results if result["python"] == "painted"])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
