"""What passes between a run and its workers: settings, tasks, outcomes."""

import hashlib
import json
from dataclasses import asdict, dataclass

from colorize_pipeline import __version__
from colorize_pipeline.apps.journal import Verdict
from colorize_pipeline.apps.plan import name_of


DTYPES = ("auto", "float32", "bfloat16", "float16")


class EngineError(Exception):
    """No photo can be painted: the model cannot be loaded, or the workers do not start."""


# More points than that are told by their checksum: JPEG has no room for a long record.
_MAX_TOLD_POINTS = 100


@dataclass(frozen=True)
class Layer:
    """
    An image laid over a photo.

    Args:
        path (`str`): Absolute.
        sha256 (`str`): Of the file.
    """

    path: str
    sha256: str


@dataclass(frozen=True)
class Settings:
    """
    How photos are painted and written; the same for all of a run.

    Args:
        model (`str`): Folder or Hub name; empty for the one that ships.
        device (`str`): `"auto"`, or a device of PyTorch.
        dtype (`str`): Of the network, one of `DTYPES`; `"auto"` is bfloat16 where the device is made for it.
        steps (`int` or `None`): Denoising steps.
        saturation (`float`): Factor for the chroma.
        target_colorfulness (`float` or `None`): Chooses that factor.
        points (`tuple` of `(x, y, color)`): Colors that are known, of the one photo that there is.
        strokes (`Layer` or `None`): The same, as a layer over it.
        mask (`Layer` or `None`): White where it is to be painted.
        reference (`str`): Path of a color photo, whose colors are carried over; empty for none.
        doubt (`bool`): Also draw where the colors are a guess.
        format (`str`): Of the results, one of `formats.FORMATS`.
        pages (`str`): `"first"` or `"all"` of a TIFF.
        depth (`int` or `None`): 8 rounds 16-bit codes to 8 bit.
        compare (`bool`): Also write gray and color side by side.
        overwrite (`bool`): Replace results that exist.
        keep_times (`bool`): Give results the time of their photos.
        max_megapixels (`int`): Larger photos are refused.
    """

    model: str = ""
    device: str = "auto"
    dtype: str = "auto"
    steps: int | None = None
    saturation: float = 1.0
    target_colorfulness: float | None = None
    points: tuple[tuple[float, float, str], ...] = ()
    strokes: Layer | None = None
    mask: Layer | None = None
    reference: str = ""
    doubt: bool = False
    format: str = "png"
    pages: str = "first"
    depth: int | None = None
    compare: bool = False
    overwrite: bool = False
    keep_times: bool = False
    max_megapixels: int = 250

    def of_colors(self) -> str:
        """What the bytes of a result depend on, as JSON for the journal."""
        left_out = ("compare", "doubt", "overwrite", "max_megapixels")
        settings = {name: value for name, value in asdict(self).items() if name not in left_out}
        layers = {
            name: layer and layer.sha256 for name, layer in (("strokes", self.strokes), ("mask", self.mask))
        }  # whatever their names
        return json.dumps({**settings, **layers, "version": __version__})

    @property
    def is_for_one_photo(self) -> bool:
        """Whether something is known of a certain photo."""
        return bool(self.points or self.strokes or self.mask)

    def wishes(self) -> dict:
        """What was asked for that only some results have, for their record."""
        points = list(self.points)
        if len(points) > _MAX_TOLD_POINTS:
            points = f"sha256:{hashlib.sha256(json.dumps(points).encode()).hexdigest()}"
        told = {
            "target_colorfulness": self.target_colorfulness,
            "hints": points or (self.strokes and f"sha256:{self.strokes.sha256}"),
            "mask_image": self.mask and f"sha256:{self.mask.sha256}",
        }
        return {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Task:
    """
    What a worker is to do with one photo.

    Args:
        source (`str`): Path of the photo's file.
        versions (`tuple` of `(int, str)`): Seed and path of each result that is to be painted.
        targets (`tuple` of `str`): All results of the photo, also those painted before, for the comparisons.
        page (`int` or `None`): As in [`plan.Job`].
    """

    source: str
    versions: tuple[tuple[int, str], ...]
    targets: tuple[str, ...]
    page: int | None = None

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return name_of(self.source, self.page)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of a task: a verdict for each version, and what the owner of the photo should know."""

    task: Task
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    reason: str = ""
