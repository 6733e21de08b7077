"""Photos in other color spaces look as their twins in sRGB do, by LittleCMS, and keep their gray code for code."""

import io
import struct

import numpy as np
import pytest
import torch
from conftest import SRGB
from PIL import Image, ImageCms

from colorize_pipeline.apps import color_space
from colorize_pipeline.apps.color_space import (
    CODES,
    PRIMARIES_ADOBE,
    PRIMARIES_P3,
    PRIMARIES_SRGB,
    build_profile,
    gamma_curve,
    other_space,
    read_space,
    result_profile,
    rgb_profile_of_gray,
    space_of,
    srgb_light,
)
from colorize_pipeline.apps.painting import Painting
from colorize_pipeline.apps.photo import round_to_eight_bit
from colorize_pipeline.apps.same_look import look_in_srgb
from colorize_pipeline.color import join, rgb_to_luma


PRIMARIES_PROPHOTO = (0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)
DOT_GAIN = gamma_curve(1.0) - 0.8 * CODES * (1 - CODES) * (1 - 0.3 * CODES)  # as dark as one of 20%
SPACES = {
    "sRGB": space_of(PRIMARIES_SRGB, srgb_light(CODES)),
    "Adobe RGB": space_of(PRIMARIES_ADOBE, gamma_curve(563 / 256)),
    "ProPhoto": space_of(PRIMARIES_PROPHOTO, gamma_curve(1.8)),
    "Display P3": space_of(PRIMARIES_P3, srgb_light(CODES)),
    "gray dot gain": space_of(PRIMARIES_SRGB, DOT_GAIN),
    "gray gamma 2.2": space_of(PRIMARIES_SRGB, gamma_curve(2.2)),
}


def lab_of(rgb, icc_profile):
    """CIELAB by LittleCMS, `(height, width, 3)`; it takes 8 bit."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
    model = "L" if icc_profile[16:20] == b"GRAY" else "RGB"
    lab = ImageCms.createProfile("LAB")
    # Without its short cuts, which are off by up to 3 in L* near black.
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.NOOPTIMIZE
    transform = ImageCms.buildTransform(profile, lab, model, "LAB", intent, flags)
    codes = np.asarray(ImageCms.applyTransform(Image.fromarray(rgb, model), transform)).astype(float)
    codes[..., 1:] = (codes[..., 1:] + 128) % 256 - 128  # Pillow stores a* and b* as signed bytes
    return codes * (100 / 255, 1, 1)


def painted_chroma():
    """Chroma as the network paints it: smooth, and of a mean C*ab of about 10."""
    noise = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, size=(40, 40), mode="bicubic")[0] * 0.035


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", SPACES)
def test_a_photo_looks_as_its_twin_in_srgb_and_keeps_its_gray(name, bits, photo):
    space, chroma = SPACES[name], painted_chroma()
    gray = np.asarray(photo)
    twin = join(torch.from_numpy(gray.copy()), chroma).numpy()
    # The codes of the other space that look as those grays do.
    values = np.interp(srgb_light(gray / 255), np.maximum.accumulate(space.gray_light()), CODES)
    luma = torch.from_numpy(np.rint(values * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16))
    if name.startswith("gray"):  # as scanners write it, and as the result says it
        profile = rgb_profile_of_gray(build_profile(space, "GRAY"))
    else:
        profile = build_profile(space)

    painting = Painting(luma, chroma, other_space(profile))
    colors = painting.whole()

    assert torch.equal(rgb_to_luma(torch.from_numpy(colors)), luma)
    difference = lab_of(round_to_eight_bit(colors), profile) - lab_of(twin, SRGB)
    mean = np.sqrt((difference**2).sum(axis=-1)).mean()
    print(f"{name}, {bits} bit: mean dE {mean:.2f}")
    assert mean <= 1, mean  # two thirds of it is the price of the exact gray
    if name == "sRGB":
        assert painting.space is None
    else:
        seen = look_in_srgb(luma, space).numpy() / 257
        assert np.abs(seen - gray)[gray > 20].max() < 1.5


@pytest.mark.parametrize("pcs", ["XYZ ", "Lab "])
def test_a_gray_profile_becomes_one_of_rgb_that_looks_as_bright(pcs):
    gray_profile = build_profile(SPACES["gray dot gain"], "GRAY")
    gray_profile = gray_profile[:20] + pcs.encode() + gray_profile[24:]
    ramp = np.arange(256, dtype=np.uint8)[None]

    rgb_profile, note = result_profile(gray_profile)

    as_gray = lab_of(ramp, gray_profile)
    as_rgb = lab_of(np.repeat(ramp[..., None], 3, axis=2), rgb_profile)
    assert note == "" and np.abs(as_gray - as_rgb)[..., 0].max() < 0.6 and np.abs(as_rgb[..., 1:]).max() <= 1


def test_curves_of_every_form_are_read_as_littlecms_reads_them():
    def s15(*values):
        return struct.pack(f">{len(values)}i", *(round(value * 65_536) for value in values))

    srgb_parts = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    curves = {
        "identity": b"curv\0\0\0\0" + struct.pack(">I", 0),
        "gamma": b"curv\0\0\0\0" + struct.pack(">IH", 1, 461),
        "table": b"curv\0\0\0\0" + struct.pack(">I5H", 5, 0, 4000, 16000, 36000, 65535),
        "para 0": b"para\0\0\0\0" + struct.pack(">HH", 0, 0) + s15(1.9),
        "para 1": b"para\0\0\0\0" + struct.pack(">HH", 1, 0) + s15(2.2, 1.1, -0.1),
        "para 2": b"para\0\0\0\0" + struct.pack(">HH", 2, 0) + s15(2.0, 0.9, 0.02, 0.1),
        "para 3": b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + s15(*srgb_parts),
        "para 4": b"para\0\0\0\0" + struct.pack(">HH", 4, 0) + s15(*srgb_parts, 0.0, 0.0),
    }
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    for name, curve in curves.items():
        profile = build_profile(SPACES["sRGB"], curve=curve)
        light = read_space(profile).gray_light()[::257]
        lightness = np.where(light > 216 / 24_389, 116 * np.cbrt(light) - 16, light * 24_389 / 27)

        assert np.abs(lab_of(ramp, profile)[0, :, 0] - lightness).max() < 0.5, name


def test_profiles_of_srgb_are_known_whoever_made_them_and_others_are_not():
    assert other_space(SRGB) is None and other_space(build_profile(SPACES["sRGB"])) is None
    for name in ("Adobe RGB", "ProPhoto", "Display P3", "gray gamma 2.2"):
        assert other_space(build_profile(SPACES[name])) is not None, name


def test_damaged_profiles_are_left_out_and_said_so_and_tables_are_kept_and_said_so():
    good = build_profile(SPACES["ProPhoto"])
    for position in range(128, len(good), 5):
        for damaged in (good[:position], good[:position] + b"\xff\xff" + good[position + 2 :]):
            profile, note = result_profile(damaged)
            assert profile in (None, damaged) and (profile or note)
            other_space(damaged)
    table = good.replace(b"rTRC", b"A2B0")
    assert result_profile(table)[0] == table and "as in sRGB" in result_profile(table)[1]
    assert result_profile(good[:16] + b"CMYK" + good[20:])[0] is None
    assert result_profile(b"")[0] is None
    with pytest.raises(ValueError, match="primaries"):
        space_of((0.3, 0.3, *[0.3] * 6), CODES)


def test_code_points_name_the_spaces_of_screens_and_hdr_is_said_to_be_none_of_them():
    assert color_space.profile_of_code_points(1, 13) == (None, "")
    assert color_space.profile_of_code_points(2, 2) == (None, "")
    p3, _ = color_space.profile_of_code_points(12, 13)
    assert np.allclose(read_space(p3).matrix, SPACES["Display P3"].matrix, atol=1e-4)
    profile, note = color_space.profile_of_code_points(9, 18)
    assert profile is None and "read as sRGB" in note
