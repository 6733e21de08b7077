"""What one client of the page has here: a photo, its versions, and a folder of its own with files."""

import hashlib
import os
import re
import shutil
import threading
import time
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from colorize_pipeline.apps import color_space
from colorize_pipeline.apps.doubt_picture import tint_photo
from colorize_pipeline.apps.gray import luma_of
from colorize_pipeline.apps.painting import Painting
from colorize_pipeline.apps.photo import Photo, round_to_eight_bit
from colorize_pipeline.apps.provenance import Record, identify_gray, noise_seed
from colorize_pipeline.apps.reading import read_photo
from colorize_pipeline.apps.same_look import look_in_srgb
from colorize_pipeline.apps.web.question import Question, Stroke, describe, hints_of, mask_of
from colorize_pipeline.apps.writing import save_photo
from colorize_pipeline.hint_propagation import finish_chroma
from colorize_pipeline.hints import HintWarning, fit_to_gamut, read_hints
from colorize_pipeline.image_processor import ColorizationImageProcessor
from colorize_pipeline.likeness import find_likeness


if TYPE_CHECKING:
    from colorize_pipeline import ColorizationPipeline

VIEW_SIDE = 1280  # pixels of the longer side of what the browser shows
_KEPT_VIEWS = 60  # files that the browser may still be fetching
_KEPT_FIXED = 4  # sets of strokes
_JPEG_QUALITY = 92
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')  # of files, on any system
_LONGEST_STEM = 60  # characters, which may take four bytes each
_COLOR_SPREAD = 16  # codes between the channels, from which on a photo has colors of its own

RESULT_SUFFIXES = (".png", ".tif")  # lossless, and both take 16 bit


@dataclass(frozen=True)
class Version:
    """
    One answer for the photo, at full size as it is painted, or at the size of the view as it is kept.

    Args:
        seed (`int`): The user's, as on the command line.
        painting (`Painting`): As all of the photo would be.
        before (`Painting` or `None`): The same, before areas were drawn; `None` without areas.
        question (`Question`): It was painted with.
        view (`str`): Name of the file that the browser shows.
    """

    seed: int
    painting: Painting
    before: Painting | None
    question: Question
    view: str = ""

    def join(self, mask: Image.Image | None, codes: np.ndarray | None) -> Painting:
        """Give the painting with what is outside of the areas, by their mask and the photo's own codes."""
        if mask is None:
            return self.painting
        outside = codes if self.question.outside == "photo" else self.before
        return replace(self.painting, mask=np.asarray(mask) >= 128, outside=outside)


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
        pipe (`ColorizationPipeline`): With whose image encoder it is found what looks alike.
    """

    def __init__(self, folder: Path, pipe: "ColorizationPipeline"):
        folder.mkdir(mode=0o700, parents=True)
        self.folder, self._pipe = folder, pipe
        self.lock = threading.RLock()
        self.used = time.monotonic()
        self.left = False  # the browser has gone: the folder goes soon
        self.latest = 0  # serial of the last question that is known of
        self.photo: Original | None = None
        self.reference: Path | None = None
        self.reference_view = self.reference_sha256 = self.photo_view = self.doubt_view = ""
        self.doubt_question: Question | None = None  # with which the view of doubt was made
        self.versions: dict[int, Version] = {}
        self._fixed: dict[tuple[Stroke, ...], torch.Tensor] = {}
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
            before, self.photo, self.versions, self._fixed = self.photo, original, {}, {}
            self.doubt_question, self.doubt_view = None, ""
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

    def keep(self, original: Original, version: Version) -> None:
        """
        Take a version that was just painted, in the place of the one of its seed.

        Args:
            original (`Original`): The photo that it is of, which may be gone by now.
            version (`Version`): At full size, with saturation 1: what is asked for is given to the view.
        """
        before = version.before and _at_view_size(version.before, original)
        self._show(original, replace(version, painting=_at_view_size(version.painting, original), before=before))

    def restyle(self, question: Question) -> None:
        """Show all versions anew, with another saturation or another outside."""
        for version in list(self.versions.values()):
            asked = replace(version.question, saturation=question.saturation, outside=question.outside)
            if asked != version.question:
                self._show(self.photo, replace(version, question=asked))

    def show_doubt(self, original: Original, doubt: torch.Tensor, question: Question) -> None:
        """Draw the doubt about the version that is chosen."""
        view = self.save_view(tint_photo(original.luma, doubt))
        with self.lock:
            if self.photo is original:
                self.doubt_view, self.doubt_question = view, question

    def _show(self, original: Original, version: Version) -> None:
        question = version.question
        strong = replace(
            version,
            painting=self._saturate(original, version.painting, question.colors, question.saturation),
            before=version.before
            and self._saturate(original, version.before, question.colors_before_areas, question.saturation),
        )
        codes = strong.join(mask_of(question.areas, original.codes.shape[1::-1]), original.codes).whole()
        view = self.save_view(Image.fromarray(codes), original.icc_profile)
        with self.lock:
            if self.photo is original:
                self.versions[version.seed] = replace(version, view=view)

    def _saturate(
        self, original: Original, painting: Painting, colors: tuple[Stroke, ...], saturation: float
    ) -> Painting:
        """Do for the view, at once, what the pipeline's `saturation` does: hints keep their colors."""
        if saturation == 1:
            return painting
        fixed = self._fixed_chroma(original, colors) if colors else 0.0
        return replace(painting, chroma=fixed + saturation * (painting.chroma.float() - fixed))

    def _fixed_chroma(self, original: Original, colors: tuple[Stroke, ...]) -> torch.Tensor:
        """Give the chroma that no saturation changes, `(2, height, width)`: known colors as they spread over gray."""
        with self.lock:
            fixed = self._fixed.get(colors)
        if fixed is None:
            luma = _seen_in_srgb(original)
            size = tuple(luma.shape)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HintWarning)  # it was told when the version was painted
                (known,) = fit_to_gamut([read_hints(hints_of(colors, size[::-1]), size)], [luma])
            likeness = find_likeness(self._pipe, luma, known)
            fixed = finish_chroma(luma, torch.zeros(2, 1, 1), known, 1.0, None, likeness).half()
            with self.lock:
                self._fixed[colors] = fixed
                for old in list(self._fixed)[:-_KEPT_FIXED]:
                    del self._fixed[old]
        return fixed.float()

    def save_result(
        self, original: Original, version: Version, photo: Photo, stem: str, suffix: str, record: Record
    ) -> tuple[str, tuple[str, ...]]:
        """
        Write a version at full size, with the metadata of its photo, by the writer of the command line.

        Args:
            original (`Original`), photo (`Photo`): What the version is of.
            version (`Version`): At full size, and with the saturation that was asked for.
            stem (`str`): The visitor's name for the photo, of which any character may be left out.
            suffix (`str`): One of `RESULT_SUFFIXES`.
            record (`Record`): What all results of the model have in common.

        Returns:
            `tuple`: name of the file in the folder, and what of the metadata could not be kept.

        Raises:
            `PHOTO_ERRORS`: if it cannot be written.
        """
        with self.lock:
            self._number += 1
            results = self.folder / "results"
            results.mkdir(exist_ok=True)
            unfinished = self.folder / f"unfinished-{self._number}{suffix}"
        question = version.question
        mask = mask_of(question.areas, photo.size)
        rows = version.join(mask, _own_codes(photo) if mask is not None and question.outside == "photo" else None)
        settings = {**record.settings, **describe(question, self.reference_sha256), "saturation": question.saturation}
        record = replace(
            record,
            seed=version.seed,
            noise_seed=noise_seed(original.sha256, None, version.seed),
            settings=settings,
            gray=identify_gray(rows.luma.numpy()),
        )
        try:
            notes = save_photo(unfinished, rows, photo, record)
            for old in results.iterdir():
                old.unlink(missing_ok=True)
            stem = _NOT_IN_NAMES.sub("", stem)[:_LONGEST_STEM].strip() or "photo"
            name = f"results/{stem}.color-{version.seed}{suffix}"
            os.replace(unfinished, self.folder / name)
        finally:
            unfinished.unlink(missing_ok=True)
        return name, notes


def _at_view_size(painting: Painting, original: Original) -> Painting:
    """Give the same colors for the view. Coarse chroma, as it is painted, stays as it is."""
    chroma = painting.chroma
    if chroma.shape[1:] == painting.luma.shape:  # with hints it is as large as the photo
        chroma = F.interpolate(chroma[None], size=tuple(original.luma.shape), mode="area")[0].half()
    return replace(painting, luma=original.luma, chroma=chroma)


def _read_or_remove(path: Path) -> Photo:
    with ExitStack() as on_failure:
        on_failure.callback(path.unlink, missing_ok=True)
        photo = read_photo(path)
        on_failure.pop_all()
    return photo


def _seen_in_srgb(photo: Original) -> torch.Tensor:
    """The view of a photo's gray as the network sees it, `(height, width)`."""
    space = color_space.other_space(photo.icc_profile)
    return photo.luma if space is None else look_in_srgb(photo.luma, space)


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
