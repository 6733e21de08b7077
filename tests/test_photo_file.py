import os
import struct

import numpy as np
import pytest
import tifffile
from conftest import SHARED, SRGB, TURNED_XMP, UPRIGHT_XMP
from PIL import Image, PngImagePlugin

from colorize_pipeline.apps import photo_file
from colorize_pipeline.apps.photo_file import PHOTO_ERRORS, Photo, read_photo, write_photo
from colorize_pipeline.apps.provenance import mark_synthetic


def described_photo(path, image):
    exif = Image.Exif()
    exif[0x010F] = "Leica"
    exif[0x0112] = 6  # turn clockwise
    exif.get_ifd(0x8769)[0x9003] = "1936:03:01 12:00:00"
    encoded = Image.Exif()
    encoded.load(exif.tobytes())  # Pillow writes sub-directories into a TIFF only if they were read
    options = {"xmp": TURNED_XMP} if path.suffix == ".jpg" else {}
    image.save(path, exif=encoded, icc_profile=SRGB, dpi=(300, 300), **options)
    return path


@pytest.mark.parametrize("source_suffix", [".jpg", ".tif"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_what_the_file_says_about_itself_is_carried_over_upright(tmp_path, source_suffix, suffix):
    source = described_photo(tmp_path / f"in{source_suffix}", Image.new("L", (40, 30), 99))

    photo = read_photo(source)
    write_photo(tmp_path / f"out{suffix}", photo.image.convert("RGB"), photo)

    with Image.open(tmp_path / f"out{suffix}") as result:
        result.load()
        assert result.size == (30, 40)
        exif = result.getexif()
        assert exif[0x010F] == "Leica" and exif.get(0x0112, 1) == 1
        assert result.info["icc_profile"] == SRGB
        assert [round(float(value)) for value in photo.dpi] == [300, 300]
        if suffix != ".webp":  # the format has no field for it
            assert [round(float(value)) for value in result.info["dpi"]] == [300, 300]
        assert exif.get_ifd(0x8769)[0x9003] == "1936:03:01 12:00:00"
        if source_suffix == ".jpg":
            xmp = result.info.get("xmp") or result.info["XML:com.adobe.xmp"].encode()
            assert xmp == mark_synthetic(UPRIGHT_XMP)  # an orientation that were left would turn the photo again


def test_xmp_in_utf_16_and_comments_of_before_utf_8_are_read_as_they_were_meant(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "in.jpg", comment="Müller, Köln".encode("latin-1"))
    exif = Image.Exif()
    exif[700] = TURNED_XMP.decode().encode("utf-16")
    Image.new("L", (8, 8)).save(tmp_path / "in.tif", exif=exif)

    assert read_photo(tmp_path / "in.jpg").texts == {"Comment": "Müller, Köln"}
    assert read_photo(tmp_path / "in.tif").xmp == UPRIGHT_XMP


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_all_eight_orientations_are_read_upright(tmp_path, orientation, suffix):
    upright = np.arange(6, dtype=np.uint16).reshape(2, 3)
    sixteen_bit_rgb = np.repeat(upright[:, :, None], 3, axis=2) * 10_000
    stored = next(  # the stored pixels whose upright form under this orientation is `upright`
        turned
        for turned in (np.rot90(flip, k) for flip in (sixteen_bit_rgb, sixteen_bit_rgb[::-1]) for k in range(4))
        if np.array_equal(photo_file._turn_upright(turned, orientation), sixteen_bit_rgb)
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


def test_sixteen_bit_tiff_keeps_its_depth_with_opacity_and_texts_of_any_language(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    codes = np.random.default_rng(0).integers(0, 65536, (9, 7, 4), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", codes, photometric="rgb", extrasamples=["unassalpha"], software=False)

    photo = read_photo(tmp_path / "in.tif")
    photo.exif[0x013B] = "© José"  # the artist
    photo.exif[0x8769] = {0x9003: "1936:03:01 12:00:00"}
    notes = write_photo(tmp_path / "out.tif", photo.image, photo)

    assert np.array_equal(photo.image, codes[:, :, :3]) and "opacity is not kept at 16 bit" in photo.notes
    assert notes and "Exif" in notes[0]
    with tifffile.TiffFile(tmp_path / "out.tif") as result:
        assert np.array_equal(result.asarray(), photo.image)
        assert result.pages[0].tags["Artist"].value in ("© José", "© José".encode())


def test_opacity_is_kept(tmp_path):
    image = Image.new("LA", (8, 8), (90, 255))
    image.putpixel((3, 3), (90, 17))
    image.save(tmp_path / "in.png")

    photo = read_photo(tmp_path / "in.png")
    write_photo(tmp_path / "out.png", Image.new("RGB", (8, 8)), photo)

    assert Image.open(tmp_path / "out.png").getpixel((3, 3))[3] == 17


def test_a_gray_profile_is_left_out_and_said_so(tmp_path):
    gray_profile = SRGB[:16] + b"GRAY" + SRGB[20:]
    Image.new("L", (8, 8)).save(tmp_path / "in.png", icc_profile=gray_profile)

    photo = read_photo(tmp_path / "in.png")

    assert photo.icc_profile is None
    assert "ICC" in photo.notes[0]


def test_iptc_fields_are_left_out_and_said_so(tmp_path):
    fields = b"\x1c\x02\x78\x00\x04dogs"  # IIM record 2, data set 120: a caption of four letters
    block = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(fields)) + fields + b"\0"
    Image.new("L", (9, 9)).save(tmp_path / "plain.jpg")
    plain = (tmp_path / "plain.jpg").read_bytes()
    segment = b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
    (tmp_path / "photo.jpg").write_bytes(plain[:2] + segment + plain[2:])
    Image.new("L", (9, 9)).save(tmp_path / "photo.tif", tiffinfo={33723: fields})

    assert read_photo(tmp_path / "plain.jpg").notes == ()
    for name in ("photo.jpg", "photo.tif"):
        assert "IPTC" in read_photo(tmp_path / name).notes[0]


def test_a_failed_write_leaves_nothing_behind_and_an_existing_file_alone(tmp_path):
    photo = Photo(Image.new("L", (4, 4)), False, None, Image.Exif(), None, None, None, {}, ())
    taken = tmp_path / "taken.png"
    taken.write_bytes(b"precious")

    with pytest.raises(FileExistsError, match="taken.png"):
        write_photo(taken, Image.new("RGB", (4, 4)), photo)
    with pytest.raises(ValueError, match="8 bit"):
        write_photo(tmp_path / "deep.jpg", np.zeros((4, 4, 3), dtype=np.uint16), photo)

    assert taken.read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["taken.png"]


def test_a_gray_tiff_whose_white_is_zero_or_that_has_twelve_bits_is_read_as_it_looks(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    codes = np.array([[0, 4095], [1000, 65535]], dtype=np.uint16)
    tifffile.imwrite(tmp_path / "negative.tif", codes, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "positive.tif", codes, photometric="minisblack")
    # 12 bits are packed: two codes, 0xFFF and 0x7FF, in three bytes.
    tifffile.imwrite(tmp_path / "twelve.tif", np.array([[4095, 2047]], np.uint16), bitspersample=12, rowsperstrip=1)

    assert np.array_equal(np.asarray(read_photo(tmp_path / "negative.tif").image), 65535 - codes)
    assert np.array_equal(np.asarray(read_photo(tmp_path / "positive.tif").image), codes)
    assert np.asarray(read_photo(tmp_path / "twelve.tif").image).tolist() == [[65535, 32759]]


def test_sixteen_bit_jpeg_2000_keeps_its_depth(tmp_path):
    imagecodecs = pytest.importorskip("imagecodecs")
    codes = np.random.default_rng(0).integers(0, 65536, (40, 30, 3), dtype=np.uint16)
    (tmp_path / "in.jp2").write_bytes(imagecodecs.jpeg2k_encode(codes, level=0, codecformat="jp2"))

    photo = read_photo(tmp_path / "in.jp2")

    assert photo.sixteen_bit and np.array_equal(photo.image, codes)


def test_metadata_that_cannot_be_written_is_left_out_and_said_so(tmp_path):
    image = Image.new("L", (8, 8))
    image.save(tmp_path / "absurd.tif", dpi=(4_000_000_000, 1))
    exif = Image.Exif()
    exif[0x010E] = "long " * 20_000
    image.save(tmp_path / "long.png", exif=exif)
    exif = Image.Exif()
    exif.get_ifd(0x8825)[0] = b"\2\3\0\0"
    version = struct.pack(">HHI", 0, 1, 4) + b"\2\3\0\0"  # tag, type (bytes), number, values
    damaged = exif.tobytes().replace(version, struct.pack(">HHI", 0, 2, 1) + b"\0\0\0\0")  # an empty text
    image.save(tmp_path / "damaged.jpg", exif=damaged)

    photos = {name: read_photo(tmp_path / name) for name in ("absurd.tif", "long.png", "damaged.jpg")}
    notes = {name: write_photo(tmp_path / f"{name}.jpg", Image.new("RGB", (8, 8)), photos[name]) for name in photos}

    assert photos["absurd.tif"].dpi is None
    assert "longer than JPEG can hold" in notes["long.png"][0]
    assert "damaged" in photos["damaged.jpg"].notes[0]


def test_the_words_of_a_file_are_kept_where_the_format_has_a_place_and_named_where_it_has_none(tmp_path):
    words = PngImagePlugin.PngInfo()
    words.add_text("Author", "Dorothea Lange")
    words.add_itxt("Comment", "cotton pickers, 日", lang="en")
    Image.new("L", (8, 8)).save(tmp_path / "in.png", pnginfo=words)
    Image.new("L", (8, 8)).save(tmp_path / "in.jpg", comment="Nipomo")

    png, jpg = read_photo(tmp_path / "in.png"), read_photo(tmp_path / "in.jpg")
    colors, deep = Image.new("RGB", (8, 8)), np.zeros((8, 8, 3), np.uint16)

    assert png.notes == jpg.notes == ()
    for name, image in (("8.png", colors), ("16.png", deep)):
        assert write_photo(tmp_path / name, image, png) == ()
        assert read_photo(tmp_path / name).texts == png.texts
        assert Image.open(tmp_path / name).text["Comment"].lang == "en"
    assert "left out: Author;" in write_photo(tmp_path / "out.jpg", colors, png)[0]
    assert Image.open(tmp_path / "out.jpg").info["comment"] == "cotton pickers, 日".encode()
    assert "left out: Author, Comment;" in write_photo(tmp_path / "out.tif", deep, png)[0]
    assert write_photo(tmp_path / "again.jpg", colors, jpg) == write_photo(tmp_path / "again.png", colors, jpg) == ()
    assert Image.open(tmp_path / "again.jpg").info["comment"] == b"Nipomo"
    assert Image.open(tmp_path / "again.png").text["Comment"] == "Nipomo"


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
