"""
How fast training is beside a plain loop, with the same network, batch and photos:

    python tests/benchmarks/training_speed.py ../shared/photos --batch-size 64 --resolutions 64 128

The plain loop does what the usual script for unconditional diffusion does: it decodes and crops every file when its
turn comes, keeps the default memory layout and optimizer, trains the same layers of the image encoder without
preparing them, and reads the loss after every update; once in float32, that
script's default, and once in bfloat16. Ours is `train/train.py`'s own configuration of the small network, without and
with `--compile true` (which takes minutes to start). Prints photos per second and the share of what a large
convolution reaches on this machine, in rounds that take turns, and the ratios of the medians. Each loop is a process
of its own: ours keeps the memory that it frees, which holds for a whole process.
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.training_utils import EMAModel


ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "train"))

from optimization.muon import MuonAdamW  # noqa: E402
from optimization.pretrained_encoder import (  # noqa: E402
    FeatureEncoder,
    load_pretrained_encoder,
    prepare_fine_tuning,
)
from optimization.training_config import parse_config  # noqa: E402
from optimization.training_speed import (  # noqa: E402
    keep_freed_memory,
    lay_out_group_norms,
    measure_peak,
    training_flops,
)
from photos.photo_dataset import create_dataloader  # noqa: E402

from colorize_pipeline import build_model_input, create_unet  # noqa: E402
from train import create_noise_scheduler, flatten_noises, repeat_for_noises, training_target  # noqa: E402


PHOTOS = 512  # in every round
ROUNDS = 3


def loop_flags(folder: str, batch_size: int, resolution: int, ours: bool) -> list[str]:
    flags = ["--config", str(ROOT / "train/configs/small.json"), "--output_dir", "unused"]
    flags += ["--dataset", folder, "--dataset_files", "train-0*.parquet", "--decode_once", str(ours)]
    return [*flags, "--resolutions", str(resolution), "--stage_photos", "640000", "--batch_size", str(batch_size)]


class Loop:
    """A training loop that can be stopped and continued, so that several can take turns."""

    def __init__(
        self, folder: str, batch_size: int, resolution: int, ours: bool, dtype: torch.dtype, compiled: bool = False
    ):
        self.config, self.dtype = parse_config(loop_flags(folder, batch_size, resolution, ours)), dtype
        self.noise_scheduler = create_noise_scheduler(self.config)
        self.unet = create_unet(**self.config.network)
        image_encoder = load_pretrained_encoder(self.config.image_encoder)
        fine_tuned = prepare_fine_tuning(image_encoder, self.config.encoder_learning_rate)
        if not ours:
            image_encoder = load_pretrained_encoder(self.config.image_encoder).requires_grad_(False)
            fine_tuned = {name: image_encoder.get_parameter(name).requires_grad_() for name in fine_tuned}
        self.encoder = FeatureEncoder(image_encoder)
        if ours and not compiled:
            lay_out_group_norms(self.unet)
        for network in (self.unet, self.encoder):
            if ours:
                network.to(memory_format=torch.channels_last)
            if compiled:
                network.compile()
        self.parameters = [*self.unet.parameters(), *fine_tuned.values()]
        if ours:
            self.optimizer = MuonAdamW(self.unet.parameters(), 0.01, fine_tuned.values())
        else:
            self.optimizer = torch.optim.AdamW(self.parameters)
        self.ema = EMAModel(self.parameters, foreach=ours)
        self.read_loss = not ours
        self.batches = iter(create_dataloader(self.config, self.noise_scheduler, 0, 0, 1))

    def update(self) -> None:
        batch = next(self.batches)
        noise, timesteps = flatten_noises(batch["noise"]), flatten_noises(batch["timesteps"])
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            features = self.encoder(batch["encoder_luminance"], batch["clean_sample"].shape[2:])
            clean_sample, luminance, hints, features = (
                repeat_for_noises(planes, self.config)
                for planes in (batch["clean_sample"], batch["luminance"], batch["hints"], features)
            )
            noisy_sample = self.noise_scheduler.add_noise(clean_sample, noise, timesteps)
            model_input = build_model_input(noisy_sample, luminance, hints, features)
            output = self.unet(model_input, timesteps, return_dict=False)[0]
        loss = F.mse_loss(output.float(), training_target(self.noise_scheduler, clean_sample, noise, timesteps))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.parameters)
        if self.read_loss:
            loss.item()

    def photos_per_second(self) -> float:
        updates = max(1, PHOTOS // self.config.batch_size)
        self.update()
        clock = time.perf_counter()
        for _ in range(updates):
            self.update()
        return updates * self.config.batch_size / (time.perf_counter() - clock)


def take_turns(turns, results, arguments: dict) -> None:
    """Build a loop, say so, and time a round of it whenever asked for, until told to end."""
    if arguments["ours"]:
        keep_freed_memory()
    loop = Loop(**arguments)
    results.put("ready")
    while turns.get():
        results.put(loop.photos_per_second())


def main(folder: str, batch_size: int, resolutions: list[int]) -> None:
    peak = measure_peak(torch.device("cpu"), torch.bfloat16)
    print(f"{torch.get_num_threads()} threads; a large bfloat16 convolution reaches {peak / 1e12:.3f} TFLOP/s")
    context = multiprocessing.get_context("spawn")
    for resolution in resolutions:
        kinds = {
            "plain, float32": {"ours": False, "dtype": torch.float32},
            "plain, bfloat16": {"ours": False, "dtype": torch.bfloat16},
            "ours": {"ours": True, "dtype": torch.bfloat16},
            "ours, compiled": {"ours": True, "dtype": torch.bfloat16, "compiled": True},
        }
        queues = {name: (context.Queue(), context.Queue()) for name in kinds}
        for name, kind in kinds.items():
            arguments = {"folder": folder, "batch_size": batch_size, "resolution": resolution, **kind}
            context.Process(target=take_turns, args=(*queues[name], arguments)).start()
        for _, results in queues.values():
            results.get()
        speeds = {name: [] for name in kinds}
        for _ in range(ROUNDS):
            for name, (turns, results) in queues.items():
                turns.put(True)
                speeds[name].append(results.get())
        for turns, _ in queues.values():
            turns.put(False)
        config = parse_config(loop_flags(folder, batch_size, resolution, ours=True))
        flops = training_flops(config, resolution)
        medians = {name: statistics.median(values) for name, values in speeds.items()}
        for name, values in speeds.items():
            median = medians[name]
            print(
                f"{batch_size} crops of {resolution}, {name}:"
                f" {median:.1f} photos/s ({min(values):.1f} to {max(values):.1f}),"
                f" {median * flops / peak:.0%} of that, {median / medians['plain, float32']:.2f} and"
                f" {median / medians['plain, bfloat16']:.2f} times the plain loop in float32 and in bfloat16"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="folder of shards like train-0*.parquet")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--resolutions", type=int, nargs="+", default=[64, 128])
    arguments = parser.parse_args()
    main(arguments.photos, arguments.batch_size, arguments.resolutions)
