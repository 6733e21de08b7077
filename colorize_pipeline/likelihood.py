"""
How many bits a color costs: the variational bound of a diffusion model, and the Gaussians that it is made of.

A schedule is `alphas_cumprod` of shape `(T,)`: that of a diffusers scheduler, best turned to float64. Its entry t
belongs to step t + 1 of the papers; before the first comes 1. `timesteps` is an `int` or an integer tensor of shape
`()` or `(batch_size,)` in `[0, T - 1]`. Samples, means and terms are `(batch_size, ...)`; variances broadcast to them.

With zero terminal SNR `alphas_cumprod[T - 1]` is exactly 0. There x_t is the noise and the score is -x_t, whatever
x_0: neither gives x_0 back. v is -x_0, and does. So the bound is computed from x_0, which v gives without a division:
its prior term is exactly 0, and the last transition costs what guessing x_0 from luminance alone costs.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .color import rgb_to_chroma
from .image_processor import build_model_input
from .pipeline import ColorizationPipeline


# Variance of the clean sample that the unit of the network is made for (0.5 squared). It only chooses which timesteps
# are worth drawing: another value costs accuracy, never correctness.
_TYPICAL_VARIANCE = 0.25


@dataclass(frozen=True, eq=False)
class BitsPerDimension:
    """
    The bound on the length of a code for some photos' colors, in bits per dimension: smaller is better.

    Args:
        total (`float`): The bound: L_T, all L_{t-1} and L_0.
        standard_error (`float`): Of `total` for these very photos, from the draws of noises and timesteps.
        prior (`float`): L_T, without error.
        decoder (`float`): L_0.
        terms (`torch.Tensor` of shape `(T,)`, float64): L_0, L_1, ... L_{T-1}; NaN where a timestep was not drawn.
    """

    total: float
    standard_error: float
    prior: float
    decoder: float
    terms: Tensor = field(repr=False)


def forward_marginal(alphas_cumprod: Tensor, clean_sample: Tensor, timesteps: Tensor | int) -> tuple[Tensor, Tensor]:
    """Give mean and variance of q(x_t | x_0). Source: Ho et al. 2020, equation 4."""
    alpha_cumprod = _at(alphas_cumprod, timesteps, clean_sample)
    return alpha_cumprod.sqrt() * clean_sample, 1 - alpha_cumprod


def forward_step(alphas_cumprod: Tensor, previous_sample: Tensor, timesteps: Tensor | int) -> tuple[Tensor, Tensor]:
    """Give mean and variance of q(x_t | x_{t-1}). Source: Ho et al. 2020, equation 2."""
    alpha = _at(alphas_cumprod / _shifted(alphas_cumprod), timesteps, previous_sample)
    return alpha.sqrt() * previous_sample, 1 - alpha


def posterior(
    alphas_cumprod: Tensor, clean_sample: Tensor, noisy_sample: Tensor, timesteps: Tensor | int
) -> tuple[Tensor, Tensor]:
    """
    Give mean and variance of q(x_{t-1} | x_t, x_0); for a predicted x_0 the mean is the sampler's. At t = 0: x_0, 0.

    Source: Ho et al. 2020, equations 6 and 7.
    """
    alpha_cumprod = _at(alphas_cumprod, timesteps, noisy_sample)
    previous = _at(_shifted(alphas_cumprod), timesteps, noisy_sample)
    alpha = alpha_cumprod / previous
    of_clean = previous.sqrt() * (1 - alpha) / (1 - alpha_cumprod)
    of_noisy = alpha.sqrt() * (1 - previous) / (1 - alpha_cumprod)
    return of_clean * clean_sample + of_noisy * noisy_sample, (1 - previous) / (1 - alpha_cumprod) * (1 - alpha)


def sampling_variances(alphas_cumprod: Tensor, variance_type: str) -> Tensor:
    """
    Give the variance that the sampler adds at each timestep, shape `(T,)`.

    Args:
        variance_type (`str`): `"fixed_large"`, beta_t, exact for standard normal data; or `"fixed_small"`, that of the
            posterior, exact for a single point and 0 at the first timestep.

    Raises:
        `ValueError`: for another `variance_type`.

    Source: Ho et al. 2020, section 3.2.
    """
    previous = _shifted(alphas_cumprod)
    betas = 1 - alphas_cumprod / previous
    if variance_type == "fixed_large":
        return betas
    if variance_type == "fixed_small":
        return (1 - previous) / (1 - alphas_cumprod) * betas
    raise ValueError(f"`variance_type` must be 'fixed_small' or 'fixed_large', but got {variance_type!r}.")


def gaussian_kl(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> Tensor:
    """
    Give KL(N(mean, variance) || N(other_mean, other_variance)) of each dimension, in nats, for positive variances.

    Source: Kingma and Welling 2014, appendix B, for a standard normal; the same integral for any other.
    """
    ratio = variance / other_variance
    return 0.5 * (ratio - 1 - ratio.log() + (mean - other_mean).square() / other_variance)


def prior_term(alphas_cumprod: Tensor, clean_sample: Tensor) -> Tensor:
    """
    Give L_T = KL(q(x_T | x_0) || N(0, I)) of each dimension, in nats, at least 0; exactly 0 with zero terminal SNR.

    Source: Ho et al. 2020, equation 5.
    """
    mean, variance = forward_marginal(alphas_cumprod, clean_sample, len(alphas_cumprod) - 1)
    return gaussian_kl(mean, variance, torch.zeros_like(mean), torch.ones_like(variance))


def transition_term(
    alphas_cumprod: Tensor, clean_sample: Tensor, predicted_sample: Tensor, timesteps: Tensor | int, variance_type: str
) -> Tensor:
    """
    Give L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) of each dimension, in nats, for timesteps from 1 on.

    `predicted_sample` is what the network takes x_0 for, and `variance_type` as in [`sampling_variances`].

    Source: Ho et al. 2020, equation 5. For `"fixed_small"` it is half of SNR(t-1) - SNR(t) times the squared error of
    x_0: Kingma et al. 2021 (Variational Diffusion Models), the diffusion loss in discrete time.
    """
    noisy_sample = torch.zeros_like(clean_sample)  # any: x_t has the same part in both means
    mean, variance = posterior(alphas_cumprod, clean_sample, noisy_sample, timesteps)
    model_mean, _ = posterior(alphas_cumprod, predicted_sample, noisy_sample, timesteps)
    model_variance = _at(sampling_variances(alphas_cumprod, variance_type), timesteps, clean_sample)
    return gaussian_kl(mean, variance, model_mean, model_variance)


def discretized_gaussian_log_likelihood(
    clean_sample: Tensor, mean: Tensor, variance: Tensor, *, num_bins: int = 256, low: float = -1, high: float = 1
) -> Tensor:
    """
    Give the log probability of quantized values under a Gaussian cut into bins, in nats; L_0 is minus this.

    Args:
        clean_sample (`torch.Tensor`): Some of the `num_bins` equally spaced values from `low` to `high`.
        mean (`torch.Tensor`), variance (`torch.Tensor`): Of the Gaussian; they broadcast to the values.
        num_bins (`int`), low (`float`), high (`float`): The values that can occur, the centers of the bins. The first
            and the last bin reach to infinity, so that all probabilities sum to 1. Far tails have no floor, which
            would break the bound.

    Source: Ho et al. 2020, equation 13.
    """
    half_bin = (high - low) / (num_bins - 1) / 2
    deviation = variance.sqrt()
    lower = torch.where(clean_sample < low + half_bin, -math.inf, (clean_sample - half_bin - mean) / deviation)
    upper = torch.where(clean_sample > high - half_bin, math.inf, (clean_sample + half_bin - mean) / deviation)
    # Mirrored into the left tail, where the logarithm of the distribution function keeps its digits.
    right = lower + upper > 0
    lower, upper = torch.where(right, -upper, lower), torch.where(right, -lower, upper)
    log_upper = torch.special.log_ndtr(upper)
    return log_upper + torch.log(-torch.expm1(torch.special.log_ndtr(lower) - log_upper))


def from_clean_sample(
    alphas_cumprod: Tensor, clean_sample: Tensor, noisy_sample: Tensor, timesteps: Tensor | int, prediction_type: str
) -> Tensor:
    """
    Give what a network should predict of x_0: `"epsilon"`, `"sample"`, `"v_prediction"` or `"score"`.

    The score is that of q(x_t | x_0); with E[x_0 | x_t] for `clean_sample`, that of the noisy data, grad log q(x_t).

    Raises:
        `ValueError`: for another `prediction_type`.

    Source: Ho et al. 2020, equation 15; v: Salimans and Ho 2022, appendix D; score: Tweedie's formula, Efron 2011.
    """
    of_noisy, of_clean = _prediction_coefficients(alphas_cumprod, noisy_sample, timesteps, prediction_type)
    return of_noisy * noisy_sample + of_clean * clean_sample


def to_clean_sample(
    alphas_cumprod: Tensor, prediction: Tensor, noisy_sample: Tensor, timesteps: Tensor | int, prediction_type: str
) -> Tensor:
    """
    Give the x_0 that a prediction of any type stands for: the inverse of [`from_clean_sample`].

    Raises:
        `ValueError`: for another `prediction_type`, and for noise and score where `alphas_cumprod` is 0.
    """
    of_noisy, of_clean = _prediction_coefficients(alphas_cumprod, noisy_sample, timesteps, prediction_type)
    if (of_clean == 0).any():
        raise ValueError(f"`prediction` of {prediction_type!r} does not tell x_0 at zero SNR. Predict v or x_0 there.")
    return (prediction - of_noisy * noisy_sample) / of_clean


def simple_loss_weights(alphas_cumprod: Tensor, variance_type: str) -> Tensor:
    """
    Give the weight of the squared error of the noise in the bound, shape `(T,)`; L_simple is the bound without it.

    Times SNR(t) it weighs the squared error of x_0, times `alphas_cumprod` that of v. Infinite at zero SNR, where the
    noise is x_t itself, and at the first timestep with `"fixed_small"`, where the bound has the decoder instead.

    Source: Ho et al. 2020, equations 12 and 14.
    """
    alphas = alphas_cumprod / _shifted(alphas_cumprod)
    divisor = 2 * sampling_variances(alphas_cumprod, variance_type) * alphas * (1 - alphas_cumprod)
    return torch.where(divisor > 0, (1 - alphas).square() / divisor.where(divisor > 0, 1.0), math.inf)


@torch.no_grad()
def bits_per_dimension(
    pipeline: ColorizationPipeline,
    photos: Image.Image | list,
    *,
    generator: torch.Generator,
    num_timesteps: int | None = None,
    processing_resolution: int | None = None,
    variance_type: str = "fixed_large",
    batch_size: int = 16,
) -> BitsPerDimension:
    """
    Bound how many bits the colors of photos cost under a model that sees their luminance, and no hint.

    The dimensions are the values that the network paints: Cb and Cr, averaged over patches of luma at the processing
    resolution and rounded to the 256 codes of ITU-T T.871, of which 0 is one; or RGB at 8 bit for a network of RGB.
    What pads the planes does not count, and holds noised gray: true colors there would tell of those beside them. The
    model is what ancestral sampling over all timesteps draws, clipped as the scheduler is set to, with the decoder of
    variance beta_1 at its end. Compare at equal `luminance_patch` and processing resolution only.

    Args:
        pipeline ([`ColorizationPipeline`]): Its scheduler must hold `alphas_cumprod`.
        photos (as the pipeline takes them): Color photos, read at 8 bit. Each counts by its number of dimensions.
        generator (`torch.Generator`): Of the CPU; the only source of randomness.
        num_timesteps (`int`, *optional*): `None` takes all T, each with two noises: `2 * T` samples of a photo go
            through the network. From 2 to T - 1, the decoder and `num_timesteps - 1` strata of the other timesteps,
            with two draws from each. The bound and its variance are estimated without bias in either case.
        processing_resolution (`int`, *optional*): As in the pipeline's call.
        variance_type (`str`, *optional*, defaults to `"fixed_large"`): As in [`sampling_variances`]. With
            `"fixed_small"` even a perfect network of smooth data is 0.6 bits above the entropy at T = 1000.
        batch_size (`int`, *optional*, defaults to 16): Noisy samples that go through the network together.

    Raises:
        `ValueError`: if an argument is out of range, or the scheduler has no such schedule or predicts noise at 0 SNR.

    Source: Ho et al. 2020, equations 5 and 13.
    """
    scheduler, processor = pipeline.scheduler, pipeline.image_processor
    photos = processor.split(photos)
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(f"`pipeline.scheduler` must hold `alphas_cumprod`, but {type(scheduler).__name__} does not.")
    schedule = scheduler.alphas_cumprod.double().cpu()  # (T,)
    if scheduler.config.prediction_type == "epsilon" and schedule[-1] == 0:
        raise ValueError("`pipeline.scheduler` predicts noise, which does not tell x_0 at its zero terminal SNR.")
    if not photos or batch_size < 1 or num_timesteps not in (None, *range(2, len(schedule) + 1)):
        raise ValueError(
            f"`photos` and `batch_size` must be at least one and `num_timesteps` from 2 to {len(schedule)}, but got"
            f" {len(photos)}, {batch_size} and {num_timesteps}."
        )
    if processing_resolution is None:
        processing_resolution = pipeline.config.default_processing_resolution
    clip = scheduler.config.clip_sample_range if scheduler.config.get("clip_sample") else math.inf

    nats, variance, prior, dimensions = 0.0, 0.0, 0.0, 0
    sums, counts = torch.zeros(2, len(schedule), dtype=torch.float64)
    for photo in photos:
        luma = processor.to_codes(photo, "L")
        luminance, size = processor.preprocess(luma, processing_resolution)  # (1, kh, kw)
        clean, bins = _quantized_sample(processor.to_eight_bit(processor.to_codes(photo, "RGB")), size, pipeline)
        height, width = (side // pipeline.config.luminance_patch for side in luminance.shape[1:])
        features = pipeline.encode(luma, size, (height, width)).cpu()
        padded = F.pad(clean, (0, width - size[1], 0, height - size[0]))  # (1, C, h, w), gray where padded
        timesteps, weights = _draw_timesteps(schedule, num_timesteps, generator)  # (strata, 2)
        drawn, terms = timesteps.flatten(), []
        for t in drawn.split(batch_size):
            mean, noise_variance = forward_marginal(schedule, padded.expand(len(t), -1, -1, -1), t)
            noisy = mean + noise_variance.sqrt() * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
            hints = torch.zeros(len(t), 3, height, width) if pipeline.accepts_hints else None
            seen, described = (planes.expand(len(t), -1, -1, -1) for planes in (luminance, features))
            model_input = build_model_input(noisy, seen, hints, described)
            model_input = model_input.to(pipeline.device, pipeline.unet.dtype)
            output = pipeline.unet(model_input, t.to(pipeline.device), return_dict=False)[0].cpu().double()
            predicted = to_clean_sample(schedule, output, noisy, t, scheduler.config.prediction_type)
            predicted = predicted.clamp(-clip, clip)[..., : size[0], : size[1]]
            term = transition_term(schedule, clean, predicted, t, variance_type)
            decoded = -discretized_gaussian_log_likelihood(clean, predicted, 1 - schedule[0], **bins)
            terms.append(torch.where(t == 0, decoded.sum(dim=(1, 2, 3)), term.sum(dim=(1, 2, 3))))

        terms = torch.cat(terms)  # (2 * strata,), in nats
        pairs = weights * terms.view(-1, 2)
        nats += pairs.mean(dim=1).sum().item()
        variance += (pairs.diff(dim=1) / 2).square().sum().item()  # of the mean of two draws, without bias
        prior += prior_term(schedule, clean).sum().item()
        dimensions += clean.numel()
        sums.index_add_(0, drawn, terms)
        counts.index_add_(0, drawn, torch.full_like(terms, clean.numel()))

    bit = math.log(2) * dimensions
    terms = sums / counts / math.log(2)
    return BitsPerDimension((prior + nats) / bit, math.sqrt(variance) / bit, prior / bit, terms[0].item(), terms)


def _quantized_sample(codes: Tensor, size: tuple[int, int], pipeline: ColorizationPipeline) -> tuple[Tensor, dict]:
    """Give what the network should paint, `(1, C, rows, columns)` in its unit, and the values that can occur there."""
    patch = pipeline.config.luminance_patch
    rgb = codes.permute(2, 0, 1)[None].double() / 255  # (1, 3, H, W)
    rgb = F.interpolate(rgb, size=[side * patch for side in size], mode="bicubic", antialias=True).clamp(0, 1)
    if pipeline.unet.config.out_channels == 3:
        return F.avg_pool2d(rgb, patch).mul(255).round() * 2 / 255 - 1, {"low": -1.0, "high": 1.0}
    unit = 255 * pipeline.config.chroma_scale
    codes = F.avg_pool2d(rgb_to_chroma(rgb), patch).mul(255).round().clamp(-128, 127)
    return codes / unit, {"low": -128 / unit, "high": 127 / unit}


def _draw_timesteps(schedule: Tensor, num_timesteps: int | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw timesteps and the factors of their terms, `(strata, 2)`: the mean over pairs, summed, estimates the sum."""
    if num_timesteps in (None, len(schedule)):
        timesteps = torch.arange(len(schedule))[:, None].expand(-1, 2)
        return timesteps, torch.ones(timesteps.shape, dtype=torch.float64)
    # The terms fall like 1 / t: drawn in proportion to what they are for Gaussian data, they count about alike.
    snr = schedule / (1 - schedule)
    probabilities = -snr.diff() / (1 + snr[1:] * _TYPICAL_VARIANCE)
    probabilities = probabilities / probabilities.sum()  # (T - 1,), of the timesteps from 1 on
    strata = num_timesteps - 1
    points = (torch.arange(strata)[:, None] + torch.rand(strata, 2, generator=generator, dtype=torch.float64)) / strata
    drawn = torch.searchsorted(probabilities.cumsum(dim=0), points).clamp(max=len(probabilities) - 1)
    first = torch.zeros(1, 2, dtype=torch.int64)
    return torch.cat((first, drawn + 1)), torch.cat((first + 1.0, 1 / (strata * probabilities[drawn])))


def _prediction_coefficients(
    alphas_cumprod: Tensor, noisy_sample: Tensor, timesteps: Tensor | int, prediction_type: str
) -> tuple[Tensor, Tensor]:
    """Write a prediction as a sum of x_t and x_0, by noise = (x_t - sqrt(alpha_cumprod) x_0) / deviation."""
    alpha_cumprod = _at(alphas_cumprod, timesteps, noisy_sample)
    root, deviation = alpha_cumprod.sqrt(), (1 - alpha_cumprod).sqrt()
    coefficients = {
        "epsilon": (1 / deviation, -root / deviation),
        "sample": (torch.zeros_like(root), torch.ones_like(root)),
        "v_prediction": (root / deviation, -1 / deviation),
        "score": (-1 / deviation**2, root / deviation**2),
    }
    if prediction_type not in coefficients:
        raise ValueError(f"`prediction_type` must be one of {', '.join(coefficients)}, but got {prediction_type!r}.")
    return coefficients[prediction_type]


def _at(values: Tensor, timesteps: Tensor | int, sample: Tensor) -> Tensor:
    taken = values[timesteps]
    return taken.reshape(taken.shape + (1,) * (sample.ndim - taken.ndim))


def _shifted(alphas_cumprod: Tensor) -> Tensor:
    return torch.cat((torch.ones_like(alphas_cumprod[:1]), alphas_cumprod[:-1]))
