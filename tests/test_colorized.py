"""COLORIZED's own system as presets, and what its mistakes would have cost, where the best denoiser is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import seeded
from diffusers import DDPMScheduler
from diffusers.models.attention_processor import Attention
from optimization.training_config import TrainingConfig, parse_config
from photos.photo_dataset import SampleMaker
from PIL import Image

from colorize_pipeline import create_unet
from colorize_pipeline.likelihood import posterior, sampling_variances, to_clean_sample
from train import create_noise_scheduler


CONFIGS = Path(__file__).parents[1] / "train" / "configs"


@pytest.fixture(params=["linear", "cosine"])
def config(request) -> TrainingConfig:
    path = CONFIGS / f"colorized-{request.param}.json"
    return parse_config(["--config", str(path), "--dataset", "photos", "--output_dir", "run"])


def exact(scheduler: DDPMScheduler, **changes) -> DDPMScheduler:
    """The same scheduler in float64, ready for all its timesteps."""
    scheduler = DDPMScheduler.from_config(scheduler.config, **changes)
    scheduler.alphas_cumprod = (1 - scheduler.betas.double()).cumprod(dim=0)
    scheduler.set_timesteps(scheduler.config.num_train_timesteps)
    return scheduler


def sample(scheduler: DDPMScheduler, network, start: torch.Tensor) -> torch.Tensor:
    """Denoise `start` as the pipeline does, by what `network(x_t, alpha_cumprod)` takes for the noise."""
    generator = seeded(1)
    x = start
    for t in scheduler.timesteps:
        noise = network(x, scheduler.alphas_cumprod[t])
        x = scheduler.step(noise, t, x, generator=generator, return_dict=False)[0]
    return x


# ------------------------------------------------------------------------------------------------------- the presets


def test_network_has_the_size_of_colorized_and_no_attention():
    unet = create_unet("small", target="rgb", luminance_patch=1, with_hints=False)

    assert (unet.config.in_channels, unet.config.out_channels) == (4, 3)
    assert len(unet.config.block_out_channels) == 3
    assert unet.num_parameters() == pytest.approx(6.9e6, rel=0.05)
    assert not any(isinstance(module, Attention) for module in unet.modules())


def test_configurations_are_algorithm_one_on_any_photos(config):
    names = [set(json.loads(path.read_text())) for path in CONFIGS.glob("colorized-*.json")]
    assert not any({"dataset", "dataset_files", "source_weights", "output_dir"} & name for name in names)
    assert (config.prediction_type, config.num_train_timesteps) == ("epsilon", 300)
    config.check_photos_per_update(config.batch_size)

    schedule = create_noise_scheduler(config).alphas_cumprod

    # What the linear betas, made for a thousand steps, leave of the photo after 300: sampling starts without it.
    assert schedule[-1].sqrt() == pytest.approx(
        {"linear": 0.22, "squaredcos_cap_v2": 0.0}[config.beta_schedule], abs=3e-3
    )


def test_pipeline_steps_through_every_timestep(config):
    scheduler = create_noise_scheduler(config)

    scheduler.set_timesteps(config.num_inference_steps)

    assert scheduler.timesteps.tolist() == list(range(299, -1, -1))


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_all_steps_of_the_scheduler_are_algorithm_two(config, variance_type):
    scheduler = exact(create_noise_scheduler(config), variance_type=variance_type, clip_sample=False)
    start = torch.randn(1, 1000, generator=seeded(0), dtype=torch.float64)

    def network(x, alpha_cumprod):  # of any data: what it says need not make sense
        return torch.sin(3 * x) + alpha_cumprod

    sampled = sample(scheduler, network, start)

    betas = scheduler.betas.double()
    alphas, alphas_cumprod = 1 - betas, (1 - betas).cumprod(dim=0)
    x, generator = start, seeded(1)
    for t in range(299, -1, -1):
        x = (x - betas[t] / (1 - alphas_cumprod[t]).sqrt() * network(x, alphas_cumprod[t])) / alphas[t].sqrt()
        if t > 0:
            variance = betas[t]
            if variance_type == "fixed_small":
                variance = (1 - alphas_cumprod[t - 1]) / (1 - alphas_cumprod[t]) * betas[t]
            x = x + variance.sqrt() * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(sampled, x, rtol=1e-9, atol=1e-9)


def test_clip_only_moves_steps_whose_clean_sample_lies_outside_the_range(config):
    scheduler = exact(create_noise_scheduler(config))
    unclipped = exact(scheduler, clip_sample=False)
    schedule = scheduler.alphas_cumprod
    x = 2 * torch.randn(1, 1000, generator=seeded(0), dtype=torch.float64)

    for t in (270, 150, 1, 0):
        noise = torch.sin(3 * x)
        step, free_step = (
            kind.step(noise, t, x, generator=seeded(t), return_dict=False)[0] for kind in (scheduler, unclipped)
        )

        clean = to_clean_sample(schedule, noise, x, t, "epsilon")
        inside = clean.abs() <= 1
        assert 0 < inside.sum() < inside.numel()
        torch.testing.assert_close(step[inside], free_step[inside], rtol=1e-9, atol=1e-9)
        drawn = torch.randn(x.shape, generator=seeded(t), dtype=torch.float64) if t > 0 else 0
        deviation = sampling_variances(schedule, "fixed_large")[t].sqrt()
        torch.testing.assert_close(step, posterior(schedule, clean.clamp(-1, 1), x, t)[0] + deviation * drawn)


# ---------------------------------------------------------------------------------------- what its mistakes would cost


def test_two_noises_one_for_the_sample_and_one_for_the_loss_teach_nothing(config):
    # The least-squares fit is the best that training can reach; x_t, its powers and a constant are what it may use.
    number, deviation = 50_000, 0.5
    scheduler = exact(create_noise_scheduler(config))
    clean, noise, other_noise = torch.randn(3, number, 1, generator=seeded(0), dtype=torch.float64)
    uniform_noise = torch.rand(number, 1, generator=seeded(1), dtype=torch.float64)

    for t in (30, 150, 270):
        alpha_cumprod = scheduler.alphas_cumprod[t]
        noisy = scheduler.add_noise(deviation * clean, noise, torch.tensor([t]))
        features = torch.cat((torch.ones_like(noisy), noisy, noisy**2, noisy**3), dim=1)

        def learn(target, features=features):
            return features @ torch.linalg.lstsq(features, target).solution

        right = learn(noise)
        known = (1 - alpha_cumprod) / (alpha_cumprod * deviation**2 + 1 - alpha_cumprod)
        assert right.var().item() == pytest.approx(known.item(), abs=0.02)  # what x_t tells of its own noise
        for target, mean in ((other_noise, 0.0), (uniform_noise, 0.5)):
            wrong = learn(target)
            assert (wrong - mean).square().mean() < 20 / number  # four coefficients, each known to 1 / number


def test_uniform_noise_shows_training_little_of_what_sampling_starts_from(config):
    scheduler = exact(create_noise_scheduler(config))
    number, last = 50_000, torch.tensor([299])
    clean = 2 * torch.rand(number, 1, generator=seeded(0), dtype=torch.float64) - 1
    start = torch.randn(number, 1, generator=seeded(1), dtype=torch.float64)

    uniform = scheduler.add_noise(clean, torch.rand(number, 1, generator=seeded(2), dtype=torch.float64), last)
    normal = scheduler.add_noise(clean, torch.randn(number, 1, generator=seeded(2), dtype=torch.float64), last)

    share_seen = ((uniform.min() <= start) & (start <= uniform.max())).double().mean()
    assert share_seen < 0.5  # of single values: of a photo of 64 x 64 none
    assert normal.min() < -3 and normal.max() > 3
    assert normal.mean() == pytest.approx(0, abs=0.02) and normal.std() == pytest.approx(1, abs=0.04)
    assert uniform.mean() > 0.45 and uniform.std() < 0.35


def test_loss_of_absolute_errors_paints_rare_colors_half_as_often(config):
    # Data that is 1 in a tenth of all photos and else -1. Of the two noises that x_t may hold, the least absolute
    # error is that of the likelier one (the median), the least square that of their mean.
    rare, number = 0.1, 20_000
    scheduler = exact(create_noise_scheduler(config), clip_sample=False)
    start = torch.randn(number, 1, generator=seeded(0), dtype=torch.float64)

    def noise_of(best_clean):
        def network(x, alpha_cumprod):
            odds = 2 * x * alpha_cumprod.sqrt() / (1 - alpha_cumprod) + np.log(rare / (1 - rare))
            return (x - alpha_cumprod.sqrt() * best_clean(odds)) / (1 - alpha_cumprod).sqrt()

        return network

    squares = sample(scheduler, noise_of(lambda odds: 2 * odds.sigmoid() - 1), start)
    absolutes = sample(scheduler, noise_of(lambda odds: odds.sign()), start)

    def share_of_rare(painted):
        return (painted > 0).double().mean().item()

    assert share_of_rare(squares) == pytest.approx(rare, rel=0.1)
    assert share_of_rare(absolutes) < 0.65 * rare


def test_only_with_every_factor_the_posterior_leads_back_to_the_marginal(config):
    # What it says of x_{t-1}, averaged over q(x_t | x_0) for x_0 = 1, must be q(x_{t-1} | x_0). To its precision x_t
    # adds alpha_t / beta_t; a derivation that loses alpha_t adds one too much.
    schedule = exact(create_noise_scheduler(config)).alphas_cumprod
    previous, after = schedule[:-1], schedule[1:]
    alphas = after / previous

    def moments_back(factor):
        variance = 1 / (factor / (1 - alphas) + 1 / (1 - previous))
        of_noisy, of_clean = variance * alphas.sqrt() / (1 - alphas), variance * previous.sqrt() / (1 - previous)
        return of_clean + of_noisy * after.sqrt(), variance + of_noisy**2 * (1 - after), variance

    mean, back, variance = moments_back(alphas)
    wrong_mean, wrong_back, wrong_variance = moments_back(1.0)

    torch.testing.assert_close(variance, sampling_variances(schedule, "fixed_small")[1:])
    torch.testing.assert_close(mean, previous.sqrt())
    torch.testing.assert_close(back, 1 - previous)
    torch.testing.assert_close(1 / wrong_variance, 1 / variance + 1)
    assert (wrong_mean < mean).all() and (wrong_back < back).all()


def test_brightness_of_a_photo_reaches_the_network_which_minima_and_maxima_would_not_tell(config):
    from skimage.data import astronaut

    dark = Image.fromarray(astronaut()[::8, ::8] // 3)
    bright = dark.point(lambda code: 3 * code)

    def sample_of(photo):
        made = SampleMaker(config, create_noise_scheduler(config))(photo, position=0)
        return torch.cat((made["clean_sample"], made["luminance"]))  # (4, 64, 64)

    of_bright, of_dark = sample_of(bright), sample_of(dark)

    def normalized(planes):
        low, high = planes.amin(dim=(1, 2), keepdim=True), planes.amax(dim=(1, 2), keepdim=True)
        return (planes - low) / (high - low)

    torch.testing.assert_close(of_dark + 1, (of_bright + 1) / 3)
    assert (of_bright - of_dark).mean() > 0.5
    torch.testing.assert_close(normalized(of_dark), normalized(of_bright))  # with min-max the same photo


def test_frequencies_of_the_timestep_fall_to_one_in_ten_thousand():
    unet = create_unet("small", target="rgb", luminance_patch=1, with_hints=False)
    timesteps = torch.arange(300)

    embedding = unet.time_proj(timesteps)  # (300, 64)

    frequencies = 10_000.0 ** -(torch.arange(32) / 32)  # 1000 in COLORIZED's text, 10000 in its code and sources
    angles = timesteps[:, None] * frequencies
    torch.testing.assert_close(embedding, torch.cat((angles.cos(), angles.sin()), dim=1), rtol=0, atol=1e-4)
