"""
From photographs to training samples.

Every sample is a function of the seed and of its position in the run, and of nothing else: which photo, crop, flip,
gray mix, hints, noise and timestep. So a resumed run continues exactly, and neither the number of workers nor of
processes changes what is learned.
"""

import math
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from optimization.training_config import TrainingConfig
from photos.old_photos import degrade
from photos.paired_photos import find_pairs
from photos.photo_rows import decode_once, first_readable
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from colorize_pipeline.apps.reading import find_photos
from colorize_pipeline.color import LUMA_WEIGHTS, rgb_to_chroma


# Hints are square patches of 1 to 3 chroma samples a side; their number is geometric with this mean.
_MAX_HINT_SIDE = 3
_MEAN_HINTS = 5


def load_photos(
    name: str, files: str, split: str, streaming: bool, image_column: str = "image"
) -> datasets.Dataset | datasets.IterableDataset:
    """
    Open a set of photographs through `datasets`, without decoding any.

    Args:
        name (`str`): A folder of parquet shards, of pairs (see `paired_photos.py`), a folder (tree) of photos, or the
            name of a data set on the Hub.
        files (`str`): Pattern of the shards to read, where `name` is a folder that holds such files.
        split (`str`): Split of a data set on the Hub.
        streaming (`bool`): Read in order instead of indexing.
        image_column (`str`, *optional*, defaults to `"image"`): Column that holds the photos.

    Raises:
        `ValueError`: if `name` starts like a path and is no folder, or is an empty one, or has no such column; or for
            pairs that do not fit.
    """
    folder = Path(name)
    if folder.is_dir():
        shards = sorted(str(shard) for shard in folder.glob(files) if shard.suffix == ".parquet")
        if shards:
            photos = datasets.load_dataset("parquet", data_files=shards, split="train", streaming=streaming)
        elif (pairs := find_pairs(folder)) is not None:
            photos = datasets.Dataset.from_dict({image_column: pairs})
            return photos.to_iterable_dataset() if streaming else photos
        else:
            # Not by `imagefolder`, which would take one file named "train station.jpg" for the whole training split.
            paths = [str(path) for path in find_photos(folder)]
            if not paths:
                raise ValueError(f"`dataset` {name} is a folder without photos, and without shards like {files}.")
            features = datasets.Features({image_column: datasets.Image(decode=False)})
            photos = datasets.Dataset.from_dict({image_column: paths}, features)
            photos = photos.to_iterable_dataset() if streaming else photos
    elif name.startswith((".", "/", "~")):
        raise ValueError(f"`dataset` names a folder that does not exist: {name}.")
    else:
        photos = datasets.load_dataset(name, split=split, streaming=streaming)
    if image_column not in photos.column_names:
        raise ValueError(f"`image_column` {image_column!r} is none of the columns of {name}: {photos.column_names}.")
    # A file that cannot be decoded would end the iteration: decoding waits for `first_readable`.
    return photos.cast_column(image_column, datasets.Image(decode=False))


class SampleMaker:
    """
    Turn one decoded photo into one training sample.

    Args:
        config (`TrainingConfig`): Crops, gray mixing, hints and the seed.
        noise_scheduler (`DDPMScheduler`): Only its number of timesteps is read.
    """

    def __init__(self, config: TrainingConfig, noise_scheduler: DDPMScheduler):
        self.config = config
        self.num_train_timesteps = noise_scheduler.config.num_train_timesteps

    def __call__(self, photo: Image.Image, position: int, gray: Image.Image | None = None) -> dict[str, torch.Tensor]:
        """
        Args:
            photo (`PIL.Image.Image`): In mode RGB.
            position (`int`): The sample's place in the run, from 0.
            gray (`PIL.Image.Image`, *optional*): In mode L and of the same size: what the network sees of the photo.
                By default that is made of its colors.

        Returns:
            `dict` with, at resolution R and patch k:
                `clean_sample` `(2, R/k, R/k)`: chroma divided by `chroma_scale` (or `(3, R, R)` RGB in `[-1, 1]`);
                `luminance` `(1, R, R)` in `[-1, 1]`; `encoder_luminance` `(1, E, E)`: the same as the image encoder
                sees it, E = 0 without one; `conditioned` `()`: 0 where the condition is dropped, else 1; `hints`
                `(3, R/k, R/k)`: hint chroma in the unit of the sample, and mask; `noise` `(N, ...)` like the sample,
                N = `noises_per_photo`; `timesteps` `(N,)`, equally spaced over all of them.
        """
        config = self.config
        generator = torch.Generator().manual_seed(_seed_of(config.seed, position))
        uniform = torch.rand(9, generator=generator).tolist()
        resolution = config.resolution_at(position)

        short = min(photo.size) * (config.min_crop + (1 - config.min_crop) * uniform[0])
        stretch = 1.0
        if config.max_stretch > 1:
            stretch = config.max_stretch ** (torch.rand((), generator=generator).item() - 0.5)
        width, height = min(short * stretch, photo.width), min(short / stretch, photo.height)
        left, top = (photo.width - width) * uniform[1], (photo.height - height) * uniform[2]
        box = (left, top, left + width, top + height)
        # The encoder may see the crop larger than the network does: it is cut at a multiple of the network's size.
        seen_by_encoder = config.encoder_resolution if config.image_encoder else 0
        side = resolution * max(1, math.ceil(seen_by_encoder / resolution))
        crops = [
            image.resize((side, side), Image.Resampling.BICUBIC, box=box)
            for image in ([photo] if gray is None else [photo, gray])
        ]
        planes = torch.from_numpy(np.dstack(crops)).permute(2, 0, 1).float() / 255  # (3 or 4, side, side)
        if uniform[3] < 0.5:
            planes = planes.flip(-1)
        rgb = planes[:3]

        luma_weights = torch.tensor(LUMA_WEIGHTS)
        if uniform[4] < config.gray_mixing_probability:
            luma_weights = -torch.rand(3, generator=generator).log()  # uniform over all mixes of the three channels
            luma_weights = luma_weights / luma_weights.sum()
        mixed = (luma_weights @ rgb.flatten(start_dim=1)).view(1, side, side)
        seen = mixed if gray is None else planes[3:]  # (1, side, side)
        if uniform[8] < config.degradation_probability:
            seen = degrade(seen, generator)
        luminance = shrink(2 * seen - 1, resolution)

        pool = side * config.luminance_patch // resolution
        if config.target == "rgb":
            clean_sample = F.avg_pool2d(2 * rgb - 1, pool)  # (3, R/k, R/k)
        else:
            chroma = rgb_to_chroma(rgb[None])[0] / config.chroma_scale
            clean_sample = F.avg_pool2d(chroma, pool)  # (2, R/k, R/k)

        hints = torch.zeros(3, *clean_sample.shape[1:])
        if config.with_hints and uniform[5] < config.hint_probability:
            hints = draw_hints(clean_sample, generator)
        conditioned = uniform[6] >= config.condition_dropout
        if not conditioned:
            luminance, hints = torch.zeros_like(luminance), torch.zeros_like(hints)
        starts = [(uniform[7] + index / config.noises_per_photo) % 1 for index in range(config.noises_per_photo)]

        return {
            "clean_sample": clean_sample,
            "luminance": luminance,
            "encoder_luminance": shrink(2 * seen - 1, seen_by_encoder),
            "conditioned": torch.tensor(float(conditioned)),
            "hints": hints,
            "noise": torch.randn((config.noises_per_photo, *clean_sample.shape), generator=generator),
            "timesteps": torch.tensor([int(self.num_train_timesteps * start) for start in starts]),
        }


def shrink(luminance: torch.Tensor, side: int) -> torch.Tensor:
    """Resample `(1, height, width)` in `[-1, 1]` to `(1, side, side)` as the pipeline does."""
    if side in (0, luminance.shape[-1]):
        return luminance[:, :side, :side]
    shrunk = F.interpolate(luminance[None], size=(side, side), mode="bicubic", antialias=True)
    return shrunk[0].clamp(-1, 1)


def draw_hints(chroma: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """
    Reveal the mean color of a few small squares, as a user who clicks on a photo does.

    Args:
        chroma (`torch.Tensor` of shape `(2, height, width)`): The true chroma.
        generator (`torch.Generator`): Chooses the squares.

    Returns:
        `torch.Tensor` of shape `(3, height, width)`: Hint chroma, 0 where unknown, and the mask in {0, 1}.
    """
    _, height, width = chroma.shape
    hints = torch.zeros(3, height, width)
    number = int(torch.empty(1).geometric_(1 / _MEAN_HINTS, generator=generator))  # at least 1
    for top, left, size in torch.rand(number, 3, generator=generator).tolist():
        side = 1 + int(size * _MAX_HINT_SIDE)
        rows = slice(int(top * (height - side + 1)), int(top * (height - side + 1)) + side)
        columns = slice(int(left * (width - side + 1)), int(left * (width - side + 1)) + side)
        hints[:2, rows, columns] = chroma[:, rows, columns].mean(dim=(1, 2), keepdim=True)
        hints[2, rows, columns] = 1
    return hints


class PhotoDataset(Dataset):
    """
    Samples by their position in the run, from a data set that can be indexed.

    Args:
        photos (`datasets.Dataset`): With an image column.
        config (`TrainingConfig`): Names of the columns, weights of the sources, seed.
        make_sample (`SampleMaker`): From a decoded photo to a sample.
    """

    def __init__(self, photos: datasets.Dataset, config: TrainingConfig, make_sample: SampleMaker):
        self.photos = photos
        self.config = config
        self.make_sample = make_sample
        self.weights = torch.ones(len(photos))
        weight_of_source = config.weight_of_source()
        if weight_of_source:
            sources = photos[config.source_column]
            unknown = set(weight_of_source) - set(sources)
            if unknown:
                raise ValueError(
                    f"`source_weights` names {sorted(unknown)}, but the photos have {sorted(set(sources))}."
                )
            self.weights = torch.tensor([weight_of_source.get(source, 1.0) for source in sources])
        self._epoch, self._order = -1, None

    def __getitem__(self, position: int) -> dict:
        number = len(self.photos)
        index = int(self._order_of_epoch(position // number)[position % number])
        photo, gray, found = first_readable(
            lambda ahead: self.photos[(index + ahead) % number][self.config.image_column]
        )
        return {**self.make_sample(photo, position, gray), **found}

    def _order_of_epoch(self, epoch: int) -> torch.Tensor:
        """Draw which photos an epoch of `len(photos)` samples holds: each as often as its weight says, to within 1."""
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(_seed_of(self.config.seed, -1 - epoch))
            number = len(self.weights)
            shuffled = torch.randperm(number, generator=generator)
            # Systematic sampling: equally spaced needles on the line of cumulated weights.
            ends = self.weights[shuffled].double().cumsum(dim=0)
            needles = (torch.arange(number) + torch.rand(1, generator=generator)) * ends[-1] / number
            drawn = shuffled[torch.searchsorted(ends, needles).clamp(max=number - 1)]
            self._epoch, self._order = epoch, drawn[torch.randperm(number, generator=generator)]
        return self._order


class PhotoStream(IterableDataset):
    """
    Samples by their position in the run, from a data set that can only be read in order.

    To resume at a position the stream is read up to there without decoding a photo: exact, and cheap next to training.
    Every process reads the whole stream, and decodes only its own part.

    Args:
        photos (`datasets.IterableDataset`): With an image column.
        config (`TrainingConfig`): Name of the column, shuffle buffer, seed.
        make_sample (`SampleMaker`): From a decoded photo to a sample.
        batches (`PositionBatches`): Which positions to yield.
    """

    def __init__(
        self,
        photos: datasets.IterableDataset,
        config: TrainingConfig,
        make_sample: SampleMaker,
        batches: "PositionBatches",
    ):
        self.photos = photos.shuffle(seed=config.seed, buffer_size=config.shuffle_buffer)
        self.config = config
        self.make_sample = make_sample
        self.batches = batches

    def __iter__(self) -> Iterator[dict]:
        rows, read_ahead, next_position = self._rows(), deque(), 0

        def row_ahead(number: int) -> dict:
            while len(read_ahead) <= number:
                read_ahead.append(next(rows)[self.config.image_column])
            return read_ahead[number]

        for position in (position for batch in self.batches for position in batch):
            for _ in range(position - next_position):
                row_ahead(0)
                read_ahead.popleft()
            photo, gray, found = first_readable(row_ahead)
            read_ahead.popleft()
            next_position = position + 1
            yield {**self.make_sample(photo, position, gray), **found}

    def _rows(self) -> Iterator[dict]:
        epoch = 0
        while True:
            self.photos.set_epoch(epoch)
            number = 0
            for number, row in enumerate(self.photos, start=1):  # noqa: B007 (counts the rows of the epoch)
                yield row
            if number == 0:
                raise ValueError(f"`dataset` {self.config.dataset} holds no rows.")
            epoch += 1


class PositionBatches(Sampler):
    """
    The positions that one process takes, batch by batch, from `start` to the end of the run.

    Args:
        start (`int`): Photos already seen by all processes together.
        config (`TrainingConfig`): Batch size and length of the run.
        process_index (`int`), num_processes (`int`): Which of how many.
    """

    def __init__(self, start: int, config: TrainingConfig, process_index: int, num_processes: int):
        stride = config.batch_size * num_processes
        self.starts = range(start + config.batch_size * process_index, config.total_photos, stride)
        self.batch_size = config.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        for start in self.starts:
            yield list(range(start, start + self.batch_size))

    def __len__(self) -> int:
        return len(self.starts)


def create_dataloader(
    config: TrainingConfig, noise_scheduler: DDPMScheduler, start: int, process_index: int, num_processes: int
) -> DataLoader:
    """
    Load the samples of one process, from position `start` of the run to its end.

    Returns:
        `DataLoader` over dictionaries of [`SampleMaker`] with a batch dimension, and lists `name` (of the photo) and
        `unreadable` (how many files were passed over for it).
    """
    photos = load_photos(
        config.dataset, config.dataset_files, config.dataset_split, config.streaming, config.image_column
    )
    make_sample = SampleMaker(config, noise_scheduler)
    batches = PositionBatches(start, config, process_index, num_processes)
    workers = {"num_workers": config.num_workers, "persistent_workers": False, "pin_memory": torch.cuda.is_available()}
    if config.streaming:
        stream = PhotoStream(photos, config, make_sample, batches)
        return DataLoader(stream, batch_size=config.batch_size, **workers)
    if config.decode_once:
        largest = max(*config.resolutions, config.encoder_resolution if config.image_encoder else 0)
        photos = decode_once(photos, config.image_column, math.ceil(largest / config.min_crop))
    return DataLoader(PhotoDataset(photos, config, make_sample), batch_sampler=batches, **workers)


def _seed_of(seed: int, position: int) -> int:
    # Neighboring integers make correlated Mersenne Twister states; NumPy's SeedSequence is made to spread them.
    return int(np.random.SeedSequence((seed, position & 0xFFFFFFFFFFFFFFFF)).generate_state(1, np.uint64)[0] >> 1)
