"""A film in color: steady, and each scene for itself."""

import numpy as np
import pytest
import torch
from conftest import seeded
from PIL import Image

from colorize_pipeline.color import rgb_to_luma


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
