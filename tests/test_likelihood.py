"""The formulas against each other and against data whose best denoiser is known in closed form."""

import math

import numpy as np
import pytest
import torch
from conftest import make_scheduler, seeded
from torch.distributions import Normal, kl_divergence

from colorize_pipeline.likelihood import (
    discretized_gaussian_log_likelihood,
    forward_marginal,
    forward_step,
    from_clean_sample,
    posterior,
    prior_term,
    sampling_variances,
    simple_loss_weights,
    to_clean_sample,
    transition_term,
)


TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}
PREDICTION_TYPES = ["epsilon", "sample", "v_prediction", "score"]


@pytest.fixture(
    params=[("linear", False), ("squaredcos_cap_v2", False), ("linear", True), ("squaredcos_cap_v2", True)]
)
def kind(request):
    return request.param


@pytest.fixture(params=[300, 1000])
def schedule(request, kind) -> torch.Tensor:
    """`alphas_cumprod` as stored by diffusers."""
    return make_scheduler(*kind, request.param).alphas_cumprod


def draw(schedule: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each timestep of a schedule: itself, a clean sample, a noise and the noisy sample, `(T, 3)`."""
    timesteps = torch.arange(len(schedule))
    clean, noise = torch.randn(2, len(schedule), 3, generator=seeded(seed), dtype=torch.float64)
    mean, variance = forward_marginal(schedule, clean, timesteps)
    return timesteps, clean, noise, mean + variance.sqrt() * noise


def best_guess(schedule, noisy, timesteps, mean, variance) -> torch.Tensor:
    """E[x_0 | x_t] for normal data: the optimal denoiser, by conditioning of jointly normal variables."""
    shape = (-1,) + (1,) * (noisy.ndim - 1)
    alpha_cumprod = schedule[timesteps].reshape(shape)
    gain = alpha_cumprod.sqrt() * variance / (alpha_cumprod * variance + 1 - alpha_cumprod)
    return mean + gain * (noisy - alpha_cumprod.sqrt() * mean)


# ---------------------------------------------------------------------------------------------------- the formulas


def test_steps_compose_to_the_marginal_which_draws_what_the_scheduler_draws(kind, schedule):
    timesteps, clean, noise, noisy = draw(schedule)

    mean, variance = clean[:1], torch.zeros(1, 1, dtype=torch.float64)
    for t in range(len(schedule)):
        mean, added = forward_step(schedule, mean, t)
        variance = (1 - added) * variance + added
        expected_mean, expected_variance = forward_marginal(schedule, clean[:1], t)
        torch.testing.assert_close(mean, expected_mean, **TOLERANCE)
        torch.testing.assert_close(variance.squeeze(), expected_variance.squeeze(), **TOLERANCE)

    added_noise = make_scheduler(*kind, len(schedule)).add_noise(clean, noise, timesteps)
    torch.testing.assert_close(noisy, added_noise, **TOLERANCE)


@pytest.mark.parametrize("num_timesteps", [300, 1000])
def test_schedules_are_those_of_the_papers(num_timesteps):
    steps = np.arange(num_timesteps + 1) / num_timesteps
    squared_cosine = np.cos((steps + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = {
        "linear": np.linspace(1e-4, 0.02, num_timesteps),
        "squaredcos_cap_v2": np.minimum(1 - squared_cosine[1:] / squared_cosine[:-1], 0.999),
    }
    for name, expected in betas.items():
        schedule = make_scheduler(name, False, num_timesteps).alphas_cumprod
        rescaled = make_scheduler(name, True, num_timesteps).alphas_cumprod

        np.testing.assert_allclose(schedule, np.cumprod(1 - expected), atol=2e-6)
        # Zero terminal SNR: a shift and a stretch of the root, that keeps its first value and ends at 0 exactly.
        root = schedule.sqrt()
        stretched = (root - root[-1]) * root[0] / (root[0] - root[-1])
        torch.testing.assert_close(rescaled.sqrt(), stretched, rtol=0, atol=1e-5)
        assert rescaled[-1] == 0


def test_posterior_is_what_bayes_rule_gives(schedule):
    timesteps, clean, noise, noisy = (values[1:] for values in draw(schedule))
    previous = torch.randn(clean.shape, generator=seeded(1), dtype=torch.float64)

    mean, variance = posterior(schedule, clean, noisy, timesteps)

    def log_density(mean_and_variance, value):
        return Normal(mean_and_variance[0], mean_and_variance[1].sqrt()).log_prob(value)

    bayes = (
        log_density(forward_step(schedule, previous, timesteps), noisy)
        + log_density(forward_marginal(schedule, clean, timesteps - 1), previous)
        - log_density(forward_marginal(schedule, clean, timesteps), noisy)
    )
    torch.testing.assert_close(log_density((mean, variance), previous), bayes, **TOLERANCE)

    alphas = (schedule[1:] / schedule[:-1])[:, None]
    precision = alphas / (1 - alphas) + 1 / (1 - schedule[:-1, None])
    torch.testing.assert_close(variance, 1 / precision, **TOLERANCE)
    some = schedule[1:] > 0  # noise does not tell the mean at zero SNR
    from_noise = (noisy - (1 - alphas) / (1 - schedule[1:, None]).sqrt() * noise) / alphas.sqrt()
    torch.testing.assert_close(mean[some], from_noise[some], **TOLERANCE)


def test_reverse_variance_of_normal_data_lies_between_the_two_sampling_variances(schedule):
    small, large = (sampling_variances(schedule, name)[1:] for name in ("fixed_small", "fixed_large"))
    for data_variance in (0.0, 0.25, 1.0):
        before = schedule[:-1] * data_variance + 1 - schedule[:-1]
        after = schedule[1:] * data_variance + 1 - schedule[1:]
        reverse = before - schedule[1:] / schedule[:-1] * before**2 / after  # Var(x_{t-1} | x_t), jointly normal

        # The posterior, widened by what is not known of x_0.
        of_clean = schedule[:-1].sqrt() * (1 - schedule[1:] / schedule[:-1]) / (1 - schedule[1:])
        unknown = data_variance * (1 - schedule[1:]) / after
        torch.testing.assert_close(small + of_clean**2 * unknown, reverse, **TOLERANCE)
        assert (small <= reverse + 1e-12).all() and (reverse <= large + 1e-12).all()
        if data_variance == 0:
            torch.testing.assert_close(reverse, small, **TOLERANCE)
        if data_variance == 1:
            torch.testing.assert_close(reverse, large, **TOLERANCE)


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_terms_are_divergences_between_the_posterior_and_the_sampler(schedule, variance_type):
    timesteps, clean, _, noisy = (values[1:] for values in draw(schedule))
    predicted = clean + 0.1 * torch.randn(clean.shape, generator=seeded(2), dtype=torch.float64)

    terms = transition_term(schedule, clean, predicted, timesteps, variance_type)

    mean, variance = posterior(schedule, clean, noisy, timesteps)
    model_mean, _ = posterior(schedule, predicted, noisy, timesteps)
    model_variance = sampling_variances(schedule, variance_type)[1:, None]
    expected = kl_divergence(Normal(mean, variance.sqrt()), Normal(model_mean, model_variance.sqrt()))
    torch.testing.assert_close(terms, expected, **TOLERANCE)
    assert terms.isfinite().all() and (terms >= 0).all()
    if variance_type == "fixed_small":
        snr = schedule / (1 - schedule)
        torch.testing.assert_close(terms, -0.5 * snr.diff()[:, None] * (clean - predicted) ** 2, **TOLERANCE)


def test_prior_term_is_zero_exactly_when_the_terminal_snr_is(kind, schedule):
    _, clean, _, _ = draw(schedule)

    prior = prior_term(schedule, clean)

    mean, variance = forward_marginal(schedule, clean, len(schedule) - 1)
    torch.testing.assert_close(prior, kl_divergence(Normal(mean, variance.sqrt()), Normal(0.0, 1.0)), **TOLERANCE)
    assert (prior == 0).all() if kind[1] else (prior > 0).all()


@pytest.mark.parametrize("low, high, num_bins", [(-1.0, 1.0, 256), (-128 / 35.7, 127 / 35.7, 256), (0.0, 1.0, 2)])
def test_decoder_is_a_probability_of_the_values_that_can_occur(low, high, num_bins):
    values = torch.linspace(low, high, num_bins, dtype=torch.float64)[:, None]
    means = torch.linspace(low - 2, high + 2, 41, dtype=torch.float64)
    bins = {"num_bins": num_bins, "low": low, "high": high}
    half_bin = (high - low) / (num_bins - 1) / 2

    for deviation in (1e-3, 0.05, 3.0):
        variance = torch.tensor(deviation**2, dtype=torch.float64)
        logarithms = discretized_gaussian_log_likelihood(values, means, variance, **bins)

        assert logarithms.isfinite().all()  # also a thousand deviations away
        torch.testing.assert_close(logarithms.exp().sum(dim=0), torch.ones_like(means), **TOLERANCE)
        inner = values[1:-1]
        cdf = Normal(means, deviation).cdf
        torch.testing.assert_close(logarithms.exp()[1:-1], cdf(inner + half_bin) - cdf(inner - half_bin), **TOLERANCE)
        torch.testing.assert_close(logarithms.exp()[0], cdf(values[0] + half_bin), **TOLERANCE)


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_weights_turn_the_simple_loss_into_the_bound(schedule, variance_type):
    timesteps, clean, noise, noisy = draw(schedule)
    wrong_clean = clean + 0.1 * torch.randn(clean.shape, generator=seeded(2), dtype=torch.float64)

    weights = simple_loss_weights(schedule, variance_type)[:, None]

    term = transition_term(schedule, clean, wrong_clean, timesteps, variance_type)
    of_variances_alone = transition_term(schedule, clean, clean, timesteps, variance_type)
    snr = (schedule / (1 - schedule))[:, None]
    some = (timesteps > 0) & (schedule > 0)
    for prediction_type, factor in (("epsilon", 1), ("sample", snr), ("v_prediction", schedule[:, None])):
        predicted = from_clean_sample(schedule, wrong_clean, noisy, timesteps, prediction_type)
        right = from_clean_sample(schedule, clean, noisy, timesteps, prediction_type)
        weighted = (factor * weights * (predicted - right) ** 2)[some]
        torch.testing.assert_close(weighted, (term - of_variances_alone)[some], **TOLERANCE)
    assert weights[some].isfinite().all() and weights[schedule == 0].isinf().all()


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_every_prediction_tells_the_clean_sample_except_of_noise_at_zero_snr(schedule, prediction_type):
    timesteps, clean, noise, noisy = draw(schedule)

    prediction = from_clean_sample(schedule, clean, noisy, timesteps, prediction_type)

    expected = {
        "epsilon": noise,
        "sample": clean,
        "v_prediction": schedule.sqrt()[:, None] * noise - (1 - schedule).sqrt()[:, None] * clean,
        "score": -noise / (1 - schedule).sqrt()[:, None],
    }
    torch.testing.assert_close(prediction, expected[prediction_type], **TOLERANCE)
    tells = slice(None)
    if schedule[-1] == 0 and prediction_type in ("epsilon", "score"):
        with pytest.raises(ValueError, match="zero SNR"):
            to_clean_sample(schedule, prediction, noisy, timesteps, prediction_type)
        torch.testing.assert_close(prediction[-1], noisy[-1] if prediction_type == "epsilon" else -noisy[-1])
        tells = slice(-1)
    back = to_clean_sample(schedule, prediction[tells], noisy[tells], timesteps[tells], prediction_type)
    torch.testing.assert_close(back, clean[tells], **TOLERANCE)


def test_score_is_the_gradient_of_the_noisy_density_and_moves_the_sampler(schedule):
    # Data that is 1 or -1: log q(x_t) is known, and so is E[x_0 | x_t] = tanh(sqrt(alpha_cumprod) x_t / variance).
    timesteps, _, noise, _ = draw(schedule)
    mean, variance = forward_marginal(schedule, torch.ones_like(noise), timesteps)
    noisy = (mean + variance.sqrt() * noise).requires_grad_()
    either = Normal(torch.stack((mean, -mean)), variance.sqrt()).log_prob(noisy)
    (gradient,) = torch.autograd.grad((either.logsumexp(dim=0) - math.log(2)).sum(), noisy)
    noisy = noisy.detach()
    best = torch.tanh(mean * noisy / variance)

    score = from_clean_sample(schedule, best, noisy, timesteps, "score")

    torch.testing.assert_close(score, gradient, **TOLERANCE)
    some = slice(1, -1)
    alphas = (schedule[1:] / schedule[:-1])[:-1, None]
    langevin = (noisy[some] + (1 - alphas) * score[some]) / alphas.sqrt()
    torch.testing.assert_close(posterior(schedule, best, noisy, timesteps)[0][some], langevin, **TOLERANCE)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_scheduler_samples_with_our_mean_and_variance(kind, prediction_type, variance_type):
    last = 298 if kind[1] and prediction_type == "epsilon" else 299  # at zero SNR noise does not tell the mean
    scheduler = make_scheduler(*kind, 300, prediction_type, variance_type=variance_type)
    schedule = scheduler.alphas_cumprod
    variances = sampling_variances(schedule, variance_type)
    _, clean, _, noisy = draw(schedule)

    for t in (last, 150, 1, 0):
        x_0, x_t = clean[t : t + 1], noisy[t : t + 1]
        output = from_clean_sample(schedule, x_0, x_t, t, prediction_type)
        sample = scheduler.step(output, t, x_t, generator=seeded(t), return_dict=False)[0]

        mean, _ = posterior(schedule, x_0, x_t, t)
        noise = torch.randn(x_t.shape, generator=seeded(t), dtype=torch.float64)
        expected = mean + variances[t].sqrt() * noise if t > 0 else x_0
        torch.testing.assert_close(sample, expected, **TOLERANCE)


# ------------------------------------------------------------------------------- data whose best denoiser is known


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_ancestral_sampling_with_the_best_denoiser_gives_the_data_back(variance_type):
    mean, deviation, number = 0.3, 0.5, 40_000
    scheduler = make_scheduler("squaredcos_cap_v2", True, 300, variance_type=variance_type)
    scheduler.set_timesteps(300)
    generator = seeded(1)

    sample = torch.randn(number, 1, generator=generator, dtype=torch.float64)
    for t in scheduler.timesteps:
        best = best_guess(scheduler.alphas_cumprod, sample, t[None], mean, deviation**2)
        output = from_clean_sample(scheduler.alphas_cumprod, best, sample, t, "v_prediction")
        sample = scheduler.step(output, t, sample, generator=generator, return_dict=False)[0]

    assert abs(sample.mean() - mean) < 4 * deviation / number**0.5
    # The steps are finite: 300 take 1.3% of the deviation with the small variance, and add 0.3% with the large one.
    assert abs(sample.std() / deviation - 1) < 0.013 + 4 / (2 * number) ** 0.5


def test_bound_of_the_best_denoiser_falls_to_the_entropy_of_the_data():
    # The terms are quadratic in x_0 and the noise, so that two points a deviation either side of the mean give exactly
    # the expectation. The bins are much finer than the last noise: the entropy of the codes is that of the density.
    mean, deviation, num_bins = 0.1, 0.5, 1 << 20
    entropy = 0.5 * math.log2(2 * math.pi * math.e * deviation**2) - math.log2(8 / (num_bins - 1))
    signs = torch.tensor([[-1.0, -1.0, 1.0, 1.0], [-1.0, 1.0, -1.0, 1.0]], dtype=torch.float64)
    clean = mean + deviation * signs[:1]  # (1, 4)

    def excess(num_timesteps, variance_type):
        schedule = make_scheduler("squaredcos_cap_v2", True, num_timesteps).alphas_cumprod
        timesteps = torch.arange(num_timesteps)
        middle, variance = forward_marginal(schedule, clean.expand(num_timesteps, 4), timesteps)
        best = best_guess(schedule, middle + variance.sqrt() * signs[1], timesteps, mean, deviation**2)
        transitions = transition_term(schedule, clean, best[1:], timesteps[1:], variance_type)
        bins = {"num_bins": num_bins, "low": -4.0, "high": 4.0}
        decoder = -discretized_gaussian_log_likelihood(clean, best[:1], 1 - schedule[0], **bins)
        nats = prior_term(schedule, clean).mean() + transitions.mean(dim=1).sum() + decoder.mean()
        return nats.item() / math.log(2) - entropy

    for num_timesteps in (100, 300, 1000, 3000):
        assert excess(num_timesteps, "fixed_large") == pytest.approx(0.88 / num_timesteps, rel=0.02)
    # Too narrow a variance in the many steps whose noise is finer than the data: sum of (1 / t - log(1 + 1 / t)) / 2.
    assert np.euler_gamma / math.log(4) < excess(10_000, "fixed_small") < excess(1000, "fixed_small") < 0.6
