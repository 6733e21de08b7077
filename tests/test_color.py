import numpy as np
import pytest
import torch
from PIL import Image

from colorize_pipeline.color import colorfulness, gamut_scale, join, resize_matrix, rgb_to_chroma, rgb_to_luma


def random_codes(shape, dtype, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, torch.iinfo(dtype).max + 1, shape)).to(dtype)


def test_luma_of_every_rgb_code_triple_sampled_is_pillows():
    rgb = random_codes((700, 700, 3), torch.uint8)

    luma = rgb_to_luma(rgb)

    assert np.array_equal(luma.numpy(), np.asarray(Image.fromarray(rgb.numpy()).convert("L")))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("strength", [0.0, 0.1, 1.0, 30.0])
def test_joining_keeps_every_luma_code_whatever_the_chroma(dtype, strength):
    luma = random_codes((301, 407), dtype)
    chroma = strength * torch.randn(2, 301, 407, generator=torch.Generator().manual_seed(0))

    rgb = join(luma, chroma)

    assert torch.equal(rgb_to_luma(rgb).int(), luma.int())


def test_joining_keeps_all_256_grays_at_the_corners_of_the_gamut():
    luma = torch.arange(256, dtype=torch.uint8).repeat(64, 1)  # every gray under 64 directions of chroma
    angle = torch.linspace(0, 2 * torch.pi, 64)[:, None].expand(-1, 256)

    rgb = join(luma, torch.stack((angle.cos(), angle.sin())))

    assert torch.equal(rgb_to_luma(rgb), luma)


def test_true_chroma_brings_a_photo_back_within_one_code():
    # At the very edge of the gamut the rounding of luma alone can cost more: (0, 0, 4) has luma 0, which is black.
    rgb = random_codes((64, 64, 3), torch.uint8).clamp(2, 253)
    chroma = rgb_to_chroma(rgb.permute(2, 0, 1)[None].float() / 255)[0]

    joined = join(rgb_to_luma(rgb), chroma)

    assert (joined.int() - rgb.int()).abs().max() <= 1


def test_joining_in_row_blocks_equals_joining_at_once(monkeypatch):
    luma, chroma = random_codes((97, 53), torch.uint8), torch.randn(2, 7, 5)
    at_once = join(luma, chroma)

    monkeypatch.setattr("colorize_pipeline.color._PIXELS_PER_BLOCK", 53 * 10)

    assert torch.equal(join(luma, chroma), at_once)


def test_gamut_scale_brings_every_pixel_inside_and_leaves_the_inside_alone():
    luma = torch.rand(1000)
    difference = torch.randn(3, 1000) * 0.5

    scale = gamut_scale(luma, difference, 1.0)

    colors = luma + scale * difference
    assert colors.min() > -1e-5 and colors.max() < 1 + 1e-5
    untouched = ((luma + difference >= 0) & (luma + difference <= 1)).all(dim=0)
    assert untouched.any() and (scale[untouched] == 1).all()


def test_gray_has_no_chroma_and_no_colorfulness():
    gray = torch.rand(1, 1, 9, 9).expand(1, 3, 9, 9)

    assert rgb_to_chroma(gray).abs().max() < 1e-6
    assert colorfulness(gray[0]) == pytest.approx(0, abs=1e-4)


def test_colorfulness_of_half_red_half_gray_is_the_hand_computed_one():
    rgb = torch.zeros(3, 1, 2)
    rgb[0, 0, 0] = 1  # one pure red pixel, one black: rg in {255, 0}, yb in {127.5, 0}

    expected = (127.5**2 + 63.75**2) ** 0.5 * 1.3

    assert colorfulness(rgb) == pytest.approx(expected, rel=1e-6)


def test_resampling_keeps_constants_and_the_identity():
    assert torch.allclose(resize_matrix(5, 900).sum(dim=1), torch.ones(900), atol=1e-5)
    assert torch.allclose(resize_matrix(900, 5).sum(dim=1), torch.ones(5), atol=1e-5)
    assert torch.allclose(resize_matrix(8, 8), torch.eye(8), atol=1e-6)
