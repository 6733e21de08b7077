"""The plan of a job: which photos are read, where each result goes, and what is passed over and why."""

import fnmatch
import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from colorize_pipeline.apps import refused
from colorize_pipeline.apps.formats import OUTPUT_SUFFIXES, PHOTO_SUFFIXES, may_have_pages, result_suffix, suffix_of
from colorize_pipeline.apps.workplace import WORKPLACE


# Results are told from photos by their names, so that a folder can be colorized again.
_RESULT_NAME = re.compile(r".*\.(color|compare|doubt)(-\d+)?")

# File systems take names of 255 bytes; ".compare.jpg" is two longer than ".color.png", and shares its stem.
_MAX_NAME_BYTES = 253


class PlanError(ValueError):
    """What was asked for cannot be planned. `option` is the part of the command that is at fault."""

    def __init__(self, message: str, option: str):
        super().__init__(message)
        self.option = option


@dataclass(frozen=True, slots=True)
class Job:
    """
    One photo and its results.

    Args:
        source (`str`): Path of the file.
        targets (`tuple` of `str`): Path of the result for each version.
        size (`int`): Bytes of the photo.
        modified_ns (`int`): When it was modified last, in nanoseconds of the epoch.
        problem (`str`): Why it cannot be colorized, if that is plain without opening it.
        page (`int` or `None`): Which of several in the file, from 0; `None` is the first one, or the only.
    """

    source: str
    targets: tuple[str, ...]
    size: int = 0
    modified_ns: int = 0
    problem: str = ""
    page: int | None = None

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return name_of(self.source, self.page)


@dataclass(frozen=True, slots=True)
class PassedOver:
    """
    Something in a folder that is not colorized.

    Args:
        path (`str`): What it is.
        reason (`str`): Why.
        lost (`bool`): Whether that is a fault: there may be photos in it that were meant.
    """

    path: str
    reason: str
    lost: bool = False


@dataclass(frozen=True)
class Selection:
    """
    Which of the photos found in folders are wanted; those named on the command line always are.

    Args:
        only (`tuple` of `str`): Shell patterns for names, or for paths below the folder; none means all.
        exclude (`tuple` of `str`): The same for those to leave out.
        newer_than (`float` or `None`): Seconds of the epoch.
    """

    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    newer_than: float | None = None

    def refusal(self, relative: str, modified_ns: int) -> str:
        """Why a photo is not wanted, or nothing."""
        if self.only and not _matches(relative, self.only):
            return "not asked for by --only"
        if _matches(relative, self.exclude):
            return "left out by --exclude"
        if self.newer_than is not None and modified_ns <= self.newer_than * 1e9:
            return "not newer than --newer-than"
        return ""


@dataclass
class Plan:
    """
    What is to be done, in this order, and what is passed over.

    Args:
        jobs (`list` of `Job`): The photos.
        passed_over (`list` of `PassedOver`): What else there is in the folders.
        folder (`str` or `None`): The output folder, if the results go to one.
    """

    jobs: list[Job] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)
    folder: str | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    source: str
    root: str
    size: int = 0
    modified_ns: int = 0
    problem: str = ""


def make_plan(
    photos: list[str],
    output: str | None,
    numbers: range,
    compare: bool,
    selection: Selection,
    wanted_format: str = "png",
    all_pages: bool = False,
    doubt: bool = False,
) -> Plan:
    """
    Decide which photos are read and where each result goes, before anything is done.

    Args:
        photos (`list` of `str`): Photos and folders, as on the command line. A photo that is missing gets a job with
            a `problem`.
        output (`str` or `None`): File or folder of the results; `None` is beside each photo.
        numbers (`range`): The seed of each version.
        compare (`bool`): Whether comparisons are wanted too.
        selection (`Selection`): Which photos of a folder are wanted.
        wanted_format (`str`, *optional*, defaults to `"png"`): One of `formats.FORMATS`, if `output` names no file.
        all_pages (`bool`, *optional*, defaults to `False`): Whether each page of a TIFF gets results of its own.
        doubt (`bool`, *optional*, defaults to `False`): Whether pictures of doubt are wanted too.

    Raises:
        `PlanError`: if there is nothing to do, if `output` does not fit, or if a result would replace a photo or
            another result.
    """
    plan = Plan()
    absolute: dict[str, str] = {}  # folders; to ask for each photo anew takes seconds with a hundred thousand of them
    found: dict[str, _Found] = {}  # by absolute path, since a photo may be named twice
    stems = Counter()  # of all photos, so that the names of results do not depend on the selection
    for path in photos:
        if not os.path.isdir(path):
            entries = [_look_at(path, os.path.dirname(path))]
        else:
            entries = _walk(path, "", path, selection, plan.passed_over, stems)
        for entry in entries:
            folder, name = os.path.split(entry.source)
            if folder not in absolute:
                absolute[folder] = os.path.abspath(folder)
            if found.setdefault(os.path.join(absolute[folder], name), entry) is entry:
                stems[os.path.splitext(entry.source)[0]] += 1
    if not found and not stems:
        there = f" ({len(plan.passed_over)} passed over)" if plan.passed_over else ""
        raise PlanError(f"there are no photos in {', '.join(photos)}{there}", "PHOTO")
    is_file = output is not None and suffix_of(output) in OUTPUT_SUFFIXES and not os.path.isdir(output)
    if is_file and (len(found) > 1 or len(numbers) > 1):
        raise PlanError(f"{output} is one file, but there are several results: name a folder", "-o")
    # "out.psd" was meant for a file, the folders "album.1936" and "Dr. Smith" were not.
    other_suffixes = {*PHOTO_SUFFIXES, *refused.OTHER_SUFFIXES}.difference(OUTPUT_SUFFIXES)
    if output is not None and suffix_of(output) in other_suffixes and not os.path.isdir(output):
        raise PlanError(f"{output} must end in {', '.join(OUTPUT_SUFFIXES)}, or be a folder", "-o")

    plan.folder = None if is_file else output
    real_folders: dict[str, str] = {}
    originals = {_real(entry.source, real_folders) for entry in found.values()}
    taken: dict[str, str] = {}
    target_folders: dict[tuple[str, str], str] = {}
    for entry in found.values():
        folder, name = os.path.split(entry.source)
        if output is not None:
            if (folder, entry.root) not in target_folders:
                below = os.path.relpath(folder or ".", entry.root or ".")
                target_folders[folder, entry.root] = os.path.normpath(os.path.join(output, below))
            folder = target_folders[folder, entry.root]
        stem = os.path.splitext(entry.source)[0]
        name = os.path.splitext(name)[0] if stems[stem] == 1 else name  # a.tif and a.jpg side by side
        versions = [""] if len(numbers) == 1 else [f"-{number}" for number in numbers]
        pages = _pages(entry) if all_pages else (None,)
        if is_file and len(pages) > 1:
            raise PlanError(f"{output} is one file, but {entry.source} has {len(pages)} pages: name a folder", "-o")
        for page in pages:
            suffix = result_suffix(wanted_format, entry.source)
            targets = [os.path.join(folder, result_name(name, version, suffix, page)) for version in versions]
            targets = (output,) if is_file else tuple(targets)
            if compare and compare_path(targets[0]) == targets[0]:
                raise PlanError(f"{targets[0]} is the name of the comparison: choose another", "-o")
            if doubt and doubt_path(targets[0]) == targets[0]:
                raise PlanError(f"{targets[0]} is the name of the picture of doubt: choose another", "-o")
            beside = [*map(compare_path, targets if compare else []), *map(doubt_path, targets if doubt else [])]
            for target in [*targets, *beside]:
                if _real(target, real_folders) in originals:
                    raise PlanError(f"{target} is one of the photos, and would be replaced", "-o")
            job = Job(entry.source, targets, entry.size, entry.modified_ns, entry.problem, page)
            if targets[0] in taken:
                raise PlanError(
                    f"{job.name} and {taken[targets[0]]} would both be written to {targets[0]}: colorize them one"
                    " after the other, each with its own -o",
                    "PHOTO",
                )
            taken[targets[0]] = job.name
            plan.jobs.append(job)
    return plan


def _pages(entry: _Found) -> Sequence[int | None]:
    if entry.problem or not may_have_pages(entry.source):
        return (None,)
    from colorize_pipeline.apps.reading import count_pages

    number = count_pages(Path(entry.source))
    return range(number) if number > 1 else (None,)


def name_of(source: str, page: int | None) -> str:
    """What to call a photo in messages: its path, and its page if the file has several."""
    return source if page is None else f"{source}, page {page + 1}"


def result_name(name: str, version: str, suffix: str = ".png", page: int | None = None) -> str:
    """
    Name the result of a photo. A name too long for the file system is cut, and told from others by its checksum.

    Args:
        name (`str`): Of the photo, without its suffix.
        version (`str`): Empty, or a hyphen and a seed.
        suffix (`str`, *optional*, defaults to `".png"`): Of the result.
        page (`int`, *optional*): Of the file, from 0.
    """
    ending = f"{'' if page is None else f'.page-{page + 1}'}.color{version}{suffix}"
    room = _MAX_NAME_BYTES - len(ending)
    encoded = os.fsencode(name)
    if len(encoded) > room:
        mark = f"~{hashlib.sha256(encoded).hexdigest()[:8]}"
        # Cut between characters where the name is UTF-8.
        name = encoded[: room - len(mark)].decode(errors="ignore") + mark
    return name + ending


def compare_path(target: str) -> str:
    """photo.color-2.png -> photo.compare-2.jpg; other.tif -> other.compare.jpg"""
    return _path_beside(target, ".compare", ".jpg")


def doubt_path(target: str) -> str:
    """photo.color-2.png -> photo.doubt-2.png; other.tif -> other.doubt.png"""
    return _path_beside(target, ".doubt", ".png")


def _path_beside(target: str, kind: str, suffix: str) -> str:
    folder, name = os.path.split(target)
    stem = os.path.splitext(name)[0]
    stem = stem if _RESULT_NAME.fullmatch(stem) else f"{stem}.color"
    return os.path.join(folder, f"{kind.join(stem.rsplit('.color', 1))}{suffix}")


def _walk(
    folder: str,
    below: str,
    root: str,
    selection: Selection,
    passed_over: list[PassedOver],
    stems: Counter,
) -> Iterator[_Found]:
    """Find the photos in a folder, which is `below` the root, and in its folders; sorted, without what is hidden."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        passed_over.append(PassedOver(folder, f"folder cannot be read: {error.strerror}", lost=True))
        return
    for entry in entries:
        suffix, reason = suffix_of(entry.name), ""
        if entry.name == WORKPLACE:
            continue
        if entry.name.startswith("."):  # it is seldom what it says
            reason = "hidden"
        elif _is_folder(entry):
            if not entry.is_symlink():
                yield from _walk(entry.path, f"{below}{entry.name}/", root, selection, passed_over, stems)
                continue
            reason = "link to a folder"
        elif suffix not in PHOTO_SUFFIXES:
            reason = f"not a photo by its suffix: {suffix}" if suffix else "not a photo: no suffix"
            reason = refused.reason(suffix, b"") or reason
        elif _RESULT_NAME.fullmatch(os.path.splitext(entry.name)[0]):
            reason = "result of an earlier run by its name"
        else:
            photo = _look_at(entry.path, root)
            reason = selection.refusal(below + entry.name, photo.modified_ns)
            if not reason:
                yield photo
                continue
            stems[os.path.splitext(entry.path)[0]] += 1
        passed_over.append(PassedOver(entry.path, reason))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _look_at(path: str, root: str) -> _Found:
    """See what can be seen of a file without opening it."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        return _Found(path, root, problem=getattr(error, "strerror", "") or str(error))
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for ever
        return _Found(path, root, status.st_size, status.st_mtime_ns, "not a regular file")
    return _Found(path, root, status.st_size, status.st_mtime_ns)


def _matches(relative: str, patterns: tuple[str, ...]) -> bool:
    name = os.path.basename(relative)
    return any(fnmatch.fnmatch(relative, pattern) or fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _real(path: str, real_folders: dict[str, str]) -> str:
    """`os.path.realpath`, with what it found out of folders kept: it asks for every part of every path."""
    if os.path.islink(path):
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    if folder not in real_folders:
        real_folders[folder] = os.path.realpath(folder)
    return os.path.join(real_folders[folder], name)
