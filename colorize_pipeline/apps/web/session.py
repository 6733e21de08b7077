"""What one client of the page has here: a photo, its versions, and a folder of its own with files."""

import hashlib
import os
import re
import shutil
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from colorize_pipeline.apps import color_space
from colorize_pipeline.apps.gray import luma_of
from colorize_pipeline.apps.painting import Painting
from colorize_pipeline.apps.photo import Photo, round_to_eight_bit
from colorize_pipeline.apps.provenance import Record, identify_gray
from colorize_pipeline.apps.reading import read_photo
from colorize_pipeline.apps.same_look import look_in_srgb
from colorize_pipeline.apps.web.wishes import Wishes, describe, mask_of
from colorize_pipeline.apps.workers import noise_seed
from colorize_pipeline.apps.writing import save_photo
from colorize_pipeline.image_processor import ColorizationImageProcessor


VIEW_SIDE = 1280  # pixels of the longer side of what the browser shows
_KEPT_VIEWS = 60  # files that the browser may still be fetching
_JPEG_QUALITY = 92
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')  # of files, on any system
_LONGEST_STEM = 60  # characters, which may take four bytes each
_COLOR_SPREAD = 16  # codes between the channels, from which on a photo has colors of its own

RESULT_SUFFIXES = (".png", ".tif")  # lossless, and both take 16 bit


@dataclass(frozen=True)
class Version:
    """
    One answer for the photo.

    Args:
        seed (`int`): The user's, as on the command line.
        painting (`Painting`): With the photo's luma at the size of the view: it is joined with the whole for a result.
        before (`Painting` or `None`): The same, before areas were drawn.
        wishes (`Wishes`): It was painted with.
        view (`str`): Name of the file that the browser shows.
    """

    seed: int
    painting: Painting
    before: Painting | None
    wishes: Wishes
    view: str = ""


@dataclass(frozen=True)
class Original:
    """
    What is kept of a photo in memory; the rest is read from its file again when it is needed.

    Args:
        path (`Path`): Its file, byte for byte as it came.
        sha256 (`str`): Of that file.
        size (`tuple` of `int`): Width and height, upright.
        luma (`torch.Tensor` of shape `(height, width)`): `uint8`, at the size of the view.
        codes (`np.ndarray` of shape `(height, width, 3)`): The same of its own RGB codes.
        icc_profile (`bytes` or `None`): Of its result.
        notes (`tuple` of `str`): What its owner should know.
    """

    path: Path
    sha256: str
    size: tuple[int, int]
    luma: torch.Tensor
    codes: np.ndarray
    icc_profile: bytes | None
    notes: tuple[str, ...]

    @property
    def has_color(self) -> bool:
        return int(np.ptp(self.codes, axis=2).max()) > _COLOR_SPREAD


class Session:
    """
    Files and pictures of one client.

    Args:
        folder (`Path`): Its own, which is made here and removed by [`Session.close`].
    """

    def __init__(self, folder: Path):
        folder.mkdir(mode=0o700, parents=True)
        self.folder = folder
        self.lock = threading.RLock()
        self.used = time.monotonic()
        self.left = False  # the browser has gone: the folder goes soon
        self.latest = 0  # serial of the last question that is known of
        self.photo: Original | None = None
        self.reference: Path | None = None
        self.reference_view = self.reference_sha256 = self.photo_view = self.doubt_view = ""
        self.doubt_revision = -1
        self.versions: dict[int, Version] = {}
        self._views: list[str] = []
        self._number = 0

    def close(self) -> None:
        with self.lock:
            self.latest = 1 << 62  # whatever is painted for it is stale
            shutil.rmtree(self.folder, ignore_errors=True)

    def open_photo(self, upload: Path) -> None:
        """
        Take an uploaded file for the photo; it is moved here. The photo before, if there was one, is forgotten.

        Raises:
            `PHOTO_ERRORS`: if it cannot be read.
        """
        path = self._take(upload, "photo")
        photo = _read_or_remove(path)
        luma = round_to_eight_bit(luma_of(photo))
        small = _shrink(Image.fromarray(luma))
        codes = round_to_eight_bit(_own_codes(photo)) if _is_colored(photo) else None
        codes = np.stack([small] * 3, axis=-1) if codes is None else np.asarray(_shrink(Image.fromarray(codes)))
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        original = Original(
            path, sha256, photo.size, torch.from_numpy(np.array(small)), codes, photo.icc_profile, photo.notes
        )
        with self.lock:
            before, self.photo, self.versions = self.photo, original, {}
            self.doubt_revision, self.doubt_view = -1, ""
            self.photo_view = self.save_view(Image.fromarray(codes), photo.icc_profile)
        if before:
            before.path.unlink(missing_ok=True)

    def open_reference(self, upload: Path | None) -> None:
        """Take an uploaded file for the reference, or forget the one there is. Raises as [`Session.open_photo`]."""
        path, view, sha256 = None, "", ""
        if upload is not None:
            path = self._take(upload, "reference")
            photo = _read_or_remove(path)
            codes = round_to_eight_bit(_own_codes(photo))
            view = self.save_view(_shrink(Image.fromarray(codes)), photo.icc_profile)
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with self.lock:
            before, self.reference, self.reference_view, self.reference_sha256 = self.reference, path, view, sha256
        if before:
            before.unlink(missing_ok=True)

    def _take(self, upload: Path, name: str) -> Path:
        with self.lock:
            self._number += 1
            path = self.folder / f"{name}-{self._number}{upload.suffix}"
        os.replace(upload, path)
        return path

    def save_view(self, image: Image.Image, icc_profile: bytes | None = None) -> str:
        """Write a picture for the browser to show; JPEG of full color resolution, or PNG if it has opacity."""
        with self.lock:
            self._number += 1
            name = f"view-{self._number}.{'png' if image.mode == 'RGBA' else 'jpg'}"
            self._views.append(name)
            old, self._views = self._views[:-_KEPT_VIEWS], self._views[-_KEPT_VIEWS:]
        shown = {self.photo_view, self.reference_view, self.doubt_view, *(v.view for v in self.versions.values())}
        for other in set(old) - shown:
            (self.folder / other).unlink(missing_ok=True)
        self._views = [other for other in old if other in shown] + self._views
        if image.mode == "RGBA":
            image.save(self.folder / name, compress_level=1)
        else:
            image.save(self.folder / name, quality=_JPEG_QUALITY, subsampling=0, icc_profile=icc_profile)
        return name

    def keep(self, version: Version) -> None:
        """Take a version that was just painted, in the place of the one of its seed."""
        view = self._view_of(version)
        with self.lock:
            if version.painting.luma is self.photo.luma:  # not of the photo before
                self.versions[version.seed] = replace(version, view=view)

    def restyle(self, wishes: Wishes) -> None:
        """Show all versions anew, with another saturation."""
        for version in list(self.versions.values()):
            asked = replace(version.wishes, saturation=wishes.saturation, outside=wishes.outside)
            if asked != version.wishes:
                self.keep(replace(version, wishes=asked))

    def _view_of(self, version: Version) -> str:
        photo = self.photo
        mask = mask_of(version.wishes.areas, photo.codes.shape[1::-1])
        codes = _rows(version, photo.luma, photo.codes, mask).whole()
        return self.save_view(Image.fromarray(codes), photo.icc_profile)

    def save_result(self, seed: int, stem: str, suffix: str, record: Record) -> tuple[str, tuple[str, ...]]:
        """
        Write a version at full size, with the metadata of its photo, by the writer of the command line.

        Args:
            seed (`int`): Of the version.
            stem (`str`): The visitor's name for the photo, of which any character may be left out.
            suffix (`str`): One of `RESULT_SUFFIXES`.
            record (`Record`): What all results of the model have in common.

        Returns:
            `tuple`: name of the file in the folder, and what of the metadata could not be kept.

        Raises:
            `PHOTO_ERRORS`: if it cannot be written.
        """
        with self.lock:
            version, original = self.versions[seed], self.photo
            self._number += 1
            results = self.folder / "results"
            results.mkdir(exist_ok=True)
            unfinished = self.folder / f"unfinished-{self._number}{suffix}"
        photo = read_photo(original.path)
        luma = luma_of(photo)
        mask = mask_of(version.wishes.areas, photo.size)
        rows = _rows(version, torch.from_numpy(luma), None if mask is None else _own_codes(photo), mask)
        settings = {**record.settings, **describe(version.wishes, self.reference_sha256)}
        settings["saturation"] = version.wishes.saturation
        record = replace(
            record,
            seed=seed,
            noise_seed=noise_seed(original.sha256, None, seed),
            settings=settings,
            gray=identify_gray(luma),
        )
        try:
            notes = save_photo(unfinished, rows, photo, record)
            for old in results.iterdir():
                old.unlink(missing_ok=True)
            name = f"results/{_NOT_IN_NAMES.sub('', stem)[:_LONGEST_STEM].strip() or 'photo'}.color-{seed}{suffix}"
            os.replace(unfinished, self.folder / name)
        finally:
            unfinished.unlink(missing_ok=True)
        return name, notes


def _rows(version: Version, luma: torch.Tensor, codes: np.ndarray | None, mask: Image.Image | None) -> Painting:
    """Join a version with a luma plane of any size, the photo's own codes and the mask at that size."""
    saturation = version.wishes.saturation

    def join(painting: Painting) -> Painting:
        return replace(painting, luma=luma, chroma=saturation * painting.chroma)

    if mask is None:
        return join(version.painting)
    outside = codes if version.wishes.outside == "photo" or version.before is None else join(version.before)
    return replace(join(version.painting), mask=np.asarray(mask) >= 128, outside=outside)


def _read_or_remove(path: Path) -> Photo:
    with ExitStack() as on_failure:
        on_failure.callback(path.unlink, missing_ok=True)
        photo = read_photo(path)
        on_failure.pop_all()
    return photo


def seen_in_srgb(photo: Original) -> np.ndarray:
    """The view of a photo's gray as the network sees it, `(height, width)`."""
    space = color_space.other_space(photo.icc_profile)
    return (photo.luma if space is None else look_in_srgb(photo.luma, space)).numpy()


def _is_colored(photo: Photo) -> bool:
    if isinstance(photo.image, np.ndarray):
        return photo.image.ndim == 3
    return photo.image.mode not in ("1", "L", "LA")


def _own_codes(photo: Photo) -> np.ndarray:
    """The RGB codes of a photo as the pipeline reads them, `(height, width, 3)`; of a gray one its gray, thrice."""
    return ColorizationImageProcessor(1, 1).to_codes(photo.image, "RGB").numpy()


def _shrink(image: Image.Image) -> Image.Image:
    if max(image.size) <= VIEW_SIDE:
        return image
    scale = VIEW_SIDE / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
