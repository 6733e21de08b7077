"""The worker: reads, paints and writes photos. The plain loop, the processes and Ray all call `paint_photos`."""

import gc
import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from colorize_pipeline import DEFAULT_CHECKPOINT
from colorize_pipeline.apps.formats import suffix_of
from colorize_pipeline.apps.gray import without_color
from colorize_pipeline.apps.journal import DONE, FAILED, KEPT, Verdict
from colorize_pipeline.apps.photo import PHOTO_ERRORS, Photo, limit_megapixels, reason_of, round_to_eight_bit
from colorize_pipeline.apps.plan import compare_path, doubt_path
from colorize_pipeline.apps.provenance import Record, identify_gray, noise_seed
from colorize_pipeline.apps.reading import read_photo
from colorize_pipeline.apps.tasks import EngineError, Outcome, Settings, Task
from colorize_pipeline.apps.wishes import read_mask, read_strokes
from colorize_pipeline.apps.workplace import put_in_place, unfinished_folder
from colorize_pipeline.apps.writing import check_fits, save_photo, write_photo


if TYPE_CHECKING:
    import torch

    from colorize_pipeline import ColorizationPipeline
    from colorize_pipeline.apps.painting import Painting


# Other answers that a photo is compared with for its picture of doubt.
DOUBT_SAMPLES = 6


@dataclass(frozen=True)
class Model:
    """
    A model that is loaded.

    Args:
        pipe (`ColorizationPipeline`): It.
        record (`Record`): What its results have in common.
        reference (`PIL.Image.Image` or `None`): Whose colors are carried over.
    """

    pipe: "ColorizationPipeline"
    record: Record
    reference: Image.Image | None = None


@dataclass(frozen=True, slots=True)
class _Read:
    photo: Photo
    sha256: str
    status: os.stat_result


def load_model(settings: Settings, index: int = 0) -> Model:
    """
    Load the model for one worker.

    Args:
        settings (`Settings`): Which, and where to.
        index (`int`, *optional*, defaults to 0): Of the worker: several share the GPUs out among them.

    Raises:
        `EngineError`: if it cannot be loaded, or the reference cannot be used.
    """
    # The imports make a million objects that all stay: to look for garbage among them is a seventh of the time.
    gc.disable()
    import torch
    from diffusers.utils import logging
    from transformers.utils import logging as transformers_logging

    from colorize_pipeline.apps.painting import describe_model
    from colorize_pipeline.pipeline import ColorizationPipeline

    gc.enable()
    logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
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
        dtype = _dtype_for(torch.device(device)) if settings.dtype == "auto" else getattr(torch, settings.dtype)
        pipe = ColorizationPipeline.from_pretrained(settings.model or DEFAULT_CHECKPOINT, dtype=dtype)
        pipe.to(device)
        for network in filter(None, (pipe.unet, pipe.image_encoder)):
            network.to(memory_format=torch.channels_last)  # as the convolutions of CPUs take them
        record = describe_model(pipe, settings.model, settings.steps, settings.saturation, settings.wishes())
    except (OSError, ValueError, RuntimeError, AssertionError) as error:  # the last: PyTorch without that device
        raise EngineError(f"The model cannot be loaded: {error}") from error
    pipe.set_progress_bar_config(disable=True)
    return _with_reference(Model(pipe, record), settings) if settings.reference else Model(pipe, record)


def _with_reference(model: Model, settings: Settings) -> Model:
    from colorize_pipeline.apps.reference import read_reference

    if model.pipe.image_encoder is None:
        raise EngineError("--reference: this model has no image encoder, which finds what looks alike")
    path = Path(settings.reference)
    try:
        reference, checksum = read_reference(path), hashlib.sha256(path.read_bytes()).hexdigest()
    except PHOTO_ERRORS as error:
        raise EngineError(f"--reference {path} cannot be read: {_failure(error, settings).reason}") from error
    record = replace(model.record, settings={**model.record.settings, "reference": f"sha256:{checksum}"})
    return Model(model.pipe, record, reference)


def _dtype_for(device: "torch.device") -> "torch.dtype":
    """bfloat16 where the device has units for it: elsewhere it is emulated."""
    import torch

    if device.type == "cuda":
        made_for_it = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        made_for_it = device.type == "cpu" and (able.get("amx_bf16") or able.get("avx512_bf16"))
    return torch.bfloat16 if made_for_it else torch.float32


def paint_photos(tasks: Iterable[Task], settings: Settings, load: Callable[[], Model]) -> Iterator[Outcome]:
    """
    The worker: while one photo is painted, the next is read and the one before is written.

    Args:
        tasks (iterable of `Task`): Asked for the next when there is room for it, from another thread.
        settings (`Settings`): How.
        load (callable): Loads the model; called, if there is a task at all, while the first photo is read.

    Yields:
        `Outcome`: for each task.

    Raises:
        `EngineError`: if the model cannot be loaded.
    """
    limit_megapixels(settings.max_megapixels)
    tasks = iter(tasks)
    if (first := next(tasks, None)) is None:
        return
    tasks = itertools.chain([first], tasks)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        reading: Future | None = reader.submit(_read_next, tasks, settings, None)
        writing: Future | None = None
        model = load()
        while reading or writing:
            # Its result is let go: it would keep the colors of a large scan in memory while that is painted.
            wait([future for future in (writing, reading) if future], return_when=FIRST_COMPLETED)
            if writing and writing.done():
                yield writing.result()
                writing = None
                continue
            task, read, clock = reading.result()
            if task is None:
                reading = None
                continue
            if isinstance(read, _Read) and not settings.mask:
                read = replace(read, photo=without_color(read.photo))
            reading = reader.submit(_read_next, tasks, settings, (task, read))
            if isinstance(read, _Read):
                paintings, clock = _paint(model, task, read, settings, clock)
            else:
                paintings = read
            if writing:
                yield writing.result()
            writing = writer.submit(_write, task, read, paintings, model.record, settings, clock)


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class _Clock:
    started: float  # of the epoch
    seconds: float  # of work so far


def _failure(error: BaseException, settings: Settings) -> _Failure:
    # An error of the file system, which has a number, may be gone the next time; a damaged file stays so.
    again = isinstance(error, OSError) and error.errno is not None
    return _Failure(reason_of(error, settings.max_megapixels), again)


def _read_next(
    tasks: Iterator[Task], settings: Settings, previous: tuple[Task, _Read | _Failure] | None
) -> tuple[Task, _Read | _Failure, _Clock] | tuple[None, None, None]:
    task = next(tasks, None)
    if task is None:
        return None, None, None
    started, clock = time.time(), time.perf_counter()
    try:
        photo = read_photo(Path(task.source), task.page, settings.depth)  # first: it refuses what would wait for ever
        for _, target in task.versions:
            check_fits(suffix_of(target), photo.size, photo.sixteen_bit)
        with open(task.source, "rb") as file:
            status = os.fstat(file.fileno())
            # Of a file with many pages the checksum is taken once.
            known = _known_checksum(previous, task, status)
            read = _Read(photo, known or hashlib.file_digest(file, "sha256").hexdigest(), status)
    except PHOTO_ERRORS as error:
        read = _failure(error, settings)
    return task, read, _Clock(started, time.perf_counter() - clock)


def _known_checksum(previous: tuple[Task, _Read | _Failure] | None, task: Task, status: os.stat_result) -> str | None:
    if previous is None or previous[0].source != task.source or not isinstance(previous[1], _Read):
        return None
    before = previous[1].status
    same = (before.st_ino, before.st_size, before.st_mtime_ns) == (status.st_ino, status.st_size, status.st_mtime_ns)
    return previous[1].sha256 if same else None


def _paint(
    model: Model, task: Task, read: _Read, settings: Settings, clock: _Clock
) -> tuple[list["Painting"] | _Failure, _Clock]:
    from colorize_pipeline.apps.painting import paint_photo

    start = time.perf_counter()
    seeds = [noise_seed(read.sha256, task.page, seed) for seed, _ in task.versions]
    try:
        paintings = paint_photo(
            model.pipe,
            read.photo,
            seeds,
            settings.steps,
            settings.saturation,
            settings.target_colorfulness,
            read_strokes(settings.strokes.path) if settings.strokes else list(settings.points) or None,
            read_mask(settings.mask.path) if settings.mask else None,
            model.reference,
            DOUBT_SAMPLES if settings.doubt else 0,
        )
    except (*PHOTO_ERRORS, RuntimeError) as error:  # RuntimeError: a photo too large for the device's memory
        paintings = _failure(error, settings)
    return paintings, _Clock(clock.started, clock.seconds + time.perf_counter() - start)


def _write(
    task: Task,
    read: _Read | _Failure,
    paintings: list["Painting"] | _Failure,
    record: Record,
    settings: Settings,
    clock: _Clock,
) -> Outcome:
    start, verdicts = time.perf_counter(), []
    failure = read if isinstance(read, _Failure) else paintings if isinstance(paintings, _Failure) else None
    notes = [] if isinstance(read, _Failure) else list(read.photo.notes)
    if failure is None and paintings:
        notes += [note for painting in paintings for note in painting.notes]
        asked = {"depth": settings.depth, "page": None if task.page is None else task.page + 1}
        asked = {name: value for name, value in asked.items() if value is not None}
        gray = identify_gray(paintings[0].luma.numpy())
        record = replace(record, settings={**record.settings, **asked}, gray=gray)
    for number, (seed, target) in enumerate(task.versions):
        state, size, checksum, said = FAILED, None, None, []
        if failure is None:
            own = replace(record, seed=seed, noise_seed=noise_seed(read.sha256, task.page, seed))
            try:
                state, size, checksum, said = _write_result(target, paintings[number], read, own, settings)
            # Disk and memory are to blame, which may have room the next time. (RuntimeError is PyTorch's, which joins)
            except (*PHOTO_ERRORS, RuntimeError) as error:
                failure = _Failure(_failure(error, settings).reason, again=True)
        notes += said
        verdicts.append(
            Verdict(
                target,
                state,
                reason=failure.reason if failure else "",
                again=failure.again if failure else False,
                notes=json.dumps(list(dict.fromkeys(notes))),
                dtype=None if failure else record.settings["dtype"],
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
    target: str, painting: "Painting", read: _Read, record: Record, settings: Settings
) -> tuple[str, int, str, tuple[str, ...]]:
    """Returns the state, the bytes and the checksum of the result, and what its format could not take."""
    with unfinished_folder(os.path.dirname(target) or ".") as folder:
        unfinished = Path(folder) / f"result{os.path.splitext(target)[1]}"
        notes = save_photo(unfinished, painting, read.photo, record)
        if settings.keep_times:
            os.utime(unfinished, ns=(read.status.st_atime_ns, read.status.st_mtime_ns))
        with unfinished.open("rb") as file:
            checksum, size = hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
        if not put_in_place(str(unfinished), target, settings.overwrite):
            return KEPT, size, checksum, notes
        if painting.doubt is not None:
            from colorize_pipeline.apps.doubt_picture import draw_doubt

            unfinished = Path(folder) / "doubt.png"
            draw_doubt(painting.luma, painting.doubt).save(unfinished)
            put_in_place(str(unfinished), doubt_path(target), settings.overwrite)
        return DONE, size, checksum, notes


def _compare(target: str, settings: Settings) -> list[str]:
    """Write gray and color of a result side by side, if there is no such picture. Returns what went wrong."""
    path = compare_path(target)
    if os.path.exists(path) and not settings.overwrite:
        return []
    try:
        photo = read_photo(Path(target))
        color = Image.fromarray(round_to_eight_bit(photo.image)) if photo.sixteen_bit else photo.image
        pair = Image.new("RGB", (2 * color.width, color.height))
        pair.paste(color.convert("L"), (0, 0))
        pair.paste(color.convert("RGB"), (color.width, 0))
        write_photo(Path(path), pair, photo, settings.overwrite)
    except PHOTO_ERRORS as error:  # the photo itself is colorized
        return [f"no comparison: {_failure(error, settings).reason}"]
    return []
