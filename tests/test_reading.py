"""Photos of many kinds, read upright and as they were meant."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
import tifffile
from conftest import SHARED, SRGB, TURNED_XMP, UPRIGHT_XMP
from PIL import Image

from colorize_pipeline.apps.color_space import build_profile, srgb
from colorize_pipeline.apps.photo import PHOTO_ERRORS
from colorize_pipeline.apps.reading import count_pages, find_photos, read_photo, turn_upright


imagecodecs = pytest.importorskip("imagecodecs", reason="the extra `archive` is not installed")


def codes_of(photo):
    return np.asarray(photo.image)


def random_codes(*shape, dtype=np.uint16):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_all_eight_orientations_are_read_upright(tmp_path, orientation, suffix):
    upright = np.arange(6, dtype=np.uint16).reshape(2, 3)
    sixteen_bit_rgb = np.repeat(upright[:, :, None], 3, axis=2) * 10_000
    stored = next(  # the stored pixels whose upright form under this orientation is `upright`
        turned
        for turned in (np.rot90(flip, k) for flip in (sixteen_bit_rgb, sixteen_bit_rgb[::-1]) for k in range(4))
        if np.array_equal(turn_upright(turned, orientation), sixteen_bit_rgb)
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"in{suffix}"
    Image.fromarray((stored[:, :, 0] // 257).astype(np.uint8)).resize(
        (stored.shape[1] * 16, stored.shape[0] * 16), Image.NEAREST
    ).save(path, exif=exif, **({"quality": 100} if suffix == ".jpg" else {}))

    image = read_photo(path).image

    small = np.asarray(image.resize((3, 2), Image.BOX)).astype(int)
    assert np.abs(small - upright * 10_000 // 257).max() <= 2

    if suffix == ".tif":
        tag = (0x0112, "H", 1, orientation, True)
        tifffile.imwrite(path, stored, photometric="rgb", extratags=[tag])
        assert np.array_equal(read_photo(path).image, sixteen_bit_rgb)


def test_xmp_in_utf_16_and_comments_of_before_utf_8_are_read_as_they_were_meant(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "in.jpg", comment="Müller, Köln".encode("latin-1"))
    exif = Image.Exif()
    exif[700] = TURNED_XMP.decode().encode("utf-16")
    Image.new("L", (8, 8)).save(tmp_path / "in.tif", exif=exif)

    assert read_photo(tmp_path / "in.jpg").texts == {"Comment": "Müller, Köln"}
    xmp = read_photo(tmp_path / "in.tif").xmp
    assert b"Orientation" not in xmp and "café".encode() in xmp and len(xmp) < len(UPRIGHT_XMP) + 40


@pytest.mark.parametrize(
    "options",
    [{}, {"bigtiff": True}, {"tile": (32, 32)}, {"planarconfig": "separate"}, {"byteorder": ">"}]
    + [{"compression": "deflate", "predictor": True}, {"compression": "lzw"}],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiffs_of_every_layout_are_read_code_for_code(tmp_path, options, dtype):
    codes = random_codes(70, 50, 3, dtype=dtype)
    stored = np.moveaxis(codes, 2, 0) if "planarconfig" in options else codes
    tifffile.imwrite(tmp_path / "in.tif", stored, photometric="rgb", **options)

    photo = read_photo(tmp_path / "in.tif")

    assert np.array_equal(codes_of(photo), codes) and photo.notes == ()
    assert photo.sixteen_bit == (dtype == np.uint16)


def test_gray_tiffs_of_every_depth_are_read_as_they_look(tmp_path):
    codes = np.array([[0, 4095], [1000, 65535]], dtype=np.uint16)

    def read(name, stored, **options):
        tifffile.imwrite(tmp_path / name, stored, **options)
        return codes_of(read_photo(tmp_path / name)).tolist()

    assert read("positive.tif", codes, photometric="minisblack") == codes.tolist()
    assert read("negative.tif", codes, photometric="miniswhite") == (65_535 - codes).tolist()
    # 12 bits are packed: two codes, 0xFFF and 0x7FF, in three bytes.
    twelve = np.array([[4095, 2047]], np.uint16)
    assert read("twelve.tif", twelve, bitspersample=12, rowsperstrip=1) == [[65535, 32759]]
    wide = codes.astype(np.uint32) * 65_537
    assert read("wide.tif", wide, photometric="minisblack") == codes.tolist()
    assert read("real.tif", (codes / 65_535).astype(np.float32), photometric="minisblack") == codes.tolist()
    assert read("half.tif", np.array([[0, 0.5, 1]], np.float16), photometric="minisblack") == [[0, 32768, 65535]]
    ten = np.array([[1023, 0, 511, 1, 2, 3, 4, 5]], np.uint16)
    assert read("ten.tif", ten, bitspersample=10, rowsperstrip=1)[0][:4] == [65535, 0, 32735, 64]
    # L* of 100 / 255 * 128 is a light of 0.186, for which sRGB has the code 119.
    assert read("lab.tif", np.full((2, 2, 3), 128, np.uint8), photometric="cielab") == [[119, 119], [119, 119]]


@pytest.mark.parametrize("compression", ["lerc", "jpeg2000", "jpegxl", "png", "webp", "lzma", "zstd"])
def test_tiffs_in_compressions_that_pillow_does_not_know_are_read_code_for_code(tmp_path, compression):
    options = {"compressionargs": {"lossless": True, "level": 100}} if compression == "webp" else {}
    for number, codes in enumerate([random_codes(32, 40, 3, dtype=np.uint8), random_codes(32, 40)]):
        if compression == "webp" and number == 1:
            continue  # it has 8 bit
        photometric = "rgb" if codes.ndim == 3 else "minisblack"
        tifffile.imwrite(tmp_path / "in.tif", codes, photometric=photometric, compression=compression, **options)

        assert np.array_equal(codes_of(read_photo(tmp_path / "in.tif")), codes)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colors_that_were_multiplied_with_their_opacity_are_divided_by_it_and_that_is_said(tmp_path, dtype):
    white = np.iinfo(dtype).max
    alpha = np.array([[0, white // 2, white]], dtype)
    for samples in (1, 3):
        meant = np.full((1, 3, samples), white // 5, dtype)
        held = (meant.astype(float) * alpha[..., None] / white).round().astype(dtype)
        tifffile.imwrite(
            tmp_path / "in.tif",
            np.concatenate([held, alpha[..., None]], axis=2),
            photometric="rgb" if samples == 3 else "minisblack",
            planarconfig="contig",
            extrasamples=["assocalpha"],
        )

        photo = read_photo(tmp_path / "in.tif")

        codes = codes_of(photo).reshape(1, 3, -1)[..., :samples].astype(int)
        assert np.array_equal(photo.alpha, alpha) and np.abs(codes - meant)[0, 1:].max() <= 1
        assert "multiplied with its opacity" in photo.notes[0]


@pytest.mark.parametrize(
    "stored, words",
    [
        (np.array([[0, 1], [2, 1e9]], np.float32), "floating-point"),
        (np.array([[0, np.nan]], np.float32), "floating-point"),
        (np.array([[1, 65_535]], np.uint32), "upper 16"),
        (np.array([[-5, 5]], np.int16), "16 bit a channel of a kind"),
        (np.array([[1j]], np.complex64), "no photo's"),
    ],
    ids=["float", "nan", "half empty", "signed", "complex"],
)
def test_pixels_whose_meaning_is_not_defined_are_refused_in_plain_words(tmp_path, stored, words):
    tifffile.imwrite(tmp_path / "in.tif", stored, photometric="minisblack")

    with pytest.raises(ValueError, match=words):
        read_photo(tmp_path / "in.tif")


def test_opacity_is_read_at_the_depth_of_its_file(tmp_path):
    image = Image.new("LA", (8, 8), (90, 255))
    image.putpixel((3, 3), (90, 17))
    image.save(tmp_path / "8.png")
    image.save(tmp_path / "8.tif")
    deep = random_codes(9, 7, 4)
    (tmp_path / "16.png").write_bytes(imagecodecs.png_encode(deep))
    (tmp_path / "gray.png").write_bytes(imagecodecs.png_encode(deep[:, :, :2].copy()))
    tifffile.imwrite(tmp_path / "16.tif", deep, photometric="rgb", extrasamples=["unassalpha"])
    tifffile.imwrite(tmp_path / "gray.tif", deep[:, :, :2], photometric="minisblack", extrasamples=["unassalpha"])

    for name in ("8.png", "8.tif"):
        assert read_photo(tmp_path / name).alpha[3, 3] == 17
    for name in ("16.png", "16.tif"):
        photo = read_photo(tmp_path / name)
        assert np.array_equal(photo.image, deep[:, :, :3]) and np.array_equal(photo.alpha, deep[:, :, 3]), name
    for name in ("gray.png", "gray.tif"):
        photo = read_photo(tmp_path / name)
        assert np.array_equal(photo.image, deep[:, :, 0]) and np.array_equal(photo.alpha, deep[:, :, 1]), name


@pytest.mark.parametrize("codec", ["jp2", "j2k"])
def test_sixteen_bit_jpeg_2000_keeps_its_depth_in_a_file_and_as_a_bare_codestream(tmp_path, codec):
    codes = random_codes(40, 30, 3)
    (tmp_path / f"in.{codec}").write_bytes(imagecodecs.jpeg2k_encode(codes, level=0, codecformat=codec))
    gray = codes[:, :, 0] >> 4
    (tmp_path / f"gray.{codec}").write_bytes(
        imagecodecs.jpeg2k_encode(gray, level=0, codecformat=codec, bitspersample=12)
    )

    assert np.array_equal(read_photo(tmp_path / f"in.{codec}").image, codes)
    assert np.abs(read_photo(tmp_path / f"gray.{codec}").image / 65_535 - gray / 4095).max() < 1e-4


def test_avif_of_ten_bit_keeps_them(tmp_path):
    codes = (np.mgrid[0:64, 0:64].sum(axis=0) * 8)[:, :, None].repeat(3, axis=2).astype(np.uint16)
    (tmp_path / "in.avif").write_bytes(imagecodecs.avif_encode(codes, level=100, bitspersample=10))

    photo = read_photo(tmp_path / "in.avif")

    assert photo.sixteen_bit and np.abs(photo.image / 65_535 - codes / 1023).max() < 0.01


def test_heic_is_read_with_the_extra_upright_and_at_its_depth(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = 6, "José"
    image = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
    pillow_heif.from_pillow(image).save(tmp_path / "in.heic", quality=100, exif=exif.tobytes(), xmp=TURNED_XMP)
    deep = (np.asarray(image).astype(np.uint16) * 257).tobytes()
    pillow_heif.from_bytes("RGB;16", (64, 48), deep).save(tmp_path / "deep.heic", quality=-1)

    photo, deep = read_photo(tmp_path / "in.heic"), read_photo(tmp_path / "deep.heic")

    assert photo.size == (48, 64) and 0x0112 not in photo.exif.fields and b"Orientation" not in photo.xmp
    right_to_left = np.asarray(photo.image)[:, :, 1].mean(axis=0)
    assert right_to_left[0] > 200 and right_to_left[-1] < 50  # what was above is to the right
    assert deep.sixteen_bit and np.abs(deep.image / 257.0 - np.asarray(image)).max() < 3


def test_of_a_tiff_the_picture_at_full_size_is_read_and_not_its_thumbnail(tmp_path):
    whole, small = random_codes(60, 80), np.zeros((15, 20, 3), np.uint8)
    with tifffile.TiffWriter(tmp_path / "below.dng") as file:
        file.write(small, photometric="rgb", subfiletype=1, subifds=1)
        file.write(whole, photometric="minisblack", subfiletype=0)
    with tifffile.TiffWriter(tmp_path / "beside.tif") as file:
        file.write(small, photometric="rgb", subfiletype=1)
        file.write(whole, photometric="minisblack", subfiletype=0)
    with tifffile.TiffWriter(tmp_path / "above.tif") as file:
        file.write(whole, photometric="minisblack", subifds=1)
        file.write(small, photometric="rgb", subfiletype=1)

    for name in ("below.dng", "beside.tif", "above.tif"):
        assert np.array_equal(codes_of(read_photo(tmp_path / name)), whole), name
        assert count_pages(tmp_path / name) == 1


def test_every_page_of_a_tiff_can_be_read(tmp_path):
    pages = [random_codes(20, 30, 3), random_codes(31, 20)[::-1], random_codes(8, 8, 3, dtype=np.uint8)]
    with tifffile.TiffWriter(tmp_path / "in.tif") as file:
        for page in pages:
            file.write(page, photometric="rgb" if page.ndim == 3 else "minisblack")

    assert count_pages(tmp_path / "in.tif") == 3
    for number, page in enumerate(pages):
        assert np.array_equal(codes_of(read_photo(tmp_path / "in.tif", number)), page)
    assert "first of 3 pages" in read_photo(tmp_path / "in.tif").notes[0]
    with pytest.raises(ValueError, match="no page 4"):
        read_photo(tmp_path / "in.tif", 3)


def test_depth_eight_rounds_scans_and_makes_gray_of_black_and_white(tmp_path):
    codes = random_codes(20, 30)
    Image.fromarray(codes).save(tmp_path / "scan.png")
    dots = Image.fromarray(np.indices((40, 40)).sum(axis=0) % 2 == 0)
    dots.save(tmp_path / "fax.tif", compression="group4")

    rounded, gray = read_photo(tmp_path / "scan.png", depth=8), read_photo(tmp_path / "fax.tif", depth=8)

    assert not rounded.sixteen_bit and np.array_equal(codes_of(rounded), np.rint(codes / 257.0))
    inside = codes_of(gray)[2:-2, 2:-2]
    assert inside.min() > 100 and inside.max() < 155
    with pytest.raises(ValueError, match="no room for color"):
        read_photo(tmp_path / "fax.tif")


def test_files_that_are_no_photos_are_refused_by_name_and_photos_are_read_under_any(tmp_path):
    sensor = random_codes(20, 30)
    tifffile.imwrite(tmp_path / "raw.dng", sensor, photometric=32803, extratags=[(33421, "H", 2, (2, 2), True)])
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    for name, data, words in (
        ("raw.dng", None, "raw file.*16 bit"),
        ("x.nef", b"?" * 100, "raw file"),
        ("x.jpg", b"FUJIFILMCCD-RAW 0201", "raw file"),
        ("x.tif", b"8BPS" + bytes(60), "Photoshop"),
        ("x.png", b"%PDF-1.7" + bytes(60), "PDF"),
        ("x.heic", heic, "HEIC"),
        ("x.jpg", b"<html>" + bytes(60), "no JPEG, PNG, TIFF"),
        ("x.jpg", imagecodecs.ljpeg_encode(sensor, bitspersample=16), "a JPEG of 16 bit"),
    ):
        if data:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=words):
            read_photo(tmp_path / name)

    for suffix in (".jfif", ".jpe", ".JPG", ".mpo", ".png", ".tif", ".raw"):
        Image.new("L", (9, 7), 80).save(tmp_path / f"photo{suffix}", "JPEG")
        assert read_photo(tmp_path / f"photo{suffix}").size == (9, 7)
    found = {path.name for path in find_photos(tmp_path)}
    assert {"photo.jfif", "photo.jpe", "photo.JPG", "photo.mpo", "x.heic", "raw.dng"} <= found and "x.nef" not in found


def test_a_photo_whose_later_pictures_are_damaged_is_refused_and_nothing_else_is_raised(tmp_path):
    frames = [Image.fromarray(random_codes(9, 9, dtype=np.uint8)) for _ in range(3)]
    frames[0].save(tmp_path / "in.gif", save_all=True, append_images=frames[1:])
    data = (tmp_path / "in.gif").read_bytes()

    for position in range(0, len(data), 3):
        (tmp_path / "in.gif").write_bytes(data[:position] + b"\0" + data[position + 1 :])
        try:
            read_photo(tmp_path / "in.gif")
        except PHOTO_ERRORS as error:
            assert len(str(error).splitlines()) <= 1


def test_bombs_are_refused_at_once(tmp_path):
    header = struct.pack(">2I5B", 60_000, 60_000, 8, 0, 0, 0, 0)
    text = b"Comment\0\0" + zlib.compress(bytes(200 << 20))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    (tmp_path / "large.png").write_bytes(png + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b""))
    small = chunk(b"IHDR", struct.pack(">2I5B", 1, 1, 8, 0, 0, 0, 0)) + chunk(b"zTXt", text)
    (tmp_path / "text.png").write_bytes(b"\x89PNG\r\n\x1a\n" + small + chunk(b"IDAT", zlib.compress(b"\0\0")))
    tifffile.imwrite(tmp_path / "large.tif", np.zeros((1, 1, 3), np.uint16), photometric="rgb")
    with tifffile.TiffFile(tmp_path / "large.tif", mode="r+b") as file:
        for name in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[name].overwrite(65_000)

    for name in ("large.png", "large.tif", "text.png"):
        clock = time.process_time()
        with pytest.raises(PHOTO_ERRORS):
            read_photo(tmp_path / name)
        assert time.process_time() - clock < 1, name


def test_a_color_space_that_a_png_names_in_its_own_way_becomes_a_profile(tmp_path):
    def with_chunks(*chunks):
        png = io.BytesIO()
        Image.new("L", (8, 8), 90).save(png, "PNG")
        parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
        data = png.getvalue()
        (tmp_path / "in.png").write_bytes(data[:33] + b"".join(parts) + data[33:])
        return read_photo(tmp_path / "in.png")

    assert with_chunks((b"gAMA", struct.pack(">I", 100_000))).icc_profile[16:20] == b"RGB "
    assert with_chunks((b"gAMA", struct.pack(">I", 45_455))).icc_profile is None
    assert with_chunks((b"gAMA", struct.pack(">I", 100_000)), (b"sRGB", b"\0")).icc_profile is None
    assert with_chunks((b"cICP", bytes([12, 13, 0, 1]))).icc_profile
    assert with_chunks((b"cICP", bytes([1, 13, 0, 1])), (b"gAMA", struct.pack(">I", 100_000))).icc_profile is None
    assert "code points 9, 16" in with_chunks((b"cICP", bytes([9, 16, 0, 1]))).notes[0]
    assert "damaged" in with_chunks((b"gAMA", bytes(4))).notes[0]
    assert "damaged" in with_chunks((b"cHRM", bytes(32))).notes[0]


def test_a_color_space_that_an_avif_names_by_numbers_becomes_a_profile_or_is_said_to_be_unknown(tmp_path):
    codes = np.full((8, 8, 3), 90, np.uint8)

    def read(primaries, transfer):
        data = imagecodecs.avif_encode(codes, primaries=primaries, transfer=transfer)
        (tmp_path / "in.avif").write_bytes(data)
        return read_photo(tmp_path / "in.avif")

    assert read(1, 13).icc_profile is None and read(12, 13).icc_profile[16:20] == b"RGB "
    assert read(9, 16).icc_profile is None and "code points 9, 16" in read(9, 16).notes[0]


def test_a_profile_that_cannot_be_used_is_left_out_and_said_so(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "in.png", icc_profile=SRGB[:16] + b"GRAY" + SRGB[20:])

    Image.new("RGB", (8, 8)).save(tmp_path / "color.jpg", icc_profile=build_profile(srgb(), "GRAY"))
    Image.new("CMYK", (8, 8)).save(tmp_path / "ink.jpg", icc_profile=SRGB)

    for name in ("in.png", "color.jpg", "ink.jpg"):
        photo = read_photo(tmp_path / name)
        assert photo.icc_profile is None and "the ICC profile is left out" in photo.notes[0]


@pytest.mark.skipif(not (SHARED / "badimages").is_dir(), reason="the corpus of bad images is not part of the project")
def test_no_file_of_the_bad_corpus_raises_anything_unexpected():
    paths = [path for path in (SHARED / "badimages").rglob("*") if path.is_file()]

    outcomes = {"read": 0, "refused": 0}
    for path in paths:
        try:
            read_photo(path)
            outcomes["read"] += 1
        except PHOTO_ERRORS:
            outcomes["refused"] += 1

    assert min(outcomes.values()) > 10, outcomes
