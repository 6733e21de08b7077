"""
Colorize all photos of a folder, at 8 and 16 bit, in each lossless format, and take the gray back out of the results:

    python tests/benchmarks/restored.py ../shared/historical

Good: each gray is the one that went in, code for code, and `colorize restore` says so; of a result in which somebody
has changed one pixel by one code it says that it was edited.
"""

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from archive_job import COLORIZE, make_checkpoint
from PIL import Image
from typer.testing import CliRunner

from colorize_pipeline.apps import restore
from colorize_pipeline.apps.gray import luma_of
from colorize_pipeline.apps.reading import find_photos, read_photo
from colorize_pipeline.apps.writing import write_photo


_KINDS = [(8, "png"), (8, "tif"), (8, "webp"), (16, "png"), (16, "tif")]


def give_sixteen_bit(path: Path, target: Path) -> None:
    """What a scanner of 16 bit gives of a photo of 8: the codes between its own."""
    luma = luma_of(read_photo(path))
    between = np.random.default_rng(0).integers(0, 256, luma.shape, dtype=np.uint16)
    Image.fromarray(luma.astype(np.uint16) * 256 + between).save(target)


def edit(result: Path, target: Path) -> None:
    """Change a pixel of a result by one code, and keep all that it says of itself."""
    photo = read_photo(result)
    pixels = np.array(photo.image)
    middle = tuple(side // 2 for side in pixels.shape[:2])
    pixels[middle] = np.where(pixels[middle] > 0, pixels[middle] - 1, 1)
    write_photo(target, pixels, photo, synthetic=False)


def ask(result: Path, gray: Path) -> tuple[int, str]:
    answer = CliRunner().invoke(restore.app, [str(result), "-o", str(gray), "--overwrite"])
    return answer.exit_code, answer.output


def main(source: Path, folder: Path) -> None:
    model = make_checkpoint(folder / "model")
    photos = find_photos(source)
    (folder / "16").mkdir()
    for path in photos:
        give_sixteen_bit(path, folder / "16" / f"{path.stem}.png")
    failed = 0
    for bits, suffix in _KINDS:
        album, output = source if bits == 8 else folder / "16", folder / f"{bits}-{suffix}"
        command = [*COLORIZE, str(album), "-o", str(output), "--model", model, "--steps", "1", "--format", suffix]
        subprocess.run(command, check=True, capture_output=True)
        seen, gray = Counter(), folder / f"gray.{'tif' if suffix == 'tif' else 'png'}"
        for path in find_photos(album):
            result = output / path.relative_to(album).with_suffix(f".color.{suffix}")
            code, words = ask(result, gray)
            same = np.array_equal(luma_of(read_photo(gray)), luma_of(read_photo(path)))
            seen["exact"] += code == 0 and same and "code for code" in words
            edited = folder / f"edited.{suffix}"
            edited.unlink(missing_ok=True)
            edit(result, edited)
            code, words = ask(edited, gray)
            seen["edited"] += code == 1 and "edited since it was made" in words
        failed += 2 * len(photos) - seen.total()
        print(f"{bits:2} bit, {suffix:4}: {len(photos)} results, {seen['exact']} gave the gray back exactly", end="; ")
        print(f"{seen['edited']} of as many that were edited were said to be")
    print(f"{failed} failed")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1]), Path(folder))
