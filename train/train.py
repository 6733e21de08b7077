"""
Train a colorizer:

    accelerate launch train/train.py --config train/configs/small.json --dataset my_photos/ --output_dir runs/small

To resume a run that was stopped or killed, give the same command again.
"""

import copy
import json
import math
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import push_to_hub
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel
from optimization.muon import MuonAdamW
from optimization.pretrained_encoder import FeatureEncoder, load_pretrained_encoder, prepare_fine_tuning
from optimization.training_checkpoints import StopRequest, load_newest_checkpoint, save_checkpoint
from optimization.training_config import TrainingConfig, parse_config
from optimization.training_speed import keep_freed_memory, lay_out_group_norms, measure_peak, training_flops
from photos.photo_dataset import create_dataloader
from scoring.training_validation import Validation

from colorize_pipeline import ColorizationPipeline, build_model_input, create_unet


AUTOCAST_TYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def main(config: TrainingConfig) -> None:
    # 1. Accelerator, output folder, and what a signal asks for
    output_dir = Path(config.output_dir)
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # unless told so, it takes each of several CPU processes for alone
        mixed_precision=config.mixed_precision,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        log_with="tensorboard",
        project_dir=output_dir,
    )
    if accelerator.device.type == "cpu" and config.mixed_precision == "fp16":
        raise ValueError("`mixed_precision` 'fp16' needs a GPU: on a CPU choose 'bf16' or 'no'.")
    photos_per_batch = config.batch_size * accelerator.num_processes
    photos_per_update = photos_per_batch * config.gradient_accumulation_steps
    config.check_photos_per_update(photos_per_update)
    if accelerator.is_main_process:
        output_dir.mkdir(parents=True, exist_ok=True)
        config.check_same_run(output_dir / "training_config.json")
    accelerator.init_trackers("logs")
    if accelerator.device.type == "cpu":  # launchers leave one thread to each process
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        torch.set_num_threads(max(1, cores // accelerator.num_processes))
        keep_freed_memory()
    stop = StopRequest()

    # 2. Network, image encoder, their running average, noise scheduler, optimizer
    torch.manual_seed(config.seed)  # for the initial weights; all other randomness comes with the samples
    noise_scheduler = create_noise_scheduler(config)
    pipeline = create_pipeline(config, noise_scheduler)  # holds the averaged weights; it is validated and saved
    unet = copy.deepcopy(pipeline.unet).train().to(accelerator.device, memory_format=torch.channels_last)
    if accelerator.device.type == "cpu" and not config.compile:  # compiling writes norms anew
        lay_out_group_norms(unet)
    encoder, fine_tuned = None, {}
    if config.image_encoder:
        image_encoder = copy.deepcopy(pipeline.image_encoder)
        fine_tuned = prepare_fine_tuning(image_encoder, config.encoder_learning_rate)
        encoder = FeatureEncoder(image_encoder).to(accelerator.device, memory_format=torch.channels_last)
    averaged = [*unet.parameters(), *fine_tuned.values()]
    ema = EMAModel(averaged, decay=config.ema_max_decay, foreach=True)
    optimizer = MuonAdamW(unet.parameters(), config.weight_decay, fine_tuned.values())
    model, encoder, optimizer = accelerator.prepare(unet, encoder, optimizer)
    accelerator.register_for_checkpointing(ema)
    if config.compile:
        model.compile()
        if encoder:
            encoder.compile()

    # 3. Where the run stands, and the photos from there on
    images_seen = load_newest_checkpoint(accelerator, output_dir)
    config.check_photos_per_update(photos_per_update, images_seen)
    if accelerator.is_main_process:
        (output_dir / "training_config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    ema.to(accelerator.device)  # after loading, which leaves it on the CPU
    with accelerator.main_process_first():  # where photos are decoded once, by one process for all
        dataloader = create_dataloader(
            config, noise_scheduler, images_seen, accelerator.process_index, accelerator.num_processes
        )
    pipeline.to(accelerator.device)
    validation = Validation(config) if accelerator.is_main_process and config.validation_photos else None
    peak = accelerator.num_processes * measure_peak(accelerator.device, AUTOCAST_TYPES[config.mixed_precision])
    accelerator.print(
        f"{sum(p.numel() for p in unet.parameters()) / 1e6:.1f} M parameters, {accelerator.num_processes} process(es),"
        f" {photos_per_update} photos per update, photos {images_seen} to {config.total_photos},"
        f" convolutions reach {peak / 1e12:.3g} TFLOP/s"
    )

    flops = {resolution: training_flops(config, resolution) for resolution in config.resolutions}

    # 4. Train
    recent, unreadable, clock = [], 0, time.perf_counter()  # recent: (loss, names) of the batches not yet logged
    for batch in dataloader:
        with accelerator.accumulate(model):
            for group, rate in zip(
                optimizer.param_groups,
                (config.muon_learning_rate, config.learning_rate, config.encoder_learning_rate),
                strict=True,
            ):
                group["lr"] = rate * config.learning_rate_factor(images_seen)

            clean_sample, noise, luminance, hints, timesteps = (
                batch[name].to(accelerator.device, non_blocking=True)
                for name in ("clean_sample", "noise", "luminance", "hints", "timesteps")
            )
            features = None
            if encoder:
                with torch.set_grad_enabled(images_seen >= config.frozen_encoder_photos):
                    features = encoder(batch["encoder_luminance"].to(accelerator.device), clean_sample.shape[2:])
                features = features * batch["conditioned"].to(accelerator.device)[:, None, None, None]
            clean_sample, luminance, hints, features = (
                repeat_for_noises(planes, config) for planes in (clean_sample, luminance, hints, features)
            )
            noise, timesteps = flatten_noises(noise), flatten_noises(timesteps)
            noisy_sample = noise_scheduler.add_noise(clean_sample, noise, timesteps)
            model_input = build_model_input(noisy_sample, luminance, hints if config.with_hints else None, features)
            model_output = model(model_input, timesteps, return_dict=False)[0]
            target = training_target(noise_scheduler, clean_sample, noise, timesteps)
            loss = F.mse_loss(model_output.float(), target)

            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(averaged, config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        images_seen += photos_per_batch
        recent.append((loss.detach(), batch["name"]))
        unreadable += int(batch["unreadable"].sum())
        if not accelerator.sync_gradients:
            continue
        ema.step(averaged)

        # 5. Log, save, validate: at multiples of a number of photos, so where they would fall without a resume
        finished = images_seen >= config.total_photos
        stopping = stop.requested(accelerator)
        log, save, validate = (
            interval and (finished or images_seen // interval > (images_seen - photos_per_update) // interval)
            for interval in (config.log_photos, config.checkpoint_photos, config.validation_photos)
        )
        if log or save or stopping:
            losses = finite_losses(recent)  # before every save: a checkpoint never holds the weights after a NaN
            photos_per_second = len(recent) * photos_per_batch / (time.perf_counter() - clock)
            passed_over = torch.tensor([unreadable], device=accelerator.device)
            values = {
                "loss": accelerator.gather(losses).mean().item(),
                "images_per_second": photos_per_second,
                "share_of_peak": photos_per_second * flops[config.resolution_at(images_seen - 1)] / peak,
                "muon_learning_rate": optimizer.param_groups[0]["lr"],
                "learning_rate": optimizer.param_groups[1]["lr"],
                "unreadable_photos": accelerator.gather(passed_over).sum().item(),
            }
            accelerator.log(values, step=images_seen)
            accelerator.print(images_seen, "photos:", *(f"{key} {value:.6g}" for key, value in values.items()))
            recent, clock = [], time.perf_counter()
        if save or stopping:
            save_checkpoint(accelerator, output_dir, images_seen, config.checkpoints_total_limit)
        if stopping:
            accelerator.end_training()
            sys.exit(stop.exit_code)
        if validate and accelerator.is_main_process:
            validation_start = time.perf_counter()
            save_pipeline(pipeline, ema, fine_tuned, output_dir)
            resolution = config.resolution_at(images_seen - 1)
            accelerator.log(validation.run(pipeline, resolution, images_seen), step=images_seen)
            clock += time.perf_counter() - validation_start
    if accelerator.is_main_process:  # here and not above: a run killed after its last checkpoint resumes here
        save_pipeline(pipeline, ema, fine_tuned, output_dir)
    accelerator.end_training()
    if config.push_to_hub and accelerator.is_main_process:
        push_to_hub.main(push_to_hub.parse_arguments([str(output_dir / "pipeline"), config.hub_model_id]))


def create_noise_scheduler(config: TrainingConfig) -> DDPMScheduler:
    """
    Build the schedule, with the clip range that no clean sample exceeds.

    Over all T timesteps its `step` is algorithm 2 of Ho et al. 2020 but for the clip, which the paper's algorithm has
    not: where a prediction stands for an x_0 out of that range, the step goes to the nearest x_0 inside.
    """
    return DDPMScheduler(
        num_train_timesteps=config.num_train_timesteps,
        beta_schedule=config.beta_schedule,
        prediction_type=config.prediction_type,
        rescale_betas_zero_snr=config.rescale_betas_zero_snr,
        variance_type=config.variance_type,
        timestep_spacing="trailing",  # the first sampling step starts at t = T, where training saw pure noise
        clip_sample_range=1.0 if config.target == "rgb" else 0.5 / config.chroma_scale,
    )


def create_pipeline(config: TrainingConfig, noise_scheduler: DDPMScheduler) -> ColorizationPipeline:
    """Build the pipeline that training starts from: new, or with the weights of `initial_pipeline`."""
    image_encoder = load_pretrained_encoder(config.image_encoder) if config.image_encoder else None
    pipeline = ColorizationPipeline(
        unet=create_unet(**config.network).eval(),
        scheduler=noise_scheduler,
        image_encoder=image_encoder,
        chroma_scale=config.chroma_scale,
        luminance_patch=config.luminance_patch,
        default_num_inference_steps=config.num_inference_steps,
        default_processing_resolution=config.processing_resolution or config.resolutions[-1],
        encoder_resolution=config.encoder_resolution,
    )
    if config.initial_pipeline:
        trained = ColorizationPipeline.from_pretrained(config.initial_pipeline, dtype=torch.float32)
        pipeline.unet.load_state_dict(trained.unet.state_dict())
        if image_encoder:
            image_encoder.load_state_dict(trained.image_encoder.state_dict())
    return pipeline


def save_pipeline(pipeline: ColorizationPipeline, ema: EMAModel, fine_tuned: Iterable[str], output_dir: Path) -> None:
    """Give the pipeline the averaged weights, and save it."""
    encoder = dict(pipeline.image_encoder.named_parameters()) if pipeline.image_encoder else {}
    ema.copy_to([*pipeline.unet.parameters(), *(encoder[name] for name in fine_tuned)])
    pipeline.save_pretrained(output_dir / "pipeline")


def repeat_for_noises(planes: torch.Tensor | None, config: TrainingConfig) -> torch.Tensor | None:
    """Give the planes `(B, ...)` of each photo as often as it is noised: it is seen once and noised several times."""
    return None if planes is None else torch.cat([planes] * config.noises_per_photo)  # which keeps channels last


def flatten_noises(drawn: torch.Tensor) -> torch.Tensor:
    """Bring what is drawn for each noise of each photo `(B, N, ...)` into the order of [`repeat_for_noises`]."""
    return drawn.transpose(0, 1).flatten(end_dim=1)


def training_target(
    noise_scheduler: DDPMScheduler, clean_sample: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """Give what the network should predict, in the scheduler's own terms."""
    if noise_scheduler.config.prediction_type == "v_prediction":
        return noise_scheduler.get_velocity(clean_sample, noise, timesteps)
    return noise


def finite_losses(recent: list[tuple[torch.Tensor, list[str]]]) -> torch.Tensor:
    """
    Stack the losses of some batches.

    Raises:
        `FloatingPointError`: if one is not finite, with the photos of its batch. The newest checkpoint is older.
    """
    losses = torch.stack([loss for loss, _ in recent])
    for loss, (_, names) in zip(losses.tolist(), recent, strict=True):
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"The loss is {loss}. The photos of that batch: {', '.join(names)}. Look at them, or lower"
                " `muon_learning_rate` and `learning_rate`, and give the same command again to go on from the newest"
                " checkpoint; if it ends here again, delete that one and go on from the one before."
            )
    return losses


if __name__ == "__main__":
    main(parse_config())
