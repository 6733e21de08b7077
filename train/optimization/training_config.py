"""The one configuration of a training run: a frozen dataclass, filled from a JSON file and then from flags."""

import argparse
import difflib
import json
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path

from optimization.pretrained_encoder import ENCODERS, encoder_config
from transformers import HfArgumentParser

from colorize_pipeline.image_encoder import ENCODER_STRIDE, feature_channels
from colorize_pipeline.unet import PRESETS


@dataclass(frozen=True)
class TrainingConfig:
    """
    Everything that decides the result of a run. It is written beside the weights as `training_config.json`.

    Progress is counted in photos seen, not in steps, so that a change of batch size or of the number of processes
    leaves the schedule where it was. A run goes through stages: `stage_photos[i]` photos at crops of `resolutions[i]`.
    """

    output_dir: str = field(metadata={"help": "Checkpoints, validation sheets, logs and the final pipeline go here."})

    # Photos.
    dataset: str = field(
        default="", metadata={"help": "Folder of parquet shards, photos or color/gray pairs, or a Hub data set."}
    )
    dataset_files: str = "*.parquet"  # which shards, where `dataset` is a folder that holds parquet
    dataset_split: str = "train"  # of a Hub data set
    streaming: bool = False  # read in order with a shuffle buffer, for sets that do not fit on the disk
    shuffle_buffer: int = 4096  # photos held (encoded) to shuffle a stream
    image_column: str = "image"
    source_column: str = "source"  # where each photo came from; may be absent if `source_weights` is empty
    source_weights: list[str] = field(
        default_factory=list
    )  # "name=weight": how often, relative to 1, a photo is drawn
    decode_once: bool = False  # keep the pixels, shrunk to what the crops need, in the cache of `datasets` on the disk
    num_workers: int = 1  # decoding and cropping cost about a tenth of a core at 60 photos/s

    # What the network sees.
    target: str = "chroma"  # "chroma": Cb and Cr at 1 / luminance_patch of the luma's size; "rgb": all three channels
    chroma_scale: float = 0.14  # brings the chroma of photographs to a standard deviation of 0.5
    luminance_patch: int = 4  # each chroma sample sees the k x k luma pixels it covers, as k * k channels
    with_hints: bool = True  # three input channels for colors the user knows; target "rgb" has none
    min_crop: float = 0.6  # smallest square crop, as a share of the photo's short side
    max_stretch: float = 1.0  # largest ratio of a crop's sides, either way, before it is made square
    hint_probability: float = 0.25  # share of samples that carry color hints
    gray_mixing_probability: float = 0.25  # share of samples whose gray is not BT.601: old film does not see red
    degradation_probability: float = 0.3  # share of samples whose gray is blurred, faded, grained and compressed
    condition_dropout: float = 0.05  # share of samples without any condition, which guidance needs

    # Network and diffusion.
    initial_pipeline: str = (
        ""  # folder or Hub name of a trained pipeline of the same network, to go on from its weights
    )
    preset: str = "small"  # of colorize_pipeline/unet.py
    image_encoder: str = ""  # "lite0" or "lite2": a pretrained EfficientNet-Lite sees what is in the photo
    encoder_resolution: int = 128  # pixels a side of the crop as the encoder sees it
    encoder_learning_rate: float = 3e-4  # of its layers from stride 8 on; 0 leaves it as ImageNet made it
    noises_per_photo: int = 1  # for one pass of the image encoder, which takes longer than the network
    frozen_encoder_photos: int = 0  # photos seen before it is trained: at first the network's gradients are noise
    num_train_timesteps: int = 1000
    beta_schedule: str = "linear"  # colors are chosen where a cosine schedule hardly looks: at an SNR below 1/100
    prediction_type: str = "v_prediction"  # plain MSE on v; epsilon is undefined at zero terminal SNR
    rescale_betas_zero_snr: bool = True  # without it the first step leaks the mean color and samples turn brown
    variance_type: str = "fixed_small"  # of each sampling step: that of the posterior; "fixed_large": beta_t

    # Optimization.
    resolutions: list[int] = field(default_factory=lambda: [64, 128, 192])  # luma pixels of the crop, stage by stage
    stage_photos: list[int] = field(default_factory=lambda: [300_000, 150_000, 50_000])  # photos seen in each stage
    batch_size: int = 64  # per process and micro-batch
    gradient_accumulation_steps: int = 1
    muon_learning_rate: float = 2e-3  # of matrices and convolutions
    learning_rate: float = 4e-4  # of the rest: biases, norms, layers of at most 8 channels
    warmup_photos: int = 10_000  # linear from 0
    decay_photos: int = 100_000  # linear to 0 at the end of the last stage; in between the rate is constant
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema_max_decay: float = 0.9999  # below it the average covers the last tenth of the run, however long that is
    mixed_precision: str = "no"  # "no", "bf16" or "fp16" (fp16 on a GPU only)
    compile: bool = False  # torch.compile: minutes per resolution, then a bit faster; on a CPU it needs g++ or clang
    seed: int = 0  # with the position of a sample in the run it decides that sample whole: photo, crop, noise, t

    # Watching and keeping.
    log_photos: int = 3_200  # loss, images/s and learning rate to the console and TensorBoard
    checkpoint_photos: int = 50_000
    checkpoints_total_limit: int = 2
    validation_photos: int = 50_000  # how often the pipeline is saved and paints the fixed validation photos
    validation_dataset: str = ""  # default: the first photos of the training set
    validation_split: str = "validation"  # of a `validation_dataset` on the Hub
    validation_files: str = ""  # which shards; default: all of a `validation_dataset`, else `dataset_files`
    num_validation_images: int = 12
    push_to_hub: bool = False  # push the finished pipeline, with its card, to the Hub
    hub_model_id: str = ""  # "user/model" on the Hub
    num_inference_steps: int = 8  # of the pipeline that is saved, and of the validation
    processing_resolution: int = 0  # of the pipeline that is saved; 0: that of the last stage

    def __post_init__(self):
        if self.preset not in PRESETS:
            raise ValueError(f"`preset` must be one of {sorted(PRESETS)}, but got {self.preset!r}.")
        if self.target not in ("chroma", "rgb"):
            raise ValueError(f"`target` must be 'chroma' or 'rgb', but got {self.target!r}.")
        if self.target == "rgb" and self.with_hints:
            raise ValueError("`with_hints` must be false with `target` 'rgb': that formulation has no hint channels.")
        if self.prediction_type not in ("v_prediction", "epsilon"):
            raise ValueError(
                f"`prediction_type` must be 'v_prediction' or 'epsilon', but got {self.prediction_type!r}."
            )
        if self.prediction_type == "epsilon" and self.rescale_betas_zero_snr:
            raise ValueError(
                "`prediction_type` 'epsilon' tells nothing about the photo where the input is pure noise: set"
                " `rescale_betas_zero_snr` to false, or predict v."
            )
        if self.variance_type not in ("fixed_small", "fixed_large"):
            raise ValueError(
                f"`variance_type` must be 'fixed_small' or 'fixed_large', but got {self.variance_type!r}."
            )
        if self.mixed_precision not in ("no", "bf16", "fp16"):
            raise ValueError(f"`mixed_precision` must be 'no', 'bf16' or 'fp16', but got {self.mixed_precision!r}.")
        if len(self.resolutions) != len(self.stage_photos) or not self.resolutions:
            raise ValueError(
                f"`resolutions` and `stage_photos` must name the same stages, but got {len(self.resolutions)} and"
                f" {len(self.stage_photos)} values."
            )
        multiple = self.luminance_patch * 2 ** (len(PRESETS[self.preset]["block_out_channels"]) - 1)
        for resolution in self.resolutions:
            if resolution < 1 or resolution % multiple:
                raise ValueError(f"`resolutions` must be multiples of {multiple} for this network, got {resolution}.")
        for name in (
            "batch_size",
            "noises_per_photo",
            "gradient_accumulation_steps",
            "log_photos",
            "checkpoint_photos",
            "checkpoints_total_limit",
            "num_inference_steps",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, but got {getattr(self, name)}.")
        for name in ("min_crop", "chroma_scale"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must lie in (0, 1], but got {getattr(self, name)}.")
        if not self.max_stretch >= 1:
            raise ValueError(f"`max_stretch` must be at least 1, but got {self.max_stretch}.")
        if self.image_encoder not in ("", *ENCODERS):
            raise ValueError(f"`image_encoder` must be one of {('', *ENCODERS)}, but got {self.image_encoder!r}.")
        if self.encoder_resolution < ENCODER_STRIDE or self.encoder_resolution % ENCODER_STRIDE:
            raise ValueError(
                f"`encoder_resolution` must be a multiple of {ENCODER_STRIDE}, but got {self.encoder_resolution}."
            )
        if self.processing_resolution < 0:
            raise ValueError(f"`processing_resolution` must not be negative, but got {self.processing_resolution}.")
        if self.streaming and (self.num_workers or self.source_weights):
            raise ValueError(
                "`streaming` reads in order, in the training process and without weights: set `num_workers` to 0 and"
                f" leave `source_weights` empty (got {self.num_workers} and {self.source_weights})."
            )
        if self.streaming and self.decode_once:
            raise ValueError(
                "`decode_once` keeps a whole set on the disk: `streaming` is for sets too large for that."
            )
        if self.push_to_hub and not self.hub_model_id:
            raise ValueError("`push_to_hub` needs `hub_model_id`, such as 'user/model'.")
        if not self.dataset:
            raise ValueError(
                "`dataset` is empty: name a folder of parquet shards or photos, or a data set on the Hub."
            )
        if self.validation_photos and self.num_validation_images < 1:
            raise ValueError(
                f"`num_validation_images` must be at least 1, but got {self.num_validation_images}: to leave out the"
                " validation, set `validation_photos` to 0."
            )
        self.weight_of_source()

    @property
    def total_photos(self) -> int:
        """Photos seen in the whole run."""
        return sum(self.stage_photos)

    @property
    def network(self) -> dict:
        """The arguments of `create_unet`."""
        arguments = {name: getattr(self, name) for name in ("preset", "target", "luminance_patch", "with_hints")}
        if self.image_encoder:
            arguments["num_features"] = feature_channels(encoder_config(self.image_encoder))
        return arguments

    def check_same_run(self, path: Path) -> None:
        """Refuse to go on in the folder of a run whose network or noise differs: its checkpoints would not fit."""
        previous = json.loads(path.read_text()) if path.exists() else {}
        noise = ("num_train_timesteps", "beta_schedule", "prediction_type", "rescale_betas_zero_snr")
        network = ("preset", "target", "luminance_patch", "image_encoder", "with_hints", "chroma_scale")
        for name in (*network, *noise):
            if previous.get(name, getattr(self, name)) != getattr(self, name):
                raise ValueError(
                    f"`output_dir` {self.output_dir} holds a run with `{name}` {previous[name]!r}, but now it is"
                    f" {getattr(self, name)!r}: choose another folder for another run."
                )

    def check_photos_per_update(self, photos_per_update: int, images_seen: int = 0) -> None:
        """Refuse stages that would end inside an update, from where the run stands: a batch has one resolution."""
        if images_seen % photos_per_update:
            raise ValueError(
                f"`output_dir` {self.output_dir} holds a checkpoint of {images_seen} photos, no multiple of the"
                f" {photos_per_update} photos per update (batch size x accumulation x processes): go on with as many"
                " per update as before."
            )
        for photos in self.stage_photos:
            if photos % photos_per_update:
                raise ValueError(
                    f"`stage_photos` must be multiples of the {photos_per_update} photos per update (batch size x"
                    f" accumulation x processes), but got {photos}."
                )

    def resolution_at(self, position: int) -> int:
        """Give the crop size in luma pixels for the sample at `position` of the run."""
        for resolution, photos in zip(self.resolutions, self.stage_photos, strict=True):
            if position < photos:
                return resolution
            position -= photos
        return self.resolutions[-1]

    def learning_rate_factor(self, images_seen: int) -> float:
        """Give the factor in [0, 1] of both learning rates: linear warm-up, a plateau, linear decay to 0."""
        warmup = (images_seen + 1) / max(1, self.warmup_photos)
        decay = (self.total_photos - images_seen) / max(1, self.decay_photos)
        return max(0.0, min(1.0, warmup, decay))

    def weight_of_source(self) -> dict[str, float]:
        """Parse `source_weights` into {source: weight}."""
        weights = {}
        for entry in self.source_weights:
            name, separator, weight = entry.rpartition("=")
            try:
                weights[name] = float(weight)
            except ValueError:
                separator = ""
            if not separator or not weights[name] >= 0:
                raise ValueError(f"`source_weights` must look like 'source-name=0.5', but got {entry!r}.")
        return weights


def parse_config(arguments: list[str] | None = None) -> TrainingConfig:
    """
    Read `--config file.json` if given, then any `--field value` over it.

    Raises:
        `ValueError`: for an unknown key or flag, naming the nearest valid one, and for values out of range.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    file_parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    file_parser.add_argument("--config", type=Path)
    file, flags = file_parser.parse_known_args(arguments)
    if file.config:
        # The file's entries become flags in front of those given, so that both are checked by the same parser.
        values = json.loads(file.config.read_text())
        entries = [(name, value if isinstance(value, list) else [value]) for name, value in values.items()]
        flags = [flag for name, value in entries if value for flag in (f"--{name}", *map(str, value))] + flags

    parser = HfArgumentParser(TrainingConfig, allow_abbrev=False, description="Train a colorizer from scratch.")
    parser.add_argument("--config", type=Path, help="JSON file with any of the fields below.")
    namespace, unknown = parser.parse_known_args(flags)
    valid = [entry.name for entry in fields(TrainingConfig)]
    if unknown:
        name = unknown[0].lstrip("-").split("=")[0]
        nearest = difflib.get_close_matches(name, valid, n=1, cutoff=0)[0]
        raise ValueError(f"{name!r} is no training option. Did you mean {nearest!r}?")
    return TrainingConfig(**{name: getattr(namespace, name) for name in valid})
