from dataclasses import replace

import numpy as np
import torch
from conftest import make_pipeline, seeded
from PIL import Image
from skimage.data import astronaut

from colorize_pipeline.hint_regression import follow_known
from colorize_pipeline.hints import read_hints
from colorize_pipeline.likeness import Likeness


GRID = (30, 40)


def two_things(among):
    """A photo of a left and a right half that do not look alike, painted gray, with one known color in each."""
    luma = torch.full((300, 400), 90, dtype=torch.uint8)
    known = read_hints([(50, 40, "red"), (350, 260, "blue")], (300, 400))
    known.chroma[:] = torch.tensor([[-0.03, 0.07], [0.06, -0.04]])  # as far from gray as an error may be
    cells = torch.tensor([4 * 40 + 5, 26 * 40 + 35])
    right = (torch.arange(40) >= 20).expand(GRID).flatten()
    cosines = torch.where(torch.stack((~right, right), dim=1), 0.9, -0.9)
    cosines[cells] = torch.tensor([[1.0, -0.9], [-0.9, 1.0]])
    likeness = Likeness(torch.ones(GRID), among, cells, cosines, torch.full((right.numel(),), 90 / 255))
    return luma, known, likeness, right.view(GRID)


def towards(chroma, asked):
    """How far gray was brought to a color: 0 not at all, 1 there."""
    return (chroma * asked[:, None, None]).sum(dim=0) / asked.square().sum()


def test_known_colors_of_different_things_tell_the_color_of_what_resembles_each():
    luma, known, likeness, right = two_things(among=0.3)

    chroma = follow_known(torch.zeros(2, *GRID), luma, known, likeness)

    red, blue = (towards(chroma, asked) for asked in known.chroma.T)
    assert red[~right].min() > 0.5 and blue[right].min() > 0.5
    assert red[~right].mean() > 2 * red[right].mean() and blue[right].mean() > 2 * blue[~right].mean()
    at_known = chroma.flatten(1)[:, likeness.cells]
    assert (at_known - known.chroma).norm(dim=0).max() < 0.1 * known.chroma.norm(dim=0).min()


def test_what_looks_otherwise_is_brighter_or_was_painted_otherwise_is_moved_less():
    luma, known, likeness, _ = two_things(among=0.3)
    painted = torch.zeros(2, *GRID)
    otherwise, brighter, other_color, same = places = torch.tensor([[10, 3], [12, 3], [14, 3], [16, 3]])
    likeness.cosines[otherwise @ torch.tensor([40, 1])] = torch.tensor([0.3, -0.9])
    likeness.luma[brighter @ torch.tensor([40, 1])] = 0.7
    painted[:, other_color[0], other_color[1]] = 0.05

    moved = (follow_known(painted, luma, known, likeness) - painted)[:, places[:, 0], places[:, 1]].norm(dim=0)

    assert moved[:3].max() < 0.9 * moved[3]


def test_what_is_painted_as_it_is_known_to_be_stays_as_it_is():
    luma, known, likeness, right = two_things(among=0.3)
    painted = torch.where(right, *known.chroma.flip(1)[:, :, None, None].unbind(1))

    chroma = follow_known(painted, luma, known, likeness)

    assert torch.allclose(chroma, painted, atol=1e-4)


def test_a_wish_for_a_strong_color_moves_what_resembles_it_no_more_than_an_error_does():
    luma, known, likeness, right = two_things(among=0.3)
    likeness.cosines[:, 0] = torch.where(torch.arange(len(likeness.cosines)) == likeness.cells[0], 1.0, 0.5)
    weak, strong = (replace(known, chroma=factor * known.chroma) for factor in (2.0, 5.0))

    moved = [follow_known(torch.zeros(2, *GRID), luma, colors, likeness) for colors in (weak, strong)]

    assert moved[0].norm(dim=0).min() > 0.01
    assert torch.allclose(*moved, atol=1e-6)


def test_known_colors_of_one_thing_tell_nothing_about_others():
    luma, known, likeness, _ = two_things(among=0.9)
    painted = torch.full((2, 20, 27), 0.05)

    assert torch.equal(follow_known(painted, luma, known, likeness), painted)


def test_different_colors_of_what_looks_the_same_are_averaged():
    luma, known, likeness, _ = two_things(among=0.3)
    likeness.cosines.fill_(1.0)

    chroma = follow_known(torch.zeros(2, *GRID), luma, known, likeness)

    assert torch.allclose(chroma, known.chroma.mean(dim=1)[:, None, None].expand_as(chroma), atol=2e-3)


def test_the_correction_comes_at_any_size_and_stays_a_chroma():
    luma, known, likeness, _ = two_things(among=0.3)
    small, large = (follow_known(torch.full((2, *size), -0.45), luma, known, likeness) for size in ((7, 9), (60, 80)))

    assert small.shape == (2, 7, 9) and large.shape == (2, 60, 80)
    assert max(small.abs().max(), large.abs().max()) <= 0.5
    assert (small.mean(dim=(1, 2)) - large.mean(dim=(1, 2))).abs().max() < 0.02


def test_there_is_less_doubt_about_a_photo_of_which_colors_are_known():
    pipeline = make_pipeline(with_encoder=True)
    pipeline.register_to_config(chroma_scale=0.02)  # an untrained network errs more than any trained one
    photo = Image.fromarray(astronaut()).convert("L").resize((96, 96))
    draw = np.random.default_rng(0)
    points = [(x, y, (photo.getpixel((x, y)),) * 3) for x, y in draw.integers(96, size=(20, 2)).tolist()]
    ask = {"ensemble_size": 5, "output_uncertainty": True, "output_type": "np"}

    without = pipeline(photo, generator=seeded(0), **ask).uncertainty[0]
    told = pipeline(photo, hints=points, generator=seeded(0), **ask).uncertainty[0]

    assert told.mean() < 0.8 * without.mean()
