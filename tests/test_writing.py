"""Results are written whole or not at all, code for code."""

import os

import numpy as np
import pytest
import tifffile
from PIL import Image

from colorize_pipeline.apps import tiff_file
from colorize_pipeline.apps.photo import Photo
from colorize_pipeline.apps.reading import read_photo
from colorize_pipeline.apps.writing import write_photo


PHOTO = Photo(Image.new("L", (61, 45)))


def random_codes(dtype, *shape):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


@pytest.mark.parametrize("suffix, dtype", [(".png", np.uint8), (".png", np.uint16), (".tif", np.uint8)]
                         + [(".tif", np.uint16), (".webp", np.uint8)])  # fmt: skip
def test_every_code_and_its_opacity_come_back(tmp_path, suffix, dtype):
    colors, alpha = random_codes(dtype, 45, 61, 3), random_codes(dtype, 45, 61)
    ramp = np.linspace(0, np.iinfo(dtype).max, 45 * 61 * 3).reshape(45, 61, 3).astype(dtype)

    for number, (codes, opacity) in enumerate([(colors, None), (colors, alpha), (ramp, None)]):
        target = tmp_path / f"{number}{suffix}"
        assert write_photo(target, codes, Photo(PHOTO.image, opacity)) == ()

        again = read_photo(target)
        assert np.array_equal(np.asarray(again.image)[:, :, :3], codes)
        assert (again.alpha is None) == (opacity is None) and np.array_equal(again.alpha, opacity)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_gray_is_written_as_gray(tmp_path, suffix):
    for dtype in (np.uint8, np.uint16):
        codes = random_codes(dtype, 45, 61)

        write_photo(tmp_path / f"out{suffix}", codes, PHOTO, overwrite=True, synthetic=False)

        again = read_photo(tmp_path / f"out{suffix}")
        assert np.array_equal(np.asarray(again.image), codes) and again.xmp is None


def test_others_read_our_tiffs_and_pngs_in_both_orders_of_bytes_and_beyond_four_gigabytes(tmp_path, monkeypatch):
    imagecodecs = pytest.importorskip("imagecodecs")
    colors = random_codes(np.uint16, 45, 61, 3)
    write_photo(tmp_path / "out.png", colors, PHOTO)
    assert np.array_equal(imagecodecs.png_decode((tmp_path / "out.png").read_bytes()), colors)
    for limit in (tiff_file._MAX_CLASSIC, 0):
        monkeypatch.setattr(tiff_file, "_MAX_CLASSIC", limit)
        monkeypatch.setattr(tiff_file, "_ROWS_PER_STRIP_BYTES", 2000)
        write_photo(tmp_path / "out.tif", colors, PHOTO, overwrite=True)

        with tifffile.TiffFile(tmp_path / "out.tif") as file:
            assert file.is_bigtiff == (limit == 0) and len(file.pages[0].dataoffsets) == 9
            assert np.array_equal(file.asarray(), colors)
        assert np.array_equal(read_photo(tmp_path / "out.tif").image, colors)


def test_a_failed_write_leaves_nothing_behind_and_an_existing_file_alone(tmp_path):
    taken = tmp_path / "taken.png"
    taken.write_bytes(b"precious")

    with pytest.raises(FileExistsError, match="taken.png"):
        write_photo(taken, random_codes(np.uint8, 45, 61, 3), PHOTO)
    with pytest.raises(ValueError, match="8 bit.*--depth 8"):
        write_photo(tmp_path / "deep.jpg", random_codes(np.uint16, 45, 61, 3), PHOTO)
    with pytest.raises(ValueError, match="16383 pixels"):
        write_photo(tmp_path / "long.webp", np.zeros((1, 16_400, 3), np.uint8), PHOTO)

    assert taken.read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["taken.png"]
