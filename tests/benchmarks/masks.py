"""
Whether a mask holds: outside of it no pixel of the result differs from the photo that came.

    python tests/benchmarks/masks.py ../shared/evaluation/documerica [--photos 20]

Color photos go through the command line at 8 and at 16 bit, with a mask of a soft-edged ellipse; the files are read
back and compared where the mask is black. Inside, something must have changed.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from archive_job import COLORIZE
from hints import spread_over
from PIL import Image, ImageDraw, ImageFilter

from colorize_pipeline.apps.reading import find_photos


def main(arguments: argparse.Namespace) -> None:
    paths = spread_over([Path(str(path)) for path in find_photos(arguments.photos)], arguments.number)
    changed = {8: 0, 16: 0}
    with tempfile.TemporaryDirectory() as folder:
        for index, path in enumerate(paths):
            photo = Image.open(path).convert("RGB")
            photo.thumbnail((arguments.longest_side, arguments.longest_side))
            mask = Image.new("L", photo.size)
            box = [photo.width // 4, photo.height // 4, photo.width // 2, photo.height // 2]
            ImageDraw.Draw(mask).ellipse(box, fill=255)
            mask = mask.filter(ImageFilter.GaussianBlur(4))
            mask.save(f"{folder}/mask.png")
            for bits in changed:
                # Codes below those of 8 bit are filled, so that they can get lost.
                codes = np.array(photo) if bits == 8 else np.array(photo).astype(np.uint16) * 256 + index
                tifffile.imwrite(f"{folder}/photo.tif", codes, photometric="rgb")
                subprocess.run(
                    [*COLORIZE, f"{folder}/photo.tif", "--overwrite"]
                    + ["--mask", f"{folder}/mask.png", "-o", f"{folder}/color.tif"],
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
                painted = tifffile.imread(f"{folder}/color.tif")
                differs = (painted != codes).any(axis=2)
                outside = np.array(mask) == 0
                if painted.dtype != codes.dtype or not differs[~outside].any():
                    raise SystemExit(f"photo {index} at {bits} bit: {painted.dtype}, nothing was painted")
                changed[bits] += int(differs[outside].sum())
            print(f"{index + 1} photos: pixels changed outside of the mask: {changed}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of color photos")
    parser.add_argument("--photos", dest="number", type=int, default=20)
    parser.add_argument("--longest-side", type=int, default=640)
    main(parser.parse_args())
