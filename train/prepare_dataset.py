"""
Turn folders of photos into parquet shards to train on, and push them to the Hub if asked:

    python train/prepare_dataset.py ~/photos/garden ~/photos/town --license CC0-1.0 --output-dir data/mine
    python train/train.py --config train/configs/small.json --dataset data/mine \\
        --dataset_files 'train-*.parquet' --output_dir runs/mine

The shards hold the columns image, source (the name of the folder) and license. Left out are photos that are too small,
gray or nearly so, seen before, or unreadable; how many of each is printed. Hidden files are not looked at.
"""

import argparse
import io
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import torch
from PIL import Image, ImageOps

from colorize_pipeline.apps.formats import PHOTO_FORMATS
from colorize_pipeline.apps.photo import PHOTO_ERRORS
from colorize_pipeline.apps.reading import find_photos
from colorize_pipeline.color import colorfulness


FEATURES = datasets.Features(
    {"image": datasets.Image(), "source": datasets.Value("string"), "license": datasets.Value("string")}
)

# Pixels along the longer side at which colorfulness is measured: enough for color, quick for any photo.
_COLOR_SIZE = 128

# The hash compares the coarsest 8 x 8 cosines of a 32 x 32 gray picture. Source: Zauner, Implementation and
# benchmarking of perceptual image hash functions, 2010 (the DCT based one).
_HASH_PIXELS, _HASH_COSINES = 32, 8


class SeenPhotos:
    """
    The perceptual hashes of the photos so far.

    Args:
        max_distance (`int`): Hashes that differ in so many of their 64 bits still stand for the same photo.
    """

    def __init__(self, max_distance: int):
        self.max_distance = max_distance
        self._hashes, self._number = np.zeros(1024, np.uint64), 0

    def is_new(self, photo: Image.Image) -> bool:
        """Tell whether no photo so far looks like this one, and remember it if so."""
        photo_hash = perceptual_hash(photo)
        if (np.bitwise_count(self._hashes[: self._number] ^ photo_hash) <= self.max_distance).any():
            return False
        if self._number == len(self._hashes):
            self._hashes = np.resize(self._hashes, 2 * self._number)
        self._hashes[self._number] = photo_hash
        self._number += 1
        return True


def perceptual_hash(photo: Image.Image) -> np.uint64:
    """Give 64 bits that stay (nearly) the same when a photo is scaled, compressed or made a little lighter."""
    gray = np.asarray(photo.convert("L").resize((_HASH_PIXELS, _HASH_PIXELS), Image.Resampling.BOX), np.float64)
    positions = (2 * np.arange(_HASH_PIXELS) + 1) * np.pi / (2 * _HASH_PIXELS)
    cosines = np.cos(np.arange(_HASH_COSINES)[:, None] * positions)  # (8, 32)
    spectrum = (cosines @ gray @ cosines.T).flatten()
    return np.packbits(spectrum > np.median(spectrum)).view(np.uint64)[0]


def kept_rows(arguments: argparse.Namespace, counts: Counter) -> Iterator[dict]:
    """
    Yield the rows that pass the filters, in an order that mixes the folders.

    Args:
        arguments (`argparse.Namespace`): Those of the command line.
        counts (`Counter`): Counts why files were left out, and the photos kept.
    """
    files = [
        (folder, file, license)
        for folder, license in zip(arguments.folders, arguments.license, strict=True)
        for file in find_photos(folder)
    ]
    random.Random(arguments.seed).shuffle(files)
    seen = SeenPhotos(arguments.max_hash_distance)
    for folder, file, license in files:
        try:
            with Image.open(file, formats=PHOTO_FORMATS) as opened:
                photo = ImageOps.exif_transpose(opened).convert("RGB")
        except PHOTO_ERRORS:
            counts["unreadable"] += 1
            continue
        small = photo.copy()
        small.thumbnail((_COLOR_SIZE, _COLOR_SIZE))
        if min(photo.size) < arguments.min_side:
            counts["too small"] += 1
        elif colorfulness(torch.tensor(np.array(small)).permute(2, 0, 1) / 255) < arguments.min_colorfulness:
            counts["gray or nearly so"] += 1
        elif not seen.is_new(photo):
            counts["seen before"] += 1
        else:
            try:
                content = shrink(photo, arguments.short_side) if arguments.short_side else file.read_bytes()
            except PHOTO_ERRORS:  # longer than WebP can be
                counts["unreadable"] += 1
                continue
            counts["kept"] += 1
            path = f"{folder.name}/{file.relative_to(folder).as_posix()}"
            path += ".webp" if arguments.short_side else ""
            yield {"image": {"bytes": content, "path": path}, "source": folder.name, "license": license}


def shrink(photo: Image.Image, short_side: int) -> bytes:
    """Encode a photo anew, without metadata, and with a short side of at most `short_side` pixels."""
    scale = min(1.0, short_side / min(photo.size))
    encoded = io.BytesIO()
    size = tuple(round(side * scale) for side in photo.size)
    photo.resize(size, Image.Resampling.LANCZOS).save(encoded, "WEBP", quality=90)
    return encoded.getvalue()


def write_shards(rows: Iterator[dict], output_dir: Path, split: str, max_bytes: int) -> None:
    """
    Write `<split>-00000-of-00003.parquet` and so on, holding one shard in memory at a time.

    Args:
        rows (iterator): What to write.
        max_bytes (`int`): A shard is closed when its photos have so many bytes.
    """
    unfinished = []
    for first in rows:
        shard, shard_bytes = [first], len(first["image"]["bytes"])
        while shard_bytes < max_bytes and (row := next(rows, None)):
            shard.append(row)
            shard_bytes += len(row["image"]["bytes"])
        unfinished.append(output_dir / f".unfinished-{split}-{len(unfinished)}")
        datasets.Dataset.from_list(shard, features=FEATURES).to_parquet(unfinished[-1])
    for number, path in enumerate(unfinished):
        path.rename(output_dir / f"{split}-{number:05d}-of-{len(unfinished):05d}.parquet")


def main(arguments: argparse.Namespace) -> None:
    # 1. Check what cannot be checked by the parser
    output_dir = arguments.output_dir
    if len(arguments.license) == 1:
        arguments.license *= len(arguments.folders)
    if len(arguments.license) != len(arguments.folders):
        raise ValueError(
            f"`--license` must be given once, or once per folder, but got {len(arguments.license)} for"
            f" {len(arguments.folders)} folders."
        )
    for folder in arguments.folders:
        if not folder.is_dir():
            raise ValueError(f"`folders` must be folders, but {folder} is none.")
    if output_dir.exists() and any(output_dir.iterdir()):
        raise ValueError(f"`--output-dir` must be empty, but {output_dir} is not. Name another, or empty it.")

    # 2. Write the shards
    output_dir.mkdir(parents=True, exist_ok=True)
    counts = Counter()
    rows = kept_rows(arguments, counts)
    shard_bytes = arguments.shard_megabytes * 1_000_000
    write_shards(itertools.islice(rows, arguments.validation_photos), output_dir, "validation", shard_bytes)
    write_shards(rows, output_dir, "train", shard_bytes)
    print(", ".join(f"{number} {reason}" for reason, number in counts.most_common()) or "no files")
    shards = {split: sorted(map(str, output_dir.glob(f"{split}-*.parquet"))) for split in ("train", "validation")}
    if not shards["train"]:
        raise ValueError(
            f"`folders` hold no photo for training: {dict(counts)}. Look at the thresholds, and at"
            f" `--validation-photos`, which {arguments.validation_photos} photos go to first."
        )

    # 3. Push
    if arguments.push_to_hub:
        photos = datasets.load_dataset(
            "parquet", data_files={split: files for split, files in shards.items() if files}
        )
        print(photos.push_to_hub(arguments.push_to_hub, private=arguments.private).commit_url)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders (trees) of photos; each is one source")
    parser.add_argument("--license", nargs="+", required=True, help="of all folders, or one for each, such as CC0-1.0")
    parser.add_argument("--output-dir", type=Path, required=True, help="an empty folder, or one to be made")
    parser.add_argument("--min-side", type=int, default=128, help="shorter photos are left out, in pixels")
    parser.add_argument(
        "--min-colorfulness",
        type=float,
        default=8.0,
        help="grayer photos are left out (Hasler and Suesstrunk; 0 is gray, 15 slightly colorful). Sepia passes",
    )
    parser.add_argument(
        "--max-hash-distance", type=int, default=4, help="bits of 64 in which two hashes of one photo may differ"
    )
    parser.add_argument(
        "--short-side",
        type=int,
        default=0,
        help="shrink to this and encode as WebP without metadata; 0 keeps the files as they are, with their metadata",
    )
    parser.add_argument("--validation-photos", type=int, default=0, help="so many go to a split of their own")
    parser.add_argument("--shard-megabytes", type=int, default=400, help="size of a shard")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the photos")
    parser.add_argument("--push-to-hub", metavar="USER/NAME", help="also push the data set there")
    parser.add_argument("--private", action="store_true", help="only you see the data set on the Hub")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse_arguments())
