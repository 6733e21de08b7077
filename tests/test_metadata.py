"""What photos say about themselves, through every format, read back by exiftool where it is installed."""

import json
import shutil
import subprocess
from xml.etree.ElementTree import canonicalize

import numpy as np
import pytest
from conftest import SHARED, SRGB, UPRIGHT_XMP
from PIL import Image, PngImagePlugin

from colorize_pipeline.apps.exif import EXIF_IFD, GPS_IFD, Exif, Field
from colorize_pipeline.apps.iptc import resources_of_iptc
from colorize_pipeline.apps.photo import Photo
from colorize_pipeline.apps.provenance import is_synthetic, mark_synthetic
from colorize_pipeline.apps.reading import read_photo
from colorize_pipeline.apps.writing import write_photo


needs_exiftool = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
REPORTED = SHARED / "badimages" / "reported"
FORMATS = [(".png", 8), (".jpg", 8), (".webp", 8), (".tif", 8), (".png", 16), (".tif", 16)]
IPTC = b"\x1c\x01\x5a\x00\x03\x1b%G" + b"\x1c\x02\x78" + len(name := "Köln 1936".encode()).to_bytes(2) + name
EXIF = Exif(
    ">",
    {
        0x010E: Field(2, "Großmutter, Łódź\0".encode()),
        0x013B: Field(2, "José Müller\0".encode()),
        0x8298: Field(2, "© Archiv\0".encode()),
        EXIF_IFD: {
            0x9003: Field(2, b"1936:03:01 12:00:00\0"),
            0x9286: Field(7, b"UNICODE\0" + "Grüße 日".encode("utf-16-be")),
        },
        GPS_IFD: {0: Field(1, b"\2\3\0\0"), 1: Field(2, b"N\0"), 2: Field(5, b"\0\0\0\x32\0\0\0\1" * 3)},
    },
)


def exiftool(path):
    command = ["exiftool", "-j", "-a", "-G1", "-charset", "exif=utf8", "-charset", "iptc=utf8", str(path)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)[0]


def colors_like(photo, bits=8):
    width, height = photo.size
    return np.zeros((height, width, 3), np.uint8 if bits == 8 else np.uint16)


@needs_exiftool
@pytest.mark.parametrize("suffix, bits", FORMATS)
def test_ten_kinds_of_metadata_are_kept_or_named_in_every_format(tmp_path, suffix, bits):
    photo = Photo(
        Image.new("L", (30, 20)), exif=EXIF, icc_profile=SRGB, xmp=UPRIGHT_XMP, iptc=IPTC, dpi=(300, 150),
        texts={"Comment": "cotton pickers, 日", "Author": "Dorothea Lange"},
    )  # fmt: skip
    target = tmp_path / f"out{suffix}"

    notes = " ".join(write_photo(target, colors_like(photo, bits), photo))

    found = exiftool(target)
    assert "Warning" not in " ".join(found), found
    expected = {
        "IFD0:ImageDescription": "Großmutter, Łódź",
        "IFD0:Artist": "José Müller",
        "IFD0:Copyright": "© Archiv",
        "ExifIFD:DateTimeOriginal": "1936:03:01 12:00:00",
        "ExifIFD:UserComment": "Grüße 日",
        "GPS:GPSLatitudeRef": "North",
        "XMP-dc:Source": "café",
        "ICC_Profile:ProfileDescription": found.get("ICC_Profile:ProfileDescription", "none"),
    }
    assert {name: found.get(name) for name in expected} == expected
    again = read_photo(target)
    assert again.icc_profile == SRGB and is_synthetic(again.xmp)
    if suffix == ".webp":
        assert "IPTC fields are left out" in notes
    else:
        assert found["IPTC:Caption-Abstract"] == "Köln 1936" and again.iptc == IPTC
    assert [round(value) for value in again.dpi or (found["IFD0:XResolution"], found["IFD0:YResolution"])] == [
        300,
        150,
    ]
    kept = {".png": {"Comment", "Author"}, ".jpg": {"Comment"}}.get(suffix, set())
    assert again.texts == {name: photo.texts[name] for name in kept}
    for name in photo.texts.keys() - kept:
        assert name in notes


# What exiftool is told to write, and where it is found then; the places of the last two differ by format.
KINDS = {
    "IFD0:Artist": "José",
    "IFD0:ImageDescription": "Łódź",
    "IFD0:Copyright": "© Archiv",
    "ExifIFD:DateTimeOriginal": "1936:03:01 12:00:00",
    "ExifIFD:UserComment": "Grüße 日",
    "GPS:GPSLatitudeRef": "North",
    "XMP-dc:Title": "Dorf",
    "IPTC:Caption-Abstract": "Straße",
    "resolution": 300,
    "comment": "cotton",
}
SOURCES = ["jpg 8", "png 8", "png 16", "tif 8", "tif 16", "webp 8", "jp2 8", "jp2 16", "avif 8", "avif 10"]


def kinds_in(found):
    """Which of the kinds exiftool has found in a file."""
    metric = found.get("PNG-pHYs:PixelsPerUnitX", 0)
    places = ("IFD0:XResolution", "JFIF:XResolution", "Jpeg2000:CaptureXResolution")
    resolution = next((found[name] for name in places if name in found), round(metric * 0.0254))
    comment = found.get("File:Comment") or found.get("PNG:Comment")
    values = {**found, "resolution": resolution or None, "comment": comment}
    return {name: values[name] for name in KINDS if values.get(name)}


@needs_exiftool
@pytest.mark.parametrize("source", SOURCES)
def test_what_exiftool_writes_into_any_format_comes_through_every_format_or_is_named(tmp_path, source):
    suffix, bits = source.split()[0], int(source.split()[1])
    path = tmp_path / f"in.{suffix}"
    gray = np.full((30, 40), 99 if bits == 8 else 25_443, np.uint8 if bits == 8 else np.uint16)
    if source == "avif 10":
        imagecodecs = pytest.importorskip("imagecodecs")
        path.write_bytes(imagecodecs.avif_encode(gray >> 6, bitspersample=10))
    else:
        Image.fromarray(gray).save(path)
    words = [f"-{name}={value}" for name, value in KINDS.items() if ":" in name]
    words += ["-XResolution=300", "-YResolution=300", "-ResolutionUnit=inches", "-Comment=cotton"]
    words += ["-icc_profile<=sRGB"]
    (tmp_path / "sRGB").write_bytes(SRGB)
    command = ["exiftool", "-q", "-m", "-overwrite_original", "-charset", "iptc=utf8", "-codedcharacterset=utf8"]
    subprocess.run([*command, *words, path.name], check=True, cwd=tmp_path)
    stored = kinds_in(exiftool(path))

    photo = read_photo(path)
    row = f"{source} bit holds {len(stored)} kinds;"
    for target, depth in FORMATS:
        if (depth == 16) != (bits > 8):
            continue
        notes = " ".join(write_photo(tmp_path / f"out{target}", colors_like(photo, depth), photo, overwrite=True))
        kept = kinds_in(exiftool(tmp_path / f"out{target}"))
        lost = {name for name in stored if kept.get(name) != stored[name]}
        row += f" {target[1:]}: {len(stored) - len(lost)} kept, {len(lost)} named;"
        named = {"comment": "left out: Comment;", "IPTC:Caption-Abstract": "IPTC fields are left out"}
        assert all(named.get(name, "?") in notes for name in lost), (target, lost, notes)
        assert photo.icc_profile is None or read_photo(tmp_path / f"out{target}").icc_profile == photo.icc_profile
    print(row)
    assert photo.notes == () and photo.sixteen_bit == (bits > 8) and len(stored) >= 8
    assert photo.icc_profile in (SRGB, None)


@pytest.mark.parametrize("suffix, bits", FORMATS)
def test_metadata_comes_back_without_exiftool_as_well(tmp_path, suffix, bits):
    photo = Photo(Image.new("L", (30, 20)), exif=EXIF, icc_profile=SRGB, xmp=UPRIGHT_XMP, dpi=(300, 150))
    target = tmp_path / f"out{suffix}"

    assert write_photo(target, colors_like(photo, bits), photo) == ()

    again = read_photo(target)
    assert (
        canonicalize(again.xmp) == canonicalize(mark_synthetic(UPRIGHT_XMP))
        and again.icc_profile == SRGB
        and again.notes == ()
    )
    for tag, field in EXIF.fields.items():
        if isinstance(field, Field):
            assert again.exif.fields[tag].data == field.data
    assert again.exif.fields[EXIF_IFD][0x9003].data == EXIF.fields[EXIF_IFD][0x9003].data


def test_the_words_of_a_png_keep_their_language(tmp_path):
    words = PngImagePlugin.PngInfo()
    words.add_itxt("Comment", "cotton pickers, 日", lang="en")
    Image.new("L", (8, 8)).save(tmp_path / "in.png", pnginfo=words)

    photo = read_photo(tmp_path / "in.png")
    for bits in (8, 16):
        write_photo(tmp_path / f"{bits}.png", colors_like(photo, bits), photo)

        assert Image.open(tmp_path / f"{bits}.png").text["Comment"].lang == "en"


def test_what_is_too_long_for_a_jpeg_is_named_and_the_mark_stays(tmp_path):
    long = Exif("<", {0x010E: Field(2, b"long " * 20_000 + b"\0")})
    xmp = UPRIGHT_XMP.replace(b"caf", b"caf" * 30_000)
    photo = Photo(
        Image.new("L", (8, 8)), exif=long, xmp=xmp, iptc=b"\x1c\x02\x78" * 30_000, alpha=np.zeros((8, 8), np.uint8)
    )

    notes = " ".join(write_photo(tmp_path / "out.jpg", colors_like(photo), photo))

    assert all(f"{name} is left out" in notes for name in ("Exif", "XMP", "IPTC", "opacity"))
    assert is_synthetic(read_photo(tmp_path / "out.jpg").xmp)


def test_damaged_metadata_is_named_and_the_photo_is_read(tmp_path):
    image = Image.new("L", (8, 8))
    image.save(tmp_path / "xmp.jpg", xmp=b"<x:xmpmeta>")
    image.save(tmp_path / "exif.jpg", exif=b"Exif\0\0garbage that is no header")
    image.save(tmp_path / "cut.jpg", exif=b"Exif\0\0" + EXIF.encode()[:90])
    image.save(tmp_path / "absurd.tif", dpi=(4_000_000_000, 1))

    assert "XMP is left out: it is damaged" in read_photo(tmp_path / "xmp.jpg").notes[0]
    assert "Exif is left out" in read_photo(tmp_path / "exif.jpg").notes[0]
    assert "of Exif a part is left out" in read_photo(tmp_path / "cut.jpg").notes[0]
    assert read_photo(tmp_path / "absurd.tif").dpi is None
    write_photo(tmp_path / "out.jpg", colors_like(Photo(image)), read_photo(tmp_path / "xmp.jpg"))
    assert is_synthetic(read_photo(tmp_path / "out.jpg").xmp)


def test_iptc_among_other_resources_is_found(tmp_path):
    other = b"8BIM\x04\x25\0\0\0\0\0\x03abc\0"
    block = b"Photoshop 3.0\0" + other + resources_of_iptc(IPTC)
    Image.new("L", (9, 9)).save(tmp_path / "in.jpg", extra=b"\xff\xed" + (len(block) + 2).to_bytes(2) + block)

    assert read_photo(tmp_path / "in.jpg").iptc == IPTC


@needs_exiftool
@pytest.mark.skipif(not REPORTED.is_dir(), reason="the reported files are not part of the project")
@pytest.mark.parametrize("suffix, bits", FORMATS)
def test_reported_metadata_comes_through_as_their_owners_expect(tmp_path, suffix, bits):
    def result_of(name):
        photo, target = read_photo(REPORTED / name), tmp_path / f"{name}{suffix}"
        write_photo(target, colors_like(photo, bits), photo)
        return exiftool(target)

    names = result_of("names_in_utf8.jpg")
    assert names["IFD0:Artist"] == "José Müller" and names["IFD0:Copyright"] == "© Archiv"
    assert names["IFD0:ImageDescription"] == "Großmutter, Łódź 1936"
    film = result_of("motion_photo.jpg")
    assert not [
        name for name in film if "Motion" in name or "MicroVideo" in name or "Container" in name or "hdrgm" in name
    ]
    assert film["XMP-crs:Exposure2012"] in (1.5, "+1.50")
    turned = result_of("turned_with_faces_and_dpi.jpg")
    assert (turned["XMP-mwg-rs:RegionAreaX"], turned["XMP-mwg-rs:RegionAreaY"]) == (0.7, 0.2)
    assert turned["XMP-mwg-rs:RegionAppliedToDimensionsW"] == 180
    assert (turned["IFD0:XResolution"], turned["IFD0:YResolution"]) == (150, 300)
    assert (turned["ExifIFD:ExifImageWidth"], turned["ExifIFD:ExifImageHeight"]) == (180, 240)
    assert turned["ExifIFD:UserComment"] == "Grüße" and turned["IFD0:XPTitle"] == "Großmutter"
    assert "IFD1:ThumbnailImage" not in turned and "IFD0:Orientation" not in turned
