"""A film in color: steady, and each scene for itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import seeded
from PIL import Image

from colorize_pipeline.brush import Brush
from colorize_pipeline.color import rgb_to_luma
from colorize_pipeline.video import paint_film


def pan(image: Image.Image, frames: int, step: tuple[int, int], start: tuple[int, int] = (0, 0)) -> list[np.ndarray]:
    """Frames of 64 x 96 pixels of which each shows the image moved by a step in pixels."""
    pixels = np.asarray(image.convert("L"))
    corners = [(start[0] + number * step[0], start[1] + number * step[1]) for number in range(frames)]
    return [pixels[y : y + 64, x : x + 96] for x, y in corners]


@pytest.fixture
def scenes() -> tuple[Image.Image, Image.Image]:
    from skimage.data import astronaut, camera

    return Image.fromarray(camera()).resize((256, 256)), Image.fromarray(astronaut()).resize((256, 256))


def test_a_still_scene_is_the_same_in_every_pixel_and_keeps_its_gray(pipeline, scenes):
    frames = pan(scenes[0], 40, (0, 0), (60, 40))

    colored = list(pipeline.colorize_video(iter(frames), generator=seeded(0), ensemble_size=2, output_type="pil"))

    assert len(colored) == 40
    assert len({frame.tobytes() for frame in colored}) == 1
    assert np.ptp(np.asarray(colored[0]).astype(int), axis=2).max() > 10  # it is colored
    assert np.array_equal(rgb_to_luma(torch.from_numpy(np.array(colored[0]))).numpy(), frames[0])


def test_after_a_cut_frames_are_those_of_the_scene_alone(pipeline, scenes):
    first, second = pan(scenes[0], 9, (1, 0)), pan(scenes[1], 9, (0, 1))

    together, alone = (
        [frame.tobytes() for frame in pipeline.colorize_video(frames, generator=seeded(3), ensemble_size=2)]
        for frames in (first + second, second)
    )

    assert together[9:] == alone


def aligned_change(colored: list[np.ndarray], step: tuple[int, int]) -> float:
    """How much the color of what is seen changes from frame to frame: mean difference of red minus green."""
    redness = [frame[..., 0] - frame[..., 1] for frame in colored]
    pairs = zip(redness, redness[1:], strict=False)
    return float(np.mean([np.abs(before[step[1] :, step[0] :] - now[: 64 - step[1], : 96 - step[0]]).mean()
                          for before, now in pairs]))  # fmt: skip


def test_in_a_pan_colors_stay_on_what_they_belong_to(pipeline, scenes):
    frames = pan(scenes[0], 30, (2, 1), (20, 60))
    how = {"processing_resolution": 96, "output_type": "np"}

    film = list(pipeline.colorize_video(frames, generator=seeded(0), ensemble_size=1, **how))
    alone = [pipeline(frame, generator=seeded(0), **how).images[0] for frame in frames]

    # An untrained network paints noise from position to position, the hardest to carry along: measured 1/8.
    assert aligned_change(film, (2, 1)) < aligned_change(alone, (2, 1)) / 5
    assert np.mean([np.ptp(frame, axis=2).mean() for frame in film]) > 0.05  # not by being gray


def test_a_flash_a_fade_and_dust_change_no_colors(pipeline, scenes):
    still = pan(scenes[0], 1, (0, 0), (60, 40))[0]
    frames = [still.copy() for _ in range(30)]
    frames[7] = (1.4 * still.astype(float) + 70).clip(0, 255).astype(np.uint8)
    frames[12][20:24, 30:35] = 255
    frames[18:21] = [np.zeros_like(still)] * 3  # a blank
    for number in range(24, 30):  # a fade that ends at 70%
        frames[number] = (still * (1 - 0.05 * (number - 23))).astype(np.uint8)
    brush = Brush(pipeline, None, 96, 1, 0, {})

    colors = list(paint_film(brush, (torch.from_numpy(frame) for frame in frames)))

    assert {frame.scene for frame in colors} == {1}
    change = [float((frame.chroma - colors[0].chroma).abs().mean()) for frame in colors]
    spread = float(colors[0].chroma.std())
    assert all(change[number] < 0.02 * spread for number in range(30) if number not in (18, 19, 20))
    assert change[-1] < 0.02 * spread


def test_painting_goes_on_from_where_it_was_stopped_bit_for_bit(pipeline, scenes):
    frames = pan(scenes[0], 40, (2, 1), (10, 50)) + pan(scenes[1], 10, (0, 2))
    lumas = [torch.from_numpy(frame.copy()) for frame in frames]
    brush = Brush(pipeline, None, None, 2, 5, {})
    hints = {7: [(40, 30, "#c0a090")], 24: [(20, 20, "#90a0c0")], 43: [(50, 20, "#90b090")]}
    whole = list(paint_film(brush, lumas, hints=hints.get))

    places = [number for number, colors in enumerate(whole) if colors.resume is not None]

    assert places[0] == 0 and 40 in places and len(places) > 3
    for start in places[1:]:
        later = {number - start: known for number, known in hints.items()}
        rest = list(paint_film(brush, lumas[start:], whole[start].resume, later.get))
        assert all(
            torch.equal(colors.chroma, other.chroma) and colors.scene == other.scene
            for colors, other in zip(rest, whole[start:], strict=True)
        )


def test_a_hint_holds_from_its_frame_on_moves_with_what_it_lies_on_and_leaves_the_rest(pipeline, scenes):
    picture = np.full((256, 256), 128, np.uint8)
    picture[:, 60:] = np.asarray(scenes[0].convert("L"))[:, 60:] // 3
    picture[90:130, 80:120] = 170  # a thing of its own
    frames = pan(Image.fromarray(picture), 30, (2, 0), (40, 70))
    how = {"ensemble_size": 1, "output_type": "np", "processing_resolution": 96}

    plain, hinted = (
        np.stack(list(pipeline.colorize_video(frames, generator=seeded(0), hints=hints, **how)))
        for hints in (None, {10: [(40, 35, "#ff9090")]})  # in its middle
    )

    assert np.array_equal(plain[:10], hinted[:10])
    redness = [frame[33:37, 60 - 2 * n - 2 : 60 - 2 * n + 2].mean((0, 1)) for n, frame in enumerate(hinted)]
    assert all(color[0] > color[2] + 0.2 and color[0] > color[1] + 0.2 for color in redness[10:22])
    assert np.abs(hinted[10, :, 70:] - plain[10, :, 70:]).mean() < 0.01


def test_a_scene_is_painted_from_what_is_known_of_it(pipeline, scenes):
    frames = [torch.from_numpy(frame.copy()) for frame in pan(scenes[0], 9, (1, 0)) + pan(scenes[1], 9, (0, 1))]
    brush = Brush(pipeline, None, None, 1, 0, {})

    plain, hinted = (
        [colors.chroma for colors in paint_film(how, frames)]
        for how in (brush, replace(brush, scene_hints={2: [(48, 32, "#a8b0ff")]}))
    )

    assert all(torch.equal(*pair) for pair in zip(plain[:9], hinted[:9], strict=True))
    middle = [float(chroma[0, chroma.shape[1] // 2, chroma.shape[2] // 2]) for chroma in hinted[9:]]
    assert min(middle) > 0.05  # blue
