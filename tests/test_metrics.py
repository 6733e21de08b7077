"""The measures of the evaluation: each against published values, a closed form, or a case whose answer is known."""

import numpy as np
import pytest
import torch
from scoring import two_sample_test
from scoring.two_sample_test import two_sample_accuracy, wilson_interval
from skimage import data
from skimage.color import deltaE_ciede2000, rgb2lab

from colorize_pipeline import metrics
from colorize_pipeline.doubt import delta_e


# Sharma, Wu and Dalal 2005, "The CIEDE2000 color-difference formula", table 1: Lab, Lab, difference.
SHARMA = """
50 2.6772 -79.7751 50 0 -82.7485 2.0425
50 3.1571 -77.2803 50 0 -82.7485 2.8615
50 2.8361 -74.0200 50 0 -82.7485 3.4412
50 -1.3802 -84.2814 50 0 -82.7485 1.0000
50 -1.1848 -84.8006 50 0 -82.7485 1.0000
50 -0.9009 -85.5211 50 0 -82.7485 1.0000
50 0 0 50 -1 2 2.3669
50 -1 2 50 0 0 2.3669
50 2.4900 -0.0010 50 -2.4900 0.0009 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0010 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0011 7.2195
50 2.4900 -0.0010 50 -2.4900 0.0012 7.2195
50 -0.0010 2.4900 50 0.0009 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0010 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0011 -2.4900 4.7461
50 2.5 0 50 0 -2.5 4.3065
50 2.5 0 73 25 -18 27.1492
50 2.5 0 61 -5 29 22.8977
50 2.5 0 56 -27 -3 31.9030
50 2.5 0 58 24 15 19.4535
50 2.5 0 50 3.1736 0.5854 1.0000
50 2.5 0 50 3.2972 0 1.0000
50 2.5 0 50 1.8634 0.5757 1.0000
50 2.5 0 50 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""


def test_the_color_difference_equals_the_sharma_pairs():
    table = torch.tensor([[float(value) for value in line.split()] for line in SHARMA.strip().splitlines()]).double()
    assert table.shape == (34, 7)
    assert delta_e(table[:, :3].T, table[:, 3:6].T).numpy() == pytest.approx(table[:, 6].numpy(), abs=5e-5)


def test_the_scores_of_a_photo_are_those_of_scikit_image():
    photo, other = data.astronaut()[::4, ::4].copy(), data.coffee()[:256:2, :256:2].copy()
    lab, other_lab = rgb2lab(photo), rgb2lab(other)
    distance = np.linalg.norm((lab - other_lab)[..., 1:], axis=-1)
    scores = metrics.score_colors(photo, other)
    assert scores.delta_e == pytest.approx(deltaE_ciede2000(lab, other_lab).mean(), abs=1e-4)
    assert scores.auc == pytest.approx(100 * (1 - distance.clip(max=150).mean() / 150), abs=1e-4)


def test_the_scores_of_a_photo_against_itself_are_perfect_and_a_cast_is_charged():
    photo = data.astronaut()[::4, ::4].copy()
    same, cast = (metrics.score_colors(image, photo) for image in (photo, np.roll(photo, 1, axis=-1)))
    assert (same.delta_e, same.psnr, same.ssim) == (0, float("inf"), pytest.approx(1))
    assert same.colorfulness == same.true_colorfulness > 0
    assert cast.delta_e > 10 and cast.psnr < 25 and cast.ssim < 0.95


def test_frechet_distance_of_gaussians_equals_its_closed_form():
    # Axis-aligned Gaussians: the matrix root is that of each variance. Samples are whitened, so no chance remains.
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(500, 6, generator=generator, dtype=torch.float64)
    white = white - white.mean(dim=0)
    white = white @ torch.linalg.inv(torch.linalg.cholesky(white.T @ white / 499)).T
    deviations, others = torch.rand(2, 6, generator=generator, dtype=torch.float64) + 0.1
    shift = torch.randn(6, generator=generator, dtype=torch.float64)
    expected = shift.square().sum() + (deviations - others).square().sum()
    distance = metrics.frechet_distance(white * deviations, (white * others)[torch.randperm(500)] + shift)
    assert distance == pytest.approx(expected.item(), rel=1e-9)


def test_frechet_distance_equals_the_matrix_root_also_where_covariances_do_not_commute_and_are_singular():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(40, 8, generator=generator, dtype=torch.float64) @ torch.randn(
        8, 8, generator=generator, dtype=torch.float64
    )
    few = torch.randn(5, 8, generator=generator, dtype=torch.float64)  # covariance of rank 4
    covariance, other = torch.cov(features.T), torch.cov(few.T)
    roots = torch.linalg.eigvals(covariance @ other).real.clamp(min=0).sqrt().sum()
    shift = features.mean(dim=0) - few.mean(dim=0)
    expected = shift.square().sum() + covariance.trace() + other.trace() - 2 * roots
    assert metrics.frechet_distance(features, few) == pytest.approx(expected.item(), rel=1e-6)
    assert metrics.frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="equal length"):
        metrics.frechet_distance(features, few[:, :3])


def test_the_two_sample_test_tells_gray_photos_from_colors_and_cannot_tell_equal_sets(monkeypatch):
    monkeypatch.setattr(two_sample_test, "_UPDATES", 60)  # so far apart they are told early
    generator = torch.Generator().manual_seed(2)
    photos = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    corners = torch.rand(24, 2, generator=generator).tolist()
    crops = []
    for number, (top, left) in enumerate(corners):
        photo = photos[number % 4]
        top, left = int(top * (photo.shape[0] - 160)), int(left * (photo.shape[1] - 160))
        crops.append(photo[top : top + 160, left : left + 160])
    real = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
    gray = real.float().mean(dim=1, keepdim=True).round().to(torch.uint8).expand(-1, 3, -1, -1)

    told = two_sample_accuracy(gray, real, torch.Generator().manual_seed(0))
    assert told.accuracy > 0.8 and told.low > 0.5
    noisy = (real.int() + torch.randint(-8, 9, real.shape, generator=generator)).clamp(0, 255).to(torch.uint8)
    swapped = torch.rand(len(real), 1, 1, 1, generator=generator) < 0.5
    pair = torch.where(swapped, noisy, real), torch.where(swapped, real, noisy)
    untold = two_sample_accuracy(*pair, torch.Generator().manual_seed(0))
    assert untold.low < 0.5 < untold.high
    assert two_sample_accuracy(gray, real, torch.Generator().manual_seed(0)) == told


def test_the_wilson_interval_equals_the_roots_of_its_equation():
    # Its ends are the shares p with (share - p)^2 = z^2 p (1 - p) / n.
    for share, trials in ((0.5, 10), (1.0, 24), (0.83, 474)):
        for end in wilson_interval(share, trials):
            assert (share - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / trials, abs=1e-12)
