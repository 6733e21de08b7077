"""Exif and TIFF directories as bytes."""

import struct

import pytest
from PIL import Image

from colorize_pipeline.apps.exif import (
    EXIF_IFD,
    GPS_IFD,
    MAKER_NOTE,
    Exif,
    Field,
    Layout,
    encode_directory,
    encode_header,
    parse_exif,
    read_directory,
    turn_point,
    upright_exif,
)


def block(order="<"):
    """A camera's block, with names in UTF-8, a maker's note and places in pixels."""
    words = {
        0x010E: Field(2, "Großmutter\0".encode()),
        0x0112: Field(3, struct.pack(order + "H", 6)),
        0x011A: Field(5, struct.pack(order + "2I", 300, 1)),
        0x011B: Field(5, struct.pack(order + "2I", 150, 1)),
        EXIF_IFD: {
            0x9214: Field(3, struct.pack(order + "4H", 40, 10, 20, 6)),
            MAKER_NOTE: Field(7, b"offsets count from the start of the block", offset=200),
            0xA002: Field(3, struct.pack(order + "H", 400)),
            0xA003: Field(3, struct.pack(order + "H", 100)),
        },
        GPS_IFD: {1: Field(2, b"N\0")},
    }
    return Exif(order, words).encode()


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_block_is_read_and_written_byte_for_byte_and_a_makers_note_keeps_its_place(order):
    first = block(order)

    again = parse_exif(b"Exif\0\0" + first).encode()

    assert again == first and first.index(b"offsets count") == 200
    assert parse_exif(first).fields[0x010E].text() == "Großmutter"
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + first)  # as others read it
    assert exif[0x0112] == 6 and exif.get_ifd(EXIF_IFD)[0xA002] == 400 and exif.get_ifd(GPS_IFD)[1] == "N"


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_describes_pixels_is_turned_with_them(order):
    upright = upright_exif(parse_exif(block(order)), 6, (100, 400))

    assert 0x0112 not in upright.fields
    assert (upright.number(0x011A), upright.number(0x011B)) == (150, 300)
    assert (upright.number(EXIF_IFD, 0xA002), upright.number(EXIF_IFD, 0xA003)) == (100, 400)
    # 40 of 400 from the left and 10 of 100 from the top: after a turn to the right 90 of 100 and 40 of 400.
    assert upright.fields[EXIF_IFD][0x9214].numbers(order) == [90, 40, 6, 20]


def test_points_turn_as_pixels_do():
    numbers = Image.new("L", (3, 2))
    numbers.putpixel((2, 0), 255)
    for orientation, turn in enumerate(Image.Transpose, start=2):
        name = [2, 4, 8, 3, 6, 5, 7][orientation - 2]  # Pillow's order of its transpositions
        turned = numbers.transpose(turn)
        x, y = turn_point(2.5 / 3, 0.5 / 2, name)
        assert turned.getpixel((int(x * turned.width), int(y * turned.height))) == 255, turn


def test_damaged_and_endless_directories_are_read_as_far_as_they_go():
    good = block()
    for position in range(8, len(good)):
        for value in (0, 255):
            damaged = good[:position] + bytes([value]) + good[position + 1 :]
            parse_exif(damaged).encode()
    for cut in range(8, len(good), 7):
        assert parse_exif(good[:cut]).damaged or cut > len(good) - 8
    itself = encode_header(Layout(), 8) + struct.pack("<HHHIII", 1, EXIF_IFD, 4, 1, 8, 8)
    assert parse_exif(itself).fields == {} and parse_exif(itself).damaged
    with pytest.raises(ValueError, match="header"):
        parse_exif(b"nothing")


def test_directories_with_offsets_of_eight_bytes_are_written_and_read():
    layout = Layout(">", big=True)
    fields = {270: Field(2, b"a text that does not fit\0"), EXIF_IFD: {0x9003: Field(2, b"1936:03:01 12:00:00\0")}}
    data = encode_header(layout, 16) + encode_directory(fields, layout, 16)

    read, following, damaged = read_directory(data, layout, 16)

    assert not damaged and following == 0
    assert read[EXIF_IFD][0x9003].data == fields[EXIF_IFD][0x9003].data and read[270].data == fields[270].data
