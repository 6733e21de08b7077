"""The worker: reads, paints and writes photos. The plain loop, the processes and Ray all call `paint_photos`."""

import gc
import hashlib
import itertools
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from colorize_pipeline import DEFAULT_CHECKPOINT
from colorize_pipeline.apps.journal import DONE, FAILED, KEPT, Verdict
from colorize_pipeline.apps.photo_file import PHOTO_ERRORS, Photo, read_photo, write_photo
from colorize_pipeline.apps.plan import compare_path
from colorize_pipeline.apps.tasks import EngineError, Outcome, Settings, Task
from colorize_pipeline.apps.workplace import put_in_place, unfinished_folder


if TYPE_CHECKING:
    from colorize_pipeline import ColorizationPipeline


@dataclass(frozen=True, slots=True)
class _Read:
    photo: Photo
    sha256: str
    status: os.stat_result


def noise_seed(sha256: str, seed: int) -> int:
    """
    Seed the noise of a photo by what its file holds and by the user's number: not by its name, its place in a batch or
    the worker that paints it. Two photos of one shape do not share their noise.

    Args:
        sha256 (`str`): Checksum of the photo's file, in hexadecimal digits.
        seed (`int`): The user's, for this version.
    """
    return int.from_bytes(hashlib.sha256(f"{sha256} {seed}".encode()).digest()[:8])


def load_model(settings: Settings, index: int = 0) -> "ColorizationPipeline":
    """
    Load the model for one worker.

    Args:
        settings (`Settings`): Which, and where to.
        index (`int`, *optional*, defaults to 0): Of the worker: several share the GPUs out among them.

    Raises:
        `EngineError`: if it cannot be loaded.
    """
    # The imports make a million objects that all stay: to look for garbage among them is a seventh of the time.
    gc.disable()
    import torch
    from diffusers.utils import logging

    from colorize_pipeline.pipeline import ColorizationPipeline

    gc.enable()
    logging.disable_progress_bar()
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda":
        device = f"cuda:{index % max(1, torch.cuda.device_count())}"
    if device == "cpu":
        # Sums in another order are other sums: with one thread each, results do not depend on the number of cores and
        # of workers. Nor do threads then wait for each other on a core that is taken, for seconds.
        torch.set_num_threads(1)
    try:
        pipe = ColorizationPipeline.from_pretrained(
            settings.model or DEFAULT_CHECKPOINT, dtype=getattr(torch, settings.dtype)
        )
        pipe.to(device)
    except (OSError, ValueError, RuntimeError, AssertionError) as error:  # the last: PyTorch without that device
        raise EngineError(f"The model cannot be loaded: {error}") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe


def paint_photos(
    tasks: Iterable[Task], settings: Settings, load: Callable[[], "ColorizationPipeline"]
) -> Iterator[Outcome]:
    """
    The worker: while one photo is painted, the next is read and the one before is written.

    Each version goes through the network alone. Photos of one shape together would be painted a seventh faster, but
    differ in the last bit of a float by their company, and so some pixels of each by one code.

    Args:
        tasks (iterable of `Task`): Asked for the next when there is room for it, from another thread.
        settings (`Settings`): How.
        load (callable): Loads the model; called, if there is a task at all, while the first photo is read.

    Yields:
        `Outcome`: for each task.

    Raises:
        `EngineError`: if the model cannot be loaded.
    """
    # Pillow refuses photos of twice that many pixels, and warns of those between, which are nothing strange here.
    Image.MAX_IMAGE_PIXELS = settings.max_megapixels * 500_000
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    tasks = iter(tasks)
    if (first := next(tasks, None)) is None:
        return
    tasks = itertools.chain([first], tasks)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        reading: Future | None = reader.submit(_read_next, tasks, settings)
        writing: Future | None = None
        pipe = load()
        while reading or writing:
            done, _ = wait([future for future in (writing, reading) if future], return_when=FIRST_COMPLETED)
            if writing in done:
                yield writing.result()
                writing = None
                continue
            task, read, clock = reading.result()
            if task is None:
                reading = None
                continue
            reading = reader.submit(_read_next, tasks, settings)
            if isinstance(read, _Read):
                images, clock = _paint(pipe, task, read, settings, clock)
            else:
                images = read
            if writing:
                yield writing.result()
            writing = writer.submit(_write, task, read, images, settings, clock)


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class _Clock:
    started: float  # of the epoch
    seconds: float  # of work so far


def _failure(error: BaseException, settings: Settings) -> _Failure:
    if isinstance(error, Image.DecompressionBombError):
        return _Failure(f"more than {settings.max_megapixels} megapixels (--max-megapixels)")
    # An error of the file system, which has a number, may be gone the next time; a damaged file stays so.
    if isinstance(error, OSError) and error.errno is not None:
        return _Failure(error.strerror or type(error).__name__, again=True)
    return _Failure(str(error).splitlines()[0] if str(error) else type(error).__name__)


def _read_next(
    tasks: Iterator[Task], settings: Settings
) -> tuple[Task, _Read | _Failure, _Clock] | tuple[None, None, None]:
    task = next(tasks, None)
    if task is None:
        return None, None, None
    started, clock = time.time(), time.perf_counter()
    try:
        photo = read_photo(Path(task.source))  # first: it refuses what would wait for ever
        with open(task.source, "rb") as file:
            read = _Read(photo, hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()))
    except PHOTO_ERRORS as error:
        read = _failure(error, settings)
    return task, read, _Clock(started, time.perf_counter() - clock)


def _paint(
    pipe: "ColorizationPipeline", task: Task, read: _Read, settings: Settings, clock: _Clock
) -> tuple[list[Image.Image | np.ndarray] | _Failure, _Clock]:
    import torch

    images, start = [], time.perf_counter()
    try:
        for seed, _ in task.versions:
            image = pipe(
                read.photo.image,
                num_inference_steps=settings.steps,
                saturation=settings.saturation,
                generator=torch.Generator().manual_seed(noise_seed(read.sha256, seed)),
                output_type="np" if read.photo.sixteen_bit else "pil",
            ).images[0]
            images.append(np.rint(image * 65535).astype(np.uint16) if read.photo.sixteen_bit else image)
    except (*PHOTO_ERRORS, RuntimeError) as error:  # RuntimeError: a photo too large for the device's memory
        images = _failure(error, settings)
    return images, _Clock(clock.started, clock.seconds + time.perf_counter() - start)


def _write(
    task: Task,
    read: _Read | _Failure,
    images: list[Image.Image | np.ndarray] | _Failure,
    settings: Settings,
    clock: _Clock,
) -> Outcome:
    start, verdicts = time.perf_counter(), []
    failure = read if isinstance(read, _Failure) else images if isinstance(images, _Failure) else None
    notes = [] if isinstance(read, _Failure) else list(read.photo.notes)
    for number, (_, target) in enumerate(task.versions):
        state, size, checksum, said = FAILED, None, None, []
        if failure is None:
            try:
                state, size, checksum, said = _write_result(target, images[number], read, settings)
            except PHOTO_ERRORS as error:  # the disk is to blame, not the photo, so it is tried again
                failure = _Failure(_failure(error, settings).reason, again=True)
        notes += said
        verdicts.append(
            Verdict(
                target,
                state,
                reason=failure.reason if failure else "",
                again=failure.again if failure else False,
                notes=json.dumps(list(dict.fromkeys(notes))),
                source_sha256=None if isinstance(read, _Failure) else read.sha256,
                result_sha256=checksum,
                result_bytes=size,
                started=clock.started,
                seconds=(clock.seconds + time.perf_counter() - start) / len(task.versions),
            )
        )
    if settings.compare and failure is None:
        notes += [note for target in task.targets for note in _compare(target, settings)]
    return Outcome(task, tuple(verdicts), tuple(dict.fromkeys(notes)), failure.reason if failure else "")


def _write_result(
    target: str, image: Image.Image | np.ndarray, read: _Read, settings: Settings
) -> tuple[str, int, str, tuple[str, ...]]:
    """Returns the state, the bytes and the checksum of the result, and what its format could not take."""
    with unfinished_folder(os.path.dirname(target) or ".") as folder:
        unfinished = Path(folder) / f"result{os.path.splitext(target)[1]}"
        notes = write_photo(unfinished, image, read.photo)
        if settings.keep_times:
            os.utime(unfinished, ns=(read.status.st_atime_ns, read.status.st_mtime_ns))
        with unfinished.open("rb") as file:
            checksum, size = hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
        if not put_in_place(str(unfinished), target, settings.overwrite):
            return KEPT, size, checksum, notes
        return DONE, size, checksum, notes


def _compare(target: str, settings: Settings) -> list[str]:
    """Write gray and color of a result side by side, if there is no such picture. Returns what went wrong."""
    path = compare_path(target)
    if os.path.exists(path) and not settings.overwrite:
        return []
    try:
        photo = read_photo(Path(target))
        color = photo.image
        if photo.sixteen_bit:
            color = Image.fromarray(((color.astype(np.int32) + 128) // 257).astype(np.uint8))
        pair = Image.new("RGB", (2 * color.width, color.height))
        pair.paste(color.convert("L"), (0, 0))
        pair.paste(color.convert("RGB"), (color.width, 0))
        with unfinished_folder(os.path.dirname(path) or ".") as folder:
            write_photo(Path(folder) / "pair.jpg", pair, photo)
            put_in_place(os.path.join(folder, "pair.jpg"), path, settings.overwrite)
    except PHOTO_ERRORS as error:  # the photo itself is colorized
        return [f"no comparison: {_failure(error, settings).reason}"]
    return []
