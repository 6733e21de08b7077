"""
Colorize large, thin and lying files, each by a command of its own, and say what it took:

    python tests/benchmarks/big_files.py [NAME...]

Asked for: a scan of 100 megapixels and 16 bit in at most 2 GB of memory and 60 seconds (by a network that is
untrained and tiny, so that nearly all of it is reading, joining and writing), a line of 65,000 pixels in seconds, and
a file that says to be far larger than it is refused within a second, once the command is up.
"""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from archive_job import COLORIZE, make_checkpoint
from PIL import Image


_SIDE = 10_000
_LINE = 65_000


def scan(channels: int) -> np.ndarray:
    """A photo of scikit-image in 100 megapixels, with the noise of a scanner."""
    from skimage.data import astronaut

    small = Image.fromarray(astronaut())
    codes = np.empty((_SIDE, _SIDE, channels), np.uint16)
    random = np.random.default_rng(0)
    for channel in range(channels):
        plane = small.getchannel(channel).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        for top in range(0, _SIDE, 1000):
            rows = np.asarray(plane.crop((0, top, _SIDE, top + 1000))).astype(np.uint16) * 250
            codes[top : top + 1000, :, channel] = rows + random.integers(0, 1500, rows.shape, dtype=np.uint16)
    return codes[:, :, 0] if channels == 1 else codes


def write_tiff(path: Path, codes: np.ndarray, **options) -> None:
    tifffile.imwrite(path, codes, photometric="rgb" if codes.ndim == 3 else "minisblack", **options)


def write_png(path: Path, codes: np.ndarray) -> None:
    import imagecodecs

    path.write_bytes(imagecodecs.png_encode(codes, level=1))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(path: Path) -> None:
    """A PNG of 60,000 x 60,000 pixels that is small as a file."""
    packer = zlib.compressobj(9)
    pixels = packer.compress(bytes(50_000_000)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">2I5B", 60_000, 60_000, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def tiff_bomb(path: Path, side: int, **options) -> None:
    """A TIFF that says to have other sides than it has."""
    write_tiff(path, np.zeros((64, 64, 3), np.uint16), **options)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[name].overwrite(side)


def gif_bomb(path: Path) -> None:
    path.write_bytes(b"GIF89a" + struct.pack("<2H3B", 65_535, 65_535, 0, 0, 0) + b"," + bytes(8) + b"\0\2\1\0\0;")


def jpeg_bomb(path: Path) -> None:
    Image.new("L", (64, 64)).save(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    path.write_bytes(data)


def cases(names: list[str]) -> dict[str, tuple[Callable[[Path], object], str, list[str], float, float]]:
    """By name: what makes the file, its suffix, further arguments, and at most how many seconds and GB it may take."""
    line = np.random.default_rng(0).integers(0, 65_536, (1, _LINE), dtype=np.uint16)
    all_of_them = {
        "gray TIFF to PNG": (lambda path: write_tiff(path, scan(1)), ".tif", [], 60, 2),
        "gray TIFF to TIFF": (lambda path: write_tiff(path, scan(1)), ".tif", ["--format", "tif"], 60, 2),
        "packed gray TIFF": (lambda p: write_tiff(p, scan(1), compression="lzw", rowsperstrip=64), ".tif", [], 60, 2),
        "color TIFF to PNG": (lambda path: write_tiff(path, scan(3)), ".tif", [], 60, 2),
        "color TIFF to TIFF": (lambda path: write_tiff(path, scan(3)), ".tif", ["--format", "tif"], 60, 2),
        "tiled color TIFF": (
            lambda path: write_tiff(path, scan(3), tile=(512, 512), compression="deflate"), ".tif", [], 60, 2,
        ),
        "gray PNG to PNG": (lambda path: write_png(path, scan(1)), ".png", [], 60, 2),
        "color PNG to PNG": (lambda path: write_png(path, scan(3)), ".png", [], 60, 2),
        "color PNG to JPEG": (
            lambda path: write_png(path, scan(3)), ".png", ["--depth", "8", "--format", "jpg"], 60, 2,
        ),
        "a row": (lambda path: write_png(path, line), ".png", [], 10, 1),
        "a column": (lambda path: write_tiff(path, line.T), ".tif", [], 10, 1),
        "a row of 8 bit": (lambda path: Image.new("L", (_LINE, 1), 99).save(path), ".jpg", [], 10, 1),
        "PNG bomb": (png_bomb, ".png", [], 1, 0.6),
        "TIFF bomb": (lambda path: tiff_bomb(path, 60_000), ".tif", [], 1, 0.6),
        "tiled TIFF bomb": (lambda path: tiff_bomb(path, 2**31 - 1, tile=(64, 64)), ".tif", [], 1, 0.6),
        "GIF bomb": (gif_bomb, ".gif", [], 1, 0.6),
        "JPEG bomb": (jpeg_bomb, ".jpg", [], 1, 0.6),
    }  # fmt: skip
    return {name: case for name, case in all_of_them.items() if not names or name in names}


def run(arguments: list[str]) -> tuple[float, float, float, int, str]:
    """Seconds by the clock and of CPU, GB at the most, exit code and words of a command."""
    clock = time.perf_counter()
    process = subprocess.Popen([*COLORIZE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    words = process.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds, worked = time.perf_counter() - clock, usage.ru_utime + usage.ru_stime
    return seconds, worked, usage.ru_maxrss / 2**20, process.returncode, words.strip()


def main(names: list[str], folder: Path) -> None:
    model = make_checkpoint(folder / "model")
    Image.new("L", (64, 64), 99).save(folder / "small.png")
    small = [str(folder / "small.png"), "--overwrite", "--model", model, "--steps", "1"]
    start, start_work = (min(both) for both in zip(*(run(small)[:2] for _ in range(2)), strict=True))
    print(f"a small photo takes {start:.1f} s ({start_work:.1f} of CPU), which are taken off from the others")
    failed = 0
    for name, (make, suffix, arguments, most_seconds, most_gigabytes) in cases(names).items():
        scratch = folder / "scratch"
        scratch.mkdir()
        # In a process of its own: a child's peak counts what its parent held when it was forked.
        if (child := os.fork()) == 0:
            make(scratch / f"photo{suffix}")
            os._exit(0)
        os.waitpid(child, 0)
        photo = scratch / f"photo{suffix}"
        size = photo.stat().st_size / 1e6
        seconds, work, gigabytes, code, words = run([str(photo), "--model", model, "--steps", "1", *arguments])
        seconds, work = seconds - start, work - start_work
        # On a machine that others use, the clock tells of them.
        good = min(seconds, work) <= most_seconds and gigabytes <= most_gigabytes and "Traceback" not in words
        failed += not good
        took = f"{seconds:6.1f} s ({work:5.1f} of CPU), {gigabytes:.2f} GB"
        print(f"{name:20} {size:6.1f} MB: {took}, exit code {code}", end="  ")
        print("" if good else f"MORE THAN {most_seconds} s or {most_gigabytes} GB", words[-200:] if code else "")
        shutil.rmtree(scratch)
    print(f"{failed} of them fall short")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(sys.argv[1:], Path(folder))
