"""
XMP packets: kept, but made true of pixels that were turned, and of a file that holds one picture and nothing else.

Source: XMP specification, part 1 (RDF in XML); MWG Guidelines 2.0, section 5.9 (regions, stored as the file is, not as
it is shown); IPTC Photo Metadata Standard 2025.1 (image region); Exif 3.0 and TIFF properties in part 2.
"""

import re
from collections.abc import Iterator
from xml.dom import minidom
from xml.dom.minidom import Attr, Document, Element
from xml.parsers.expat import ExpatError

from colorize_pipeline.apps.exif import turn_point


RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_ADOBE = "http://ns.adobe.com/"
_TIFF, _EXIF = f"{_ADOBE}tiff/1.0/", f"{_ADOBE}exif/1.0/"
_AREA, _DIMENSIONS = f"{_ADOBE}xmp/sType/Area#", f"{_ADOBE}xap/1.0/sType/Dimensions#"
_CRS = f"{_ADOBE}camera-raw-settings/1.0/"
_MICROSOFT = "http://ns.microsoft.com/photo/1.2/t/Region#"

# What describes parts of the file that a result has not: gain maps, films, depth, thumbnails, more XMP. The first are
# whole vocabularies, the others single words of one.
_FOREIGN_PARTS = (
    f"{_ADOBE}hdr-gain-map/1.0/",
    "http://ns.apple.com/HDRGainMap/1.0/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/container/item/",
    "http://ns.google.com/photos/1.0/depthmap/",
    "http://ns.google.com/photos/1.0/image/",
    "http://ns.google.com/photos/1.0/audio/",
    "http://ns.google.com/photos/dd/1.0/device/",
    f"{_ADOBE}xmp/note/",
)
_FOREIGN_WORDS = re.compile(r"(MotionPhoto|MicroVideo|Thumbnails$|Orientation$)")
_FOREIGN_WORDS_OF = ("http://ns.google.com/photos/1.0/camera/", f"{_ADOBE}xap/1.0/", _TIFF)

_ORIENTATION = re.compile(rb"tiff:Orientation(?:\s*=\s*[\"']|>)([1-8])\b")

_EMPTY_PACKET = (
    f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    f'<rdf:RDF xmlns:rdf="{RDF}"></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
).encode()
_MAX_BYTES = 16 << 20  # longer packets would take minutes; they hold the history of every brush stroke
_UTF16 = ("utf-16-le", "utf-16-be")


def parse_packet(xmp: bytes | None) -> Document:
    """
    Read a packet, or give an empty one.

    Raises:
        `ValueError`: if it is damaged, too long, or declares entities, with which a few bytes can fill all memory.
    """
    text = (to_utf8(xmp) if xmp else b"").strip() or _EMPTY_PACKET
    if len(text) > _MAX_BYTES:
        raise ValueError(f"XMP is left out: it is longer than {_MAX_BYTES >> 20} MB")
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise ValueError("XMP is left out: it declares entities")
    try:
        document = minidom.parseString(text)
    except (ExpatError, ValueError, RecursionError) as error:
        raise ValueError(f"XMP is left out: it is damaged ({error})") from error
    if not document.getElementsByTagNameNS(RDF, "RDF"):
        raise ValueError("XMP is left out: it is damaged (no rdf:RDF)")
    return document


def to_utf8(xmp: bytes) -> bytes:
    """Packets may come in UTF-16, too (part 1, section 7.1)."""
    if b"\0" in xmp[:4]:
        order = "utf-16" if xmp[:2] in (b"\xff\xfe", b"\xfe\xff") else _UTF16[xmp[0] == 0]
        xmp = xmp.decode(order, "replace").encode()
    return xmp.rstrip(b"\0")


def orientation_of(xmp: bytes | None) -> int:
    """The orientation that a packet names, as viewers heed it where Exif names none; 1 if there is none."""
    found = _ORIENTATION.search(xmp or b"")
    return int(found[1]) if found else 1


def encode_packet(document: Document) -> bytes:
    """Write a packet without the declaration of XML, and without room for changes: JPEG holds 64 KB."""
    return "".join(node.toxml() for node in document.childNodes).encode()


def merge_packets(xmp: bytes, extended: bytes) -> bytes:
    """Add what a JPEG holds outside of its packet to it (part 3, section 1.1.3.1)."""
    document, more = parse_packet(xmp), parse_packet(extended)
    rdf = document.getElementsByTagNameNS(RDF, "RDF")[0]
    for description in more.getElementsByTagNameNS(RDF, "Description"):
        if description.parentNode.localName == "RDF":
            rdf.appendChild(document.importNode(description, deep=True))
    return encode_packet(document)


def upright_xmp(xmp: bytes, orientation: int, size: tuple[int, int]) -> bytes:
    """
    Make a packet true of the result.

    Args:
        xmp (`bytes`): The packet of the file.
        orientation (`int`): 1 to 8: how its pixels were turned.
        size (`tuple`): Width and height of the upright photo.

    Returns:
        `bytes`: In UTF-8; without orientation and without what describes parts that the result has not; regions,
        crop rectangles, dimensions and resolutions turned.

    Raises:
        `ValueError`: as [`parse_packet`].
    """
    document = parse_packet(xmp)
    for element in list(document.getElementsByTagName("*")):
        for (namespace, name), node in list(_members(element)):
            if namespace in _FOREIGN_PARTS or namespace in _FOREIGN_WORDS_OF and _FOREIGN_WORDS.match(name):
                _remove(node)
        members = dict(_members(element))
        _set_sizes(members, orientation, size, element)
        if orientation != 1:
            _turn_areas(members, orientation, size, element)
    return encode_packet(document)


def _members(element: Element) -> Iterator[tuple[tuple[str, str], Attr | Element]]:
    """Properties of a structure, which may be written as attributes or as elements."""
    for number in range(element.attributes.length):
        attribute = element.attributes.item(number)
        if attribute.namespaceURI != "http://www.w3.org/2000/xmlns/":
            yield (attribute.namespaceURI, attribute.localName), attribute
    for child in element.childNodes:
        if child.nodeType == child.ELEMENT_NODE:
            yield (child.namespaceURI, child.localName), child


def _remove(node: Attr | Element) -> None:
    if isinstance(node, Attr):
        node.ownerElement.removeAttributeNode(node)
    else:
        node.parentNode.removeChild(node)


def text_of(node: Attr | Element) -> str:
    if isinstance(node, Attr):
        return node.value
    return "".join(child.data for child in node.childNodes if child.nodeType == child.TEXT_NODE).strip()


def _set_text(node: Attr | Element, text: str) -> None:
    if isinstance(node, Attr):
        node.value = text
        return
    while node.firstChild:
        node.removeChild(node.firstChild)
    node.appendChild(node.ownerDocument.createTextNode(text))


def _numbers(members: dict, names: list[tuple[str, str]]) -> list[float] | None:
    """The values of properties, if they are all there and numbers."""
    try:
        return [float(text_of(members[name])) for name in names]
    except (KeyError, ValueError):
        return None


def _set_numbers(members: dict, names: list[tuple[str, str]], values) -> None:
    for name, value in zip(names, values, strict=True):
        _set_text(members[name], f"{value:.9g}")


def _set_sizes(members: dict, orientation: int, size: tuple[int, int], element: Element) -> None:
    """Dimensions are those of the result, whatever the file said; resolutions change places when it was turned."""
    pairs = [((_TIFF, "ImageWidth"), (_TIFF, "ImageLength")), ((_EXIF, "PixelXDimension"), (_EXIF, "PixelYDimension"))]
    for pair in pairs:
        for name, side in zip(pair, size, strict=True):
            if name in members:
                _set_text(members[name], str(side))
    swapped = [((_TIFF, "XResolution"), (_TIFF, "YResolution"))]
    swapped += [((_EXIF, "FocalPlaneXResolution"), (_EXIF, "FocalPlaneYResolution"))]
    if "AppliedToDimensions" in (element.localName, getattr(element.parentNode, "localName", "")):
        swapped += [((_DIMENSIONS, "w"), (_DIMENSIONS, "h"))]
    for across, down in swapped if orientation >= 5 else ():
        if across in members and down in members:
            first, second = text_of(members[across]), text_of(members[down])
            _set_text(members[across], second)
            _set_text(members[down], first)


def _turn_areas(members: dict, orientation: int, size: tuple[int, int], element: Element) -> None:
    """Turn the places that a structure describes."""
    stored = size[::-1] if orientation >= 5 else size

    def turn_center(x: str, y: str, w: str, h: str, namespace: str, scale: tuple[int, int]) -> None:
        names = [(namespace, x), (namespace, y)]
        if (center := _numbers(members, names)) is not None:
            turned = turn_point(center[0] / scale[0], center[1] / scale[1], orientation)
            upright = scale[::-1] if orientation >= 5 else scale
            _set_numbers(members, names, (turned[0] * upright[0], turned[1] * upright[1]))
        sides = [(namespace, w), (namespace, h)]
        if orientation >= 5 and (lengths := _numbers(members, sides)) is not None:
            _set_numbers(members, sides, lengths[::-1])

    def turn_box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        corners = turn_point(left, top, orientation), turn_point(right, bottom, orientation)
        (x0, x1), (y0, y1) = (sorted(axis) for axis in zip(*corners, strict=True))
        return x0, y0, x1, y1

    unit = text_of(members[_AREA, "unit"]) if (_AREA, "unit") in members else "normalized"
    turn_center("x", "y", "w", "h", _AREA, stored if unit == "pixel" else (1, 1))

    crop = [(_CRS, f"Crop{side}") for side in ("Left", "Top", "Right", "Bottom")]
    if (values := _numbers(members, crop)) is not None:
        _set_numbers(members, crop, turn_box(*values))
    if (_CRS, "CropAngle") in members and orientation in (2, 4, 5, 7):
        if (angle := _numbers(members, [(_CRS, "CropAngle")])) is not None:
            _set_numbers(members, [(_CRS, "CropAngle")], [-angle[0]])

    if (_MICROSOFT, "Rectangle") in members:
        try:
            x, y, w, h = (float(part) for part in text_of(members[_MICROSOFT, "Rectangle"]).split(","))
        except ValueError:
            return
        left, top, right, bottom = turn_box(x, y, x + w, y + h)
        _set_text(members[_MICROSOFT, "Rectangle"], f"{left:.9g}, {top:.9g}, {right - left:.9g}, {bottom - top:.9g}")

    if (_numbers(members, [(IPTC, "rbX"), (IPTC, "rbY")])) is not None:
        scale = stored if _boundary_unit(element) == "pixel" else (1, 1)
        box = _numbers(members, [(IPTC, name) for name in ("rbX", "rbY", "rbW", "rbH")])
        if box is None:  # the center of a circle, or a corner of a polygon
            turn_center("rbX", "rbY", "rbW", "rbH", IPTC, scale)
            return
        x, y, w, h = (value / side for value, side in zip(box, scale * 2, strict=True))
        left, top, right, bottom = turn_box(x, y, x + w, y + h)
        upright = scale[::-1] if orientation >= 5 else scale
        turned = (
            value * side for value, side in zip((left, top, right - left, bottom - top), upright * 2, strict=True)
        )
        _set_numbers(members, [(IPTC, name) for name in ("rbX", "rbY", "rbW", "rbH")], turned)


def _boundary_unit(element: Element) -> str:
    """The unit of a boundary stands beside its box, or above its corners."""
    while isinstance(element, Element):
        members = dict(_members(element))
        if (IPTC, "rbUnit") in members:
            return text_of(members[IPTC, "rbUnit"])
        element = element.parentNode
    return "relative"


def top_descriptions(document: Document) -> list[Element]:
    """The descriptions of the picture itself, not of one that it was made of."""
    found = []
    for rdf in document.getElementsByTagNameNS(RDF, "RDF"):
        found += [child for child in rdf.childNodes if getattr(child, "localName", "") == "Description"]
    return found


def properties(document: Document, namespace: str) -> dict[str, Attr | Element]:
    """The properties of the picture itself in one vocabulary, by name."""
    found = {}
    for description in top_descriptions(document):
        found |= {name: node for (space, name), node in _members(description) if space == namespace}
    return found


def set_properties(document: Document, values: dict[tuple[str, str, str], str]) -> None:
    """
    Set properties of the picture itself.

    Args:
        values (`dict`): Texts by namespace, its usual prefix, and name. Whatever the packet said under these is gone.
    """
    for description in top_descriptions(document):
        for name, node in list(_members(description)):
            if name in {(namespace, word) for namespace, _, word in values}:
                _remove(node)
    rdf = document.getElementsByTagNameNS(RDF, "RDF")[0]
    prefix = f"{rdf.prefix}:" if rdf.prefix else ""
    # An attribute needs a prefix, also where RDF is the namespace of elements without one.
    described = document.createElementNS(RDF, f"{prefix}Description")
    described.setAttributeNS("http://www.w3.org/2000/xmlns/", "xmlns:rdf", RDF)
    about = [
        node.value for d in top_descriptions(document) for (n, k), node in _members(d) if (n, k) == (RDF, "about")
    ]
    described.setAttributeNS(RDF, "rdf:about", about[0] if about else "")
    for (namespace, short, name), text in values.items():
        described.setAttributeNS("http://www.w3.org/2000/xmlns/", f"xmlns:{short}", namespace)
        described.setAttributeNS(namespace, f"{short}:{name}", text)
    rdf.appendChild(described)


def remove_properties(document: Document, namespace: str) -> None:
    """Remove all that is said in one vocabulary, and descriptions that say nothing then."""
    for description in top_descriptions(document):
        for (space, _), node in list(_members(description)):
            if space == namespace:
                _remove(node)
