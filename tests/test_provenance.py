"""What a result says of itself."""

from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import UPRIGHT_XMP
from PIL import Image

from colorize_pipeline.apps.photo_file import Photo, read_photo, write_photo
from colorize_pipeline.apps.provenance import mark_synthetic


def source_types(xmp):
    """What a packet says of its source, and the `about` of each description, as an RDF reader sees them."""
    rdf = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
    name = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    descriptions = ElementTree.fromstring(xmp).iter(f"{rdf}Description")
    found, about = [], set()
    for description in descriptions:
        about.add(description.get(f"{rdf}about"))
        found += [description.get(name)] if name in description.attrib else []
        found += [element.text or element.get(f"{rdf}resource") for element in description.findall(name)]
    return found, about


def test_a_result_says_in_xmp_that_a_model_made_its_colors(tmp_path):
    photo = Photo(Image.new("L", (4, 4)), False, None, Image.Exif(), None, None, None, {}, ())
    eight_bit, sixteen_bit = Image.new("RGB", (4, 4)), np.zeros((4, 4, 3), np.uint16)
    for name, colors in (
        *((f"8{suffix}", eight_bit) for suffix in (".png", ".jpg", ".webp", ".tif")),
        *((f"16{suffix}", sixteen_bit) for suffix in (".png", ".tif")),
    ):
        assert write_photo(tmp_path / name, colors, photo) == ()

        found, _ = source_types(read_photo(tmp_path / name).xmp)
        assert [value.rsplit("/")[-1] for value in found] == ["compositeWithTrainedAlgorithmicMedia"]


def test_the_mark_joins_what_the_packet_says_and_replaces_an_older_source():
    ours, _ = source_types(mark_synthetic(None))
    iptc = b'xmlns:I="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    old = b"http://cv.iptc.org/newscodes/digitalsourcetype/negativeFilm"
    for named in (
        b" I:DigitalSourceType='%b'>",
        b"><I:DigitalSourceType>%b</I:DigitalSourceType>\n",
        b'><I:DigitalSourceType r:resource="%b"/>',
    ):
        description = b'<r:Description r:about="uuid:7" ' + iptc + named % old + b"</r:Description>"
        packet = UPRIGHT_XMP.replace(b"</r:RDF>", description + b"</r:RDF>")
        marked = mark_synthetic(packet)

        assert source_types(marked) == (ours, {"uuid:7"})
        assert b"caf\xc3\xa9" in marked and mark_synthetic(marked) == marked

    # What is said of another picture, in a comment, or in other words, is not what the result says of itself.
    for other in (
        b"<!-- <r:Description I:DigitalSourceType='%b'/> </r:RDF> -->",
        b'<r:Description r:about="uuid:7" xmlns:I="urn:other" I:DigitalSourceType="%b"/>',
        b'<r:Description r:about="uuid:7"><p:Pantry xmlns:p="urn:p"><r:Bag><r:li '
        + iptc
        + b' I:DigitalSourceType="%b"/>'
        b"</r:Bag></p:Pantry></r:Description>",
    ):
        marked = mark_synthetic(UPRIGHT_XMP.replace(b"</r:RDF>", other % old + b"</r:RDF>"))
        assert source_types(marked)[0] == ours and other % old in marked

    for unknown in (b"<x:xmpmeta>", b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>'):
        with pytest.raises(ValueError, match="could not be extended"):
            mark_synthetic(unknown)
