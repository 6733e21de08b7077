"""XMP made true of turned pixels and of files that hold one picture."""

import pytest
from conftest import TURNED_XMP

from colorize_pipeline.apps.xmp import merge_packets, orientation_of, parse_packet, properties, text_of, upright_xmp


NAMES = " ".join(
    f'xmlns:{prefix}="{uri}"'
    for prefix, uri in {
        "crs": "http://ns.adobe.com/camera-raw-settings/1.0/",
        "dc": "http://purl.org/dc/elements/1.1/",
        "GCamera": "http://ns.google.com/photos/1.0/camera/",
        "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
        "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
        "MPReg": "http://ns.microsoft.com/photo/1.2/t/Region#",
        "stArea": "http://ns.adobe.com/xmp/sType/Area#",
        "tiff": "http://ns.adobe.com/tiff/1.0/",
        "xmp": "http://ns.adobe.com/xap/1.0/",
        "xmpNote": "http://ns.adobe.com/xmp/note/",
    }.items()
)


def packet(inside="", attributes=""):
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {NAMES} {attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


@pytest.mark.parametrize(
    "orientation, center, box",
    [
        (1, ("0.2", "0.3"), "0.1, 0.2, 0.3, 0.4"),
        (2, ("0.8", "0.3"), "0.6, 0.2, 0.3, 0.4"),
        (3, ("0.8", "0.7"), "0.6, 0.4, 0.3, 0.4"),
        (6, ("0.7", "0.2"), "0.4, 0.1, 0.4, 0.3"),
        (8, ("0.3", "0.8"), "0.2, 0.6, 0.4, 0.3"),
    ],
)
def test_regions_and_crops_turn_with_the_photo_however_they_are_written(orientation, center, box):
    left, top, width, height = (float(part) for part in box.split(","))
    inside = (
        '<stArea:elements rdf:parseType="Resource"><stArea:x>0.2</stArea:x><stArea:y>0.3</stArea:y>'
        "<stArea:w>0.1</stArea:w><stArea:h>0.5</stArea:h></stArea:elements>"
        '<stArea:attributes stArea:x="0.2" stArea:y="0.3" stArea:w="0.1" stArea:h="0.5"/>'
        "<MPReg:Rectangle>0.1, 0.2, 0.3, 0.4</MPReg:Rectangle>"
        '<Iptc4xmpExt:b Iptc4xmpExt:rbUnit="pixel" Iptc4xmpExt:rbX="10" Iptc4xmpExt:rbY="40" Iptc4xmpExt:rbW="30"'
        ' Iptc4xmpExt:rbH="80"/>'
    )
    crop = 'crs:CropLeft="0.1" crs:CropTop="0.2" crs:CropRight="0.4" crs:CropBottom="0.6"'
    size = (200, 100) if orientation >= 5 else (100, 200)

    turned = upright_xmp(packet(inside, crop), orientation, size).decode()

    x, y = center
    w, h = ("0.5", "0.1") if orientation >= 5 else ("0.1", "0.5")
    assert f"<stArea:x>{x}</stArea:x><stArea:y>{y}</stArea:y><stArea:w>{w}</stArea:w>" in turned
    assert f'stArea:x="{x}" stArea:y="{y}" stArea:w="{w}" stArea:h="{h}"' in turned
    assert f"<MPReg:Rectangle>{box}</MPReg:Rectangle>" in turned
    assert f'crs:CropLeft="{left:g}" crs:CropTop="{top:g}"' in turned
    assert f'crs:CropRight="{left + width:g}" crs:CropBottom="{top + height:g}"' in turned
    pixels = [f"{value * side:g}" for value, side in zip((left, top, width, height), size * 2, strict=True)]
    assert " ".join(f'Iptc4xmpExt:rb{k}="{v}"' for k, v in zip("XYWH", pixels, strict=True)) in turned


def test_what_the_result_does_not_hold_is_not_claimed_and_all_else_stays():
    film = 'hdrgm:Version="1.0" GCamera:MotionPhoto="1" GCamera:MicroVideoOffset="4" xmpNote:HasExtendedXMP="AB"'
    kept = (
        'crs:Exposure2012="+1.50" GCamera:DisableAutoCreation="[]" xmp:Rating="5" tiff:Make="Müller &amp; &lt;Co&gt;"'
    )
    gone = '<xmp:Thumbnails/><tiff:Orientation>6</tiff:Orientation><dc:title>"Łódź" &amp; 日</dc:title>'

    result = upright_xmp(packet(gone, f'{film} {kept} tiff:ImageWidth="9"'), 6, (30, 40)).decode()

    for word in ("hdrgm:Version", "MotionPhoto", "MicroVideo", "HasExtended", "Thumbnails", "Orientation"):
        assert word not in result, word
    for word in ('"+1.50"', "DisableAuto", 'Rating="5"', "Müller &amp; &lt;Co&gt;", "Łódź", "日", 'ImageWidth="30"'):
        assert word in result, word
    assert orientation_of(packet(gone)) == orientation_of(TURNED_XMP) == 6 and orientation_of(None) == 1


def test_the_part_of_xmp_outside_of_its_packet_joins_it():
    whole = merge_packets(packet(attributes='xmp:Rating="5"'), packet("<dc:source>cellar</dc:source>"))

    found = properties(parse_packet(whole), "http://purl.org/dc/elements/1.1/")
    assert text_of(found["source"]) == "cellar" and b'Rating="5"' in whole


@pytest.mark.parametrize(
    "xmp, words",
    [
        (b"<x:xmpmeta>", "damaged"),
        (b"<a/>", "damaged"),
        (b'<!DOCTYPE a [<!ENTITY b "' + b"c" * 99 + b'">]><a>&b;</a>', "entities"),
        (b" " * 10 + b"<" * (17 << 20), "longer"),
    ],
    ids=["cut", "no RDF", "entities", "long"],
)
def test_damaged_and_hostile_packets_are_refused_in_a_line(xmp, words):
    with pytest.raises(ValueError, match=words):
        parse_packet(xmp)
