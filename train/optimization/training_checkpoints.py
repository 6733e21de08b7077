"""Checkpoints that survive a kill at any moment, and signals that ask for one."""

import os
import re
import shutil
import signal
from pathlib import Path

import torch
from accelerate import Accelerator


_NAME = re.compile(r"checkpoint-(\d+)")


class StopRequest:
    """Remember SIGTERM or SIGINT until the current update is done; a second signal acts at once."""

    def __init__(self):
        self._signal_number = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame) -> None:
        self._signal_number = number
        signal.signal(number, signal.SIG_DFL)

    def requested(self, accelerator: Accelerator) -> bool:
        """Tell whether any process was signalled. All processes must ask together."""
        if accelerator.num_processes > 1:
            numbers = accelerator.gather(torch.tensor([self._signal_number], device=accelerator.device))
            self._signal_number = int(numbers.max())
        return self._signal_number != 0

    @property
    def exit_code(self) -> int:
        """What a shell reports for a process ended by that signal."""
        return 128 + self._signal_number


def save_checkpoint(accelerator: Accelerator, output_dir: Path, images_seen: int, total_limit: int) -> None:
    """
    Write `checkpoint-<images_seen>` beside the others, whole or not at all, and remove the oldest.

    The folder is written under another name, flushed to the disk, and renamed: a kill at any moment leaves the newest
    folder of that name readable.
    """
    final = output_dir / f"checkpoint-{images_seen}"
    unfinished = output_dir / f".unfinished-{final.name}"
    if accelerator.is_main_process:
        shutil.rmtree(unfinished, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(unfinished))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process and not final.exists():
        for path in [*unfinished.rglob("*"), unfinished]:
            _flush(path)
        unfinished.rename(final)
        _flush(output_dir)
        for old in _checkpoints(output_dir)[:-total_limit]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def load_newest_checkpoint(accelerator: Accelerator, output_dir: Path) -> int:
    """
    Load the newest checkpoint, if there is one.

    Returns:
        `int`: Photos seen until then, 0 for a new run.
    """
    checkpoints = _checkpoints(output_dir)
    if accelerator.is_main_process:
        for unfinished in output_dir.glob(".unfinished-*"):  # left by a kill
            shutil.rmtree(unfinished)
    if not checkpoints:
        return 0
    accelerator.load_state(str(checkpoints[-1]))
    accelerator.step = 0  # of the current update: now the micro-batches may be others
    accelerator.print(f"resumed from {checkpoints[-1]}")
    return _photos(checkpoints[-1])


def _checkpoints(output_dir: Path) -> list[Path]:
    found = [path for path in output_dir.glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=_photos)


def _photos(checkpoint: Path) -> int:
    return int(_NAME.fullmatch(checkpoint.name)[1])


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
