"""A result says of itself, in XMP, that a trained model made its colors."""

import re
from collections.abc import Iterator
from itertools import islice
from xml.etree import ElementTree


_RDF, _IPTC = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"

# Source: IPTC Photo Metadata Standard 2025.1, Digital Source Type; its value for a photo with parts that a model made.
_SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"

# Source: XMP specification part 1, section 7: a packet, and the descriptions in it, which name the same `about`.
_EMPTY_PACKET = (
    f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    f'<rdf:RDF xmlns:rdf="{_RDF}"></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
).encode()
_DESCRIPTION = (
    f'<%b:Description %b:about=%b xmlns:Iptc4xmpExt="{_IPTC}" Iptc4xmpExt:DigitalSourceType="{_SYNTHETIC}"/>'.encode()
)
_END_OF_RDF = re.compile(rb"</([\w.-]+):RDF\s*>")
_ABOUT = re.compile(rb":about\s*=\s*(\"[^\"]*\"|'[^']*')")
# The property as an attribute, as an element that names a resource, and as an element with a text; then its value.
_SOURCE_TYPE = re.compile(
    rb"(\s[\w.-]+:DigitalSourceType\s*=\s*[\"']|<[\w.-]+:DigitalSourceType\s+[\w.-]+:resource\s*=\s*[\"']"
    rb"|<[\w.-]+:DigitalSourceType\s*>)[^\"'<>]*"
)
_MAX_EDITS = 16
# Room that editors leave for changes in place (part 1, section 7.3.2); the mark takes it, as JPEG holds 64 KB.
_PADDING = re.compile(rb"\s+(?=<\?xpacket end)")


def mark_synthetic(xmp: bytes | None) -> bytes:
    """
    State in an XMP packet that a trained model made part of the picture. All else in it stays, byte for byte, but for
    padding.

    Args:
        xmp (`bytes` or `None`): The photo's packet, in UTF-8. Where it names a source (a scanned negative), the
            new one takes its place.

    Raises:
        `ValueError`: if the packet is damaged, or of a form that cannot be written into.
    """
    packet = _PADDING.sub(b"", (xmp or _EMPTY_PACKET).rstrip(b"\0"))
    # Edits are made on the text, since the tree would write all else anew; the tree says whether an edit is right.
    for edited in islice(_edits(packet), _MAX_EDITS):
        if _sources(edited) == [_SYNTHETIC]:
            return edited
    raise ValueError("the photo's XMP could not be extended: it does not say that a model made the colors")


def _edits(packet: bytes) -> Iterator[bytes]:
    """Packets in which the property may have the new value."""
    about = _ABOUT.search(packet)
    for end in reversed(list(_END_OF_RDF.finditer(packet))):
        description = _DESCRIPTION % (end[1], end[1], about[1] if about else b'""')
        yield packet[: end.start()] + description + packet[end.start() :]
    for found in _SOURCE_TYPE.finditer(packet):
        yield packet[: found.end(1)] + _SYNTHETIC.encode() + packet[found.end() :]


def _sources(packet: bytes) -> list[str]:
    """What the picture itself, not one that it was made of, is said to come from."""
    try:
        tree = ElementTree.fromstring(packet)
    except ElementTree.ParseError:
        return []
    name, sources = f"{{{_IPTC}}}DigitalSourceType", []
    for rdf in tree.iter(f"{{{_RDF}}}RDF"):
        for description in rdf.findall(f"{{{_RDF}}}Description"):
            sources += [description.attrib[name]] if name in description.attrib else []
            sources += [element.get(f"{{{_RDF}}}resource") or element.text for element in description.findall(name)]
    return sources
