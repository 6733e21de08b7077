"""Pairs of gray and color: what the network sees of them, on crops of the photos inside scikit-image."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import seeded
from optimization.training_config import TrainingConfig
from photos.paired_photos import find_pairs, lab_to_photo, read_pair
from photos.photo_dataset import create_dataloader, load_photos
from PIL import Image
from skimage.color import deltaE_cie76, rgb2lab
from skimage.data import astronaut, chelsea, coffee

from colorize_pipeline import ColorizationPipeline
from colorize_pipeline.color import LUMA_WEIGHTS
from train import create_noise_scheduler


TRAIN = Path(__file__).parents[1] / "train"
SIDE = 48
AB_COUNTS = (5, 4, 3)


def to_lab_codes(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """8-bit Lab as OpenCV's documentation defines it: L* times 255 / 100, a* + 128, b* + 128."""
    lab = rgb2lab(rgb)
    return np.rint(lab[..., 0] * 255 / 100).astype(np.uint8), np.rint(lab[..., 1:] + 128).astype(np.uint8)


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """Twelve color photos, `(12, SIDE, SIDE, 3)`."""
    photos = (astronaut(), chelsea(), coffee())
    return np.stack(
        [photos[number % 3][8 * number : 8 * number + SIDE, 100 : 100 + SIDE] for number in range(sum(AB_COUNTS))]
    )


@pytest.fixture
def arrays(crops, tmp_path) -> Path:
    """The layout of the Kaggle set."""
    lightness, ab = to_lab_codes(crops)
    (tmp_path / "l").mkdir()
    (tmp_path / "ab" / "ab").mkdir(parents=True)
    np.save(tmp_path / "l" / "gray_scale.npy", lightness)
    for number, part in enumerate(np.split(ab, np.cumsum(AB_COUNTS)[:-1]), start=1):
        np.save(tmp_path / "ab" / "ab" / f"ab{number}.npy", part)
    return tmp_path


@pytest.fixture
def folders(crops, tmp_path) -> Path:
    """Two folders of files, where the gray photo is the negative of what its colors would give."""
    for side in ("color", "gray"):
        (tmp_path / side / "sub folder").mkdir(parents=True)
    for number, crop in enumerate(crops):
        photo = Image.fromarray(crop)
        photo.save(tmp_path / "color" / "sub folder" / f"{number}.png")
        photo.convert("L").point(lambda code: 255 - code).save(tmp_path / "gray" / "sub folder" / f"{number}.png")
    return tmp_path


def first_batch(folder: Path, **options) -> dict:
    settings = {"preset": "tiny", "resolutions": [32], "stage_photos": [48], "batch_size": 12, "num_workers": 0}
    config = TrainingConfig(output_dir="run", dataset=str(folder), **{**settings, **options})
    return next(iter(create_dataloader(config, create_noise_scheduler(config), 0, 0, 1)))


def test_arrays_give_the_colors_back_within_the_rounding_of_their_codes(arrays, crops):
    pairs = find_pairs(arrays)

    photos, grays = zip(*map(read_pair, pairs), strict=True)

    # Half a code of L* is 0.2 and of a* and b* 0.5, together 0.73; half a code of sRGB adds at most as much again.
    distances = deltaE_cie76(rgb2lab(np.stack(photos)), rgb2lab(crops))
    assert distances.max() < 1.5 and distances.mean() < 0.5
    assert np.abs(np.stack(photos).astype(int) - crops).mean() < 0.5  # codes of sRGB
    assert not any(grays)
    assert [pair["path"].rpartition("/")[2] for pair in pairs[4:6]] == ["ab1.npy[4]", "ab2.npy[0]"]


def test_lab_codes_mean_what_they_mean_to_opencv():
    # Source: cvtColor(..., COLOR_RGB2LAB) of these 8-bit colors.
    codes = {
        (0, 0, 0): (0, 128, 128),
        (255, 255, 255): (255, 128, 128),
        (255, 0, 0): (136, 208, 195),
        (0, 255, 0): (224, 42, 211),
        (0, 0, 255): (82, 207, 20),
    }
    lab = np.array(list(codes.values()), np.uint8)[None]

    photo = lab_to_photo(lab[..., 0], lab[..., 1:])

    assert (deltaE_cie76(rgb2lab(np.asarray(photo)), rgb2lab(np.array(list(codes), np.uint8)[None])) < 1.5).all()


def test_of_arrays_of_four_gigabytes_only_the_photo_is_read(crops, tmp_path):
    # As large as the Kaggle set, but sparse on the disk: black but for one photo.
    (tmp_path / "l").mkdir()
    (tmp_path / "ab" / "ab").mkdir(parents=True)
    lightness, ab = to_lab_codes(crops[0])

    shapes = {
        "l/gray_scale.npy": (25_000, 224, 224),
        "ab/ab/ab1.npy": (10_000, 224, 224, 2),
        "ab/ab/ab2.npy": (10_000, 224, 224, 2),
        "ab/ab/ab3.npy": (5_000, 224, 224, 2),
    }
    colored = {"l/gray_scale.npy": (17_000, lightness), "ab/ab/ab2.npy": (7_000, ab)}
    for name, shape in shapes.items():
        array = np.lib.format.open_memmap(tmp_path / name, mode="w+", dtype=np.uint8, shape=shape)
        if name in colored:
            row, codes = colored[name]
            array[row, :SIDE, :SIDE] = codes

    tracemalloc.start()
    photos = load_photos(str(tmp_path), "*.parquet", "train", streaming=False)
    photo, _ = read_pair(photos[17_000]["image"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(photos) == 25_000 and photo.size == (224, 224)
    assert deltaE_cie76(rgb2lab(np.asarray(photo)[:SIDE, :SIDE]), rgb2lab(crops[0])).max() < 1.5
    assert peak < 100e6  # bytes, most of them for the 25,000 names


def test_network_sees_the_gray_file_of_a_pair_and_paints_the_color_file(folders):
    settings = {"target": "rgb", "luminance_patch": 1, "with_hints": False, "condition_dropout": 0.0}

    batch = first_batch(
        folders, gray_mixing_probability=1.0, degradation_probability=0.0, **settings
    )  # a gray file is seen as it is

    # The gray is a negative. Codes are rounded, and resizing clips some pixels at black and white.
    luma = torch.einsum("c,bchw->bhw", torch.tensor(LUMA_WEIGHTS), batch["clean_sample"])
    assert (batch["luminance"][:, 0] + luma).abs().mean() < 0.01
    assert sorted(batch["name"]) == sorted(str(path) for path in folders.glob("color/*/*.png"))


def test_gray_files_of_16_bit_show_what_those_of_8_bit_show(folders):
    path = folders / "gray" / "sub folder" / "0.png"
    with Image.open(path) as file:
        codes = np.asarray(file)
    Image.fromarray(codes.astype(np.uint16) * 257).save(path)

    _, gray = read_pair(find_pairs(folders)[0])

    assert gray.mode == "L" and np.array_equal(np.asarray(gray), codes)


def test_a_pair_of_two_sizes_is_passed_over_and_named(folders):
    Image.new("L", (SIDE, SIDE + 1)).save(folders / "gray" / "sub folder" / "7.png")

    with pytest.warns(
        UserWarning, match=r"color/sub folder/7.png is passed over.*gray/sub folder/7.png has \(48, 49\)"
    ):
        batch = first_batch(folders)

    assert batch["unreadable"].sum() == 1
    assert not any("7.png" in name for name in batch["name"])


@pytest.mark.parametrize("layout", ["arrays", "folders"])
def test_a_stream_holds_the_same_pairs(layout, request):
    folder = str(request.getfixturevalue(layout))

    indexed = load_photos(folder, "*.parquet", "train", streaming=False, image_column="picture")
    streamed = load_photos(folder, "*.parquet", "train", streaming=True, image_column="picture")

    assert [row["picture"] for row in streamed] == [row["picture"] for row in indexed]
    batches = [first_batch(Path(folder), streaming=True, shuffle_buffer=12) for _ in range(2)]
    assert len(set(batches[0]["name"])) == 12
    assert batches[0]["name"] == batches[1]["name"]


@pytest.mark.parametrize(
    "name, array, message",
    [
        ("ab/ab/ab2.npy", None, r"lacks ab/ab/ab2\.npy\.$"),
        ("l/gray_scale.npy", None, r"lacks l/gray_scale\.npy\.$"),
        ("ab/ab/ab3.npy", np.zeros((2, SIDE, SIDE, 2), np.uint8), r"gray_scale\.npy has 12 and .* have 11\.$"),
        (
            "ab/ab/ab3.npy",
            np.zeros((3, SIDE, SIDE + 1, 2), np.uint8),
            r"ab3\.npy must .* is uint8 of \(3, 48, 49, 2\)\.$",
        ),
        ("ab/ab/ab1.npy", np.zeros((5, SIDE, SIDE, 2), np.float32), r"ab1\.npy must be uint8 .* is float32 of"),
        ("l/gray_scale.npy", np.zeros((12, SIDE, SIDE), np.int16), r"gray_scale\.npy must be uint8 .* is int16 of"),
        ("l/gray_scale.npy", np.zeros((12, SIDE, SIDE, 1), np.uint8), r"gray_scale\.npy .*\(photos, height, width\)"),
        ("l/gray_scale.npy", b"no array", r"gray_scale\.npy must be an array file of NumPy, but .*magic"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_one_line(arrays, name, array, message):
    if array is None:
        (arrays / name).unlink()
    elif isinstance(array, bytes):
        (arrays / name).write_bytes(array)
    else:
        np.save(arrays / name, array)

    with pytest.raises(ValueError, match=message) as error:
        load_photos(str(arrays), "*.parquet", "train", streaming=False)
    assert "\n" not in str(error.value)


def test_files_without_a_partner_are_counted_and_three_of_them_named(folders):
    for number in (2, 5, 6):
        (folders / "gray" / "sub folder" / f"{number}.png").unlink()
    Image.new("L", (SIDE, SIDE)).save(folders / "gray" / "other.png")
    (folders / "gray" / "notes.txt").write_text("no photo")

    message = "no partner: color/sub folder/2.png, color/sub folder/5.png, color/sub folder/6.png and 1 more.$"
    with pytest.raises(ValueError, match=message):
        find_pairs(folders)


def test_a_folder_of_neither_layout_is_no_set_of_pairs(tmp_path):
    assert find_pairs(tmp_path) is None
    (tmp_path / "color").mkdir()
    assert find_pairs(tmp_path) is None
    (tmp_path / "gray").mkdir()
    with pytest.raises(ValueError, match="no photos in color and gray"):
        find_pairs(tmp_path)


@pytest.mark.parametrize("layout, name", [("arrays", "colorized-linear"), ("folders", "smoke")])
def test_the_training_script_trains_on_pairs(layout, name, request, tmp_path, photo):
    output_dir = tmp_path / "run"
    settings = {
        "config": TRAIN / "configs" / f"{name}.json",
        "dataset": request.getfixturevalue(layout),
        "output_dir": output_dir,
        "resolutions": 32,
        "stage_photos": 8,
        "batch_size": 4,
        "log_photos": 4,
        "num_validation_images": 1,
        "num_inference_steps": 2,
    }
    flags = [part for option, value in settings.items() for part in (f"--{option}", str(value))]

    result = subprocess.run(
        [sys.executable, str(TRAIN / "train.py"), *flags],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout.count(" photos: loss ") == 2  # one for each update
    pipeline = ColorizationPipeline.from_pretrained(output_dir / "pipeline")
    painted = pipeline(photo, generator=seeded(0)).images[0]
    assert np.array_equal(np.asarray(painted.convert("L")), np.asarray(photo))
