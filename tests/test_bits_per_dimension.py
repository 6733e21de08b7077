"""The bound on the likelihood of a photo, for networks that know the photos perfectly or not at all."""

import math

import numpy as np
import pytest
import torch
from conftest import make_pipeline, make_scheduler, seeded
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel
from PIL import Image
from torch.distributions import Normal

from colorize_pipeline import ColorizationPipeline, create_unet
from colorize_pipeline.likelihood import bits_per_dimension, forward_marginal, from_clean_sample


class PerfectNetwork(UNet2DModel):
    """A network that knows of which chroma codes, and how often, photos are made: its v is that of E[x_0 | x_t]."""

    def forward(self, sample, timestep, return_dict=True):
        noisy = sample[:, :2]
        values = self.values.expand(len(noisy), 1, 1, 1, -1)
        mean, variance = forward_marginal(self.schedule, values, timestep)
        logarithms = self.log_probabilities - (noisy[..., None] - mean) ** 2 / (2 * variance)
        best = logarithms.softmax(dim=-1) @ self.values
        return (from_clean_sample(self.schedule, best, noisy, timestep, "v_prediction"),)


class PhotoKnower(UNet2DModel):
    """A network that knows one photo, and says anything at all where its planes are padded."""

    def forward(self, sample, timestep, return_dict=True):
        noisy = sample[:, : len(self.clean)]
        v = torch.full_like(noisy, 1e3)
        rows, columns = self.clean.shape[1:]
        inside = noisy[..., :rows, :columns]
        if (timestep == 0).any():
            self.padding = noisy[timestep == 0][..., rows:, :]
        v[..., :rows, :columns] = from_clean_sample(self.schedule, self.clean, inside, timestep, "v_prediction")
        return (v,)


def make_blocks(rows: int, columns: int, contrast: int, seed: int) -> tuple[np.ndarray, torch.Tensor]:
    """RGB codes, and the chroma codes of them that a JPEG file would hold, less 128."""
    rgb = np.random.default_rng(seed).integers(128 - contrast, 128 + contrast, (rows, columns, 3), dtype=np.uint8)
    red, green, blue = rgb.astype(np.float64).transpose(2, 0, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return rgb, torch.from_numpy(np.stack(((blue - luma) / 1.772, (red - luma) / 1.402)).round())


def make_perfect_pipeline(num_timesteps: int) -> ColorizationPipeline:
    unet = PerfectNetwork.from_config(create_unet("tiny").config).double()
    scheduler = make_scheduler("squaredcos_cap_v2", True, num_timesteps)
    codes = torch.arange(-64, 64, dtype=torch.float64)
    unet.schedule, unet.values = scheduler.alphas_cumprod, codes / 255 / 0.14
    unet.log_probabilities = Normal(0.0, 15.0).log_prob(codes).log_softmax(dim=0)
    return ColorizationPipeline(unet=unet, scheduler=scheduler, chroma_scale=0.14)


def test_bits_per_dimension_of_a_perfect_network_are_the_length_of_the_best_code():
    rgb, codes = make_blocks(20, 16, 25, seed=0)
    photo = Image.fromarray(rgb.repeat(4, axis=0).repeat(4, axis=1))
    pipeline = make_perfect_pipeline(100)
    best_length = -pipeline.unet.log_probabilities[codes.long() + 64].mean().item() / math.log(2)

    bits = bits_per_dimension(pipeline, photo, generator=seeded(0), processing_resolution=0)
    again = bits_per_dimension(pipeline, photo, generator=seeded(0), processing_resolution=0)

    assert bits.standard_error < 0.05
    assert abs(bits.total - best_length) < 4 * bits.standard_error
    assert bits.total == pytest.approx(bits.prior + bits.terms.sum().item()) and bits.decoder == bits.terms[0]
    assert bits.total == again.total


def test_sampled_timesteps_estimate_the_bound_and_their_own_error_without_bias():
    photo = Image.fromarray(make_blocks(8, 8, 25, seed=1)[0].repeat(4, axis=0).repeat(4, axis=1))
    pipeline = make_perfect_pipeline(50)

    def estimate(number, seed):
        return bits_per_dimension(
            pipeline, photo, generator=seeded(seed), processing_resolution=0, num_timesteps=number, batch_size=100
        )

    exact = [estimate(None, seed) for seed in range(20)]
    for number in (2, 8):
        sampled = [estimate(number, seed) for seed in range(100, 250)]

        totals = torch.tensor([bits.total for bits in sampled])
        expected = torch.tensor([bits.total for bits in exact]).mean()
        errors = torch.tensor([bits.standard_error for bits in sampled])
        assert abs(totals.mean() - expected) < 4 * math.hypot(
            totals.std() / 150**0.5, exact[0].standard_error / 20**0.5
        )
        assert 0.8 < errors.square().mean().sqrt() / totals.std() < 1.25
        assert sum(not math.isnan(term) for term in sampled[0].terms) <= 2 * number - 1


@pytest.mark.parametrize("target", ["chroma", "rgb"])
def test_only_the_values_that_are_painted_count_and_padding_does_not(target):
    # Whoever knows the photo pays for the decoder alone: the middle of a normal distribution of variance beta_1.
    pipeline = make_pipeline(target)
    patch = pipeline.config.luminance_patch
    rgb, codes = make_blocks(7, 5, 100, seed=2)  # odd, so that both sides are padded
    unit = 255 * pipeline.config.chroma_scale if target == "chroma" else 127.5
    unet = PhotoKnower.from_config(pipeline.unet.config).double()
    unet.schedule = pipeline.scheduler.alphas_cumprod.double()
    unet.clean = codes / unit if target == "chroma" else torch.from_numpy(rgb / unit - 1).permute(2, 0, 1)
    pipeline.unet = unet
    photo = Image.fromarray(rgb.repeat(patch, axis=0).repeat(patch, axis=1))

    bits = bits_per_dimension(
        pipeline, [photo, photo], generator=seeded(0), processing_resolution=0, variance_type="fixed_small"
    )

    deviation = (1 - unet.schedule[0].item()) ** 0.5
    assert bits.total == pytest.approx(-math.log2(math.erf(0.5 / unit / deviation / 2**0.5)), rel=1e-6)
    assert bits.prior == 0 and bits.terms[1:].max() < 1e-9
    # Nor does padding tell of the colors beside it: in it is gray, and noise.
    assert 0 < unet.padding.abs().max() < 6 * deviation


@pytest.mark.parametrize("target", ["chroma", "rgb"])
def test_untrained_networks_get_finite_terms_at_zero_terminal_snr(target):
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8))
    pipeline = make_pipeline(target)

    bits = bits_per_dimension(pipeline, photo, generator=seeded(0), processing_resolution=16, batch_size=64)

    assert pipeline.scheduler.alphas_cumprod[-1] == 0 and bits.prior == 0
    assert bits.terms.isfinite().all() and (bits.terms > 0).all()
    assert bits.total > 7  # knows nothing: 8 bits is the best code


def test_what_cannot_be_bounded_is_refused():
    pipeline = make_pipeline()
    photo = Image.new("RGB", (16, 16))

    def refused(message, **kwargs):
        with pytest.raises(ValueError, match=message):
            bits_per_dimension(pipeline, photo, **{"generator": seeded(0), "num_timesteps": 2, **kwargs})

    refused("num_timesteps", num_timesteps=1)
    refused("num_timesteps", num_timesteps=1001)
    refused("batch_size", batch_size=0)
    refused("variance_type", variance_type="learned")
    pipeline.scheduler = DDPMScheduler(rescale_betas_zero_snr=True, prediction_type="epsilon")
    refused("zero terminal SNR")
    pipeline.scheduler = DDPMScheduler(prediction_type="flow_prediction")
    refused("prediction_type")
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler()
    refused("alphas_cumprod")
