"""What a result says of itself."""

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import UPRIGHT_XMP

from colorize_pipeline.apps.provenance import (
    Record,
    distance,
    identify_gray,
    is_synthetic,
    mark_synthetic,
    read_record,
    unmark,
)


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


def test_the_mark_joins_what_the_packet_says_and_replaces_an_older_source():
    ours, _ = source_types(mark_synthetic(None))
    assert [value.rsplit("/")[-1] for value in ours] == ["compositeWithTrainedAlgorithmicMedia"]
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

        assert source_types(marked) == (ours, {"uuid:7"}) and not is_synthetic(packet) and is_synthetic(marked)
        assert b"caf\xc3\xa9" in marked and source_types(mark_synthetic(marked)) == (ours, {"uuid:7"})

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
        assert source_types(marked)[0] == ours and old in marked

    with pytest.raises(ValueError, match="damaged"):
        mark_synthetic(b"<x:xmpmeta>")


def test_the_record_comes_back_from_the_packet_and_can_be_taken_back():
    gray = identify_gray(np.arange(600, dtype=np.uint16).reshape(20, 30))
    record = Record(
        "colorize-pipeline 9.9", 'a "model" <&>', "f" * 40, 7, 2**64 - 1, {"saturation": 1.25, "scheduler": "Ω"}, gray
    )

    marked = mark_synthetic(mark_synthetic(UPRIGHT_XMP, replace(record, seed=1)), record)

    assert read_record(marked) == record
    assert read_record(mark_synthetic(None)) is None and read_record(None) is None
    taken_back = unmark(marked)
    assert read_record(taken_back) is None and not is_synthetic(taken_back) and b"caf\xc3\xa9" in taken_back
    for text in (b'seed="seven"', b'gray="{}"', b""):
        damaged = marked.replace(b'seed="7"', text) if b"gray" not in text else marked.replace(b"width", b"breadth")
        with pytest.raises(ValueError, match="damaged"):
            read_record(damaged.replace(b"colorize:seed", b"colorize:sow") if not text else damaged)


def test_a_gray_is_known_by_every_code_and_an_edit_by_how_far_it_is_off():
    luma = np.random.default_rng(0).integers(0, 256, (50, 70), dtype=np.uint8)
    gray, edited = identify_gray(luma), luma.copy()
    edited[:10, 60:] = 255

    assert identify_gray(luma.copy()) == gray
    one = luma.copy()
    one[3, 3] ^= 1
    assert identify_gray(one).sha256 != gray.sha256 and distance(one, gray).max() < 0.2
    assert identify_gray(luma.T.copy()).sha256 != gray.sha256
    assert identify_gray(luma.astype(np.uint16) * 257).sha256 != gray.sha256
    far = distance(edited, gray)
    assert np.unravel_index(far.argmax(), far.shape)[1] >= 13 and far.max() > 60 and far[8:, :8].max() < 0.01
    assert identify_gray(np.zeros((1, 1), np.uint16)).width == 1
