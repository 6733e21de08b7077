import warnings

import numpy as np
import pytest
import torch
from conftest import make_pipeline, seeded
from PIL import Image, ImageDraw
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.data import astronaut

from colorize_pipeline.color import colorfulness, gain_for_colorfulness, join, rgb_to_chroma, rgb_to_luma
from colorize_pipeline.hint_propagation import finish_chroma
from colorize_pipeline.hints import HintWarning, fit_to_gamut, read_hints
from colorize_pipeline.likeness import Likeness, find_likeness


def likeness_of(places, among=1.0):
    cells = torch.zeros(1, dtype=torch.int64)
    return Likeness(places, among, cells, torch.ones(places.numel(), 1), torch.zeros(places.numel()))


def difference(codes, others, white=255):
    return deltaE_ciede2000(rgb2lab(np.asarray(others) / white), rgb2lab(np.asarray(codes) / white))


@pytest.mark.parametrize("depth", [8, 16])
def test_true_colors_at_random_points_come_back_at_each_of_them(pipeline, depth):
    rgb = astronaut()[::4, ::3]
    rgb = rgb.astype(np.uint16) * 257 if depth == 16 else rgb
    draw = np.random.default_rng(0)
    x, y = draw.integers(rgb.shape[1], size=100), draw.integers(rgb.shape[0], size=100)
    hints = [(int(x), int(y), tuple(astronaut()[::4, ::3][y, x].tolist())) for x, y in zip(x, y, strict=True)]

    with warnings.catch_warnings():
        warnings.simplefilter("error", HintWarning)  # a true color always exists
        output = pipeline(rgb, hints=hints, output_type="np", generator=seeded(0)).images[0]

    assert difference(output[y, x][None], rgb[y, x][None] / (2**depth - 1), white=1).max() <= 2
    codes = torch.from_numpy(np.rint(output * (2**depth - 1)).astype(rgb.dtype))
    assert torch.equal(rgb_to_luma(codes), rgb_to_luma(torch.from_numpy(rgb)))


def test_strokes_are_obeyed_to_the_pixel_in_a_photo_finer_than_the_grid(pipeline):
    photo = Image.fromarray(astronaut()).convert("L").resize((1300, 1300))
    layer = Image.new("RGBA", photo.size)
    ImageDraw.Draw(layer).line([(300, 700), (420, 1000)], fill="#b06840", width=31)
    ImageDraw.Draw(layer).line([(330, 720), (450, 1000)], fill="#4060a0", width=9)
    layer.putpixel((900, 100), (150, 130, 90, 255))
    asked = np.array(layer)
    rows, columns = np.nonzero(asked[:, :, 3])

    with pytest.warns(HintWarning):
        output = pipeline(photo, hints=layer, generator=seeded(0))

    # What the law asks for: that chroma, at the photo's luma, as near as RGB comes.
    luma = torch.from_numpy(np.array(photo))[rows, columns][None]
    chroma = rgb_to_chroma(torch.from_numpy(asked[rows, columns, :3]).T[None, :, None].float() / 255)[0]
    expected = join(luma, chroma)
    assert difference(np.array(output.images[0])[rows, columns][None], expected.numpy()).max() <= 2
    assert np.array_equal(np.asarray(output.images[0].convert("L")), np.asarray(photo))


def test_a_color_fills_its_object_stops_at_the_edge_and_leaves_what_is_far():
    luma = torch.full((120, 400), 90, dtype=torch.uint8)
    luma[:, 60:] = 180
    luma += torch.randint(-3, 4, luma.shape, generator=seeded(0)).to(torch.uint8)  # grain
    painted = torch.tensor([0.05, -0.1])[:, None, None].expand(2, 10, 33)
    asked = torch.tensor([-0.1, 0.15])
    known = read_hints([(30, 60, "red")], (120, 400))
    known.chroma[:, 0] = asked

    chroma = finish_chroma(luma, painted, known, 1.0, None)

    towards = (chroma - painted[:, :1, :1])[1] / (asked - painted[:, 0, 0])[1]  # 0 painted, 1 as asked
    assert towards[20:100, 2:58].min() > 0.9
    assert towards[:, 62:].max() < 0.02
    assert towards.min() > -0.01 and towards.max() < 1.01


def test_a_color_gets_to_what_looks_like_its_place_and_to_nothing_else():
    luma = torch.full((120, 400), 90, dtype=torch.uint8)  # no edge at all
    known = read_hints([(30, 60, "red")], (120, 400))
    places = torch.zeros(12, 40)
    places[:, :8] = 1

    reached = finish_chroma(luma, torch.zeros(2, 10, 33), known, 1.0, None, likeness_of(places)).norm(dim=0)

    asked = known.chroma[:, 0].norm()
    assert reached[:, :70].min() > 0.9 * asked
    assert reached[:, 90:].max() < 0.02 * asked


def test_what_no_color_reaches_stays_as_it_was_painted_whatever_it_looks_like():
    luma = torch.full((300, 400), 90, dtype=torch.uint8)
    luma[:, 100:140] = torch.arange(90, 250, 4, dtype=torch.uint8)
    luma[:, 140:] = 20  # beyond an edge that nothing gets over
    painted = torch.tensor([0.05, -0.1])[:, None, None].expand(2, 10, 33)
    known = read_hints([(30, 60, "red"), (60, 200, "blue")], (300, 400))

    chroma = finish_chroma(luma, painted, known, 1.0, None, likeness_of(torch.ones(12, 40)))

    assert (chroma[:, :, 150:] - painted[:, :1, :1]).abs().max() < 0.05 * painted.norm(dim=0).max()


def test_known_places_tell_what_counts_as_alike():
    pipeline = make_pipeline(with_encoder=True)
    luma = torch.from_numpy(np.array(Image.fromarray(astronaut()).convert("L").resize((300, 200))))
    stroke = [(x, y, "red") for x in range(60, 110) for y in (90, 91)]
    scattered = [(20, 20, "red"), (150, 60, "red"), (280, 180, "red"), (40, 170, "red")]

    lone, drawn, spread_out = (
        find_likeness(pipeline, luma, read_hints(points, (200, 300))) for points in (stroke[:1], stroke, scattered)
    )

    assert lone.among == 1 > drawn.among > spread_out.among
    assert all(likeness.places.min() >= 0 and likeness.places.max() == 1 for likeness in (lone, drawn, spread_out))
    assert len(lone.cells) == 1 and len(spread_out.cells) == 4
    assert torch.allclose(spread_out.cosines[spread_out.cells].diagonal(), torch.ones(4), atol=1e-5)
    assert lone.places.mean() < drawn.places.mean() < spread_out.places.mean()
    line = find_likeness(pipeline, torch.zeros(1, 65_000, dtype=torch.uint8), read_hints([(9, 0, "red")], (1, 65_000)))
    assert line.places.numel() <= 64**2
    assert find_likeness(make_pipeline(), luma, read_hints(stroke, (200, 300))) is None


def test_two_neighbors_of_other_colors_leave_no_dots():
    luma = torch.full((200, 200), 120, dtype=torch.uint8)
    known = read_hints([(95, 100, "red"), (105, 100, "blue")], (200, 200))

    chroma = finish_chroma(luma, torch.zeros(2, 10, 10), known, 1.0, None)

    jumps = [(chroma[:, 99:102, x] - chroma[:, 100, x - 1, None]).norm(dim=0).max() for x in (95, 105)]
    assert max(jumps) < 0.25 * (known.chroma[:, 0] - known.chroma[:, 1]).norm()


def test_what_does_not_exist_is_said_once_and_the_nearest_of_its_hue_is_taken(pipeline):
    photos = [Image.new("L", (40, 30), 177)] * 2

    with pytest.warns(HintWarning, match="too bright.*the reddest possible is #ff9090.*at 1 more") as caught:
        output = pipeline(photos, hints=[[(20, 10, "#ff0000")], [(3, 4, "#f00")]], generator=seeded(0)).images[0]

    assert len(caught) == 1
    assert output.getpixel((20, 10)) == pytest.approx((255, 144, 144), abs=1)


def test_hints_keep_their_colors_at_any_strength_and_colorfulness_is_met_beside_them(pipeline, photo):
    hints = [(20, 10, "#7a5b4c")]
    gray = np.asarray(photo)[10, 20]
    asked = join(torch.tensor([[gray]]), rgb_to_chroma(torch.tensor([122, 91, 76]).view(1, 3, 1, 1) / 255)[0])[0]

    for strength in ({"saturation": 0}, {"saturation": 2}, {"target_colorfulness": 30}):
        output = pipeline(photo, hints=hints, generator=seeded(0), **strength).images[0]
        assert output.getpixel((20, 10)) == pytest.approx(tuple(asked[0].tolist()), abs=1)
        assert np.array_equal(np.asarray(output.convert("L")), np.asarray(photo))
    reached = colorfulness(torch.tensor(np.asarray(output)).permute(2, 0, 1).float() / 255)
    assert reached == pytest.approx(30, abs=1)


def test_colorfulness_is_met_by_the_palest_painting_too():
    luma = torch.from_numpy(np.array(Image.fromarray(astronaut()).convert("L")))
    chroma = 0.004 * torch.randn(2, 20, 20, generator=seeded(0))

    gain = gain_for_colorfulness(luma, chroma, 40.0)

    assert gain > 4
    assert colorfulness(join(luma, gain * chroma).permute(2, 0, 1).float() / 255) == pytest.approx(40, abs=1)


def test_a_hint_changes_nothing_beyond_the_edge_of_what_it_lies_on(pipeline):
    gray = Image.new("L", (96, 64), 90)
    gray.paste(170, (48, 0, 96, 64))

    before = pipeline(gray, generator=seeded(0)).images[0]
    after = pipeline(gray, hints=[(20, 30, "#7a5b4c")], generator=seeded(0)).images[0]

    change = np.abs(np.asarray(after, dtype=int) - np.asarray(before, dtype=int)).max(axis=2)
    assert change[:, 60:].max() <= 1 and change[8:-8, 8:40].mean() > 10


def test_a_photo_without_hints_is_painted_as_if_there_were_none(photo):

    alone = make_pipeline()(photo, generator=seeded(0))
    empty = make_pipeline()(photo, hints=[], generator=seeded(0))
    beside = make_pipeline()([photo, photo], hints=[None, [(5, 5, "#806050")]], generator=[seeded(0), seeded(1)])

    assert alone.images[0].tobytes() == empty.images[0].tobytes()
    assert alone.chroma[0].shape == beside.chroma[0].shape == empty.chroma[0].shape
    assert (alone.chroma[0] - beside.chroma[0]).abs().max() < 1e-4
    assert beside.chroma[1].shape[1:] == (60, 90)


def test_one_opaque_pixel_of_a_layer_is_one_known_pixel():
    layer = Image.new("RGBA", (30, 20))
    layer.putpixel((7, 3), (200, 100, 50, 255))
    layer.putpixel((8, 3), (200, 100, 50, 100))

    from_layer, from_point = (read_hints(hints, (20, 30)) for hints in (layer, [(7, 3, (200, 100, 50))]))

    assert torch.equal(from_layer.chroma, from_point.chroma)
    assert (int(from_layer.rows), int(from_layer.columns)) == (3, 7) == (int(from_point.rows), int(from_point.columns))
    assert fit_to_gamut([None], [torch.zeros(2, 2, dtype=torch.uint8)]) == [None]
