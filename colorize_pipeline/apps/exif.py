"""
Directories of tags, as Exif blocks and TIFF files hold them, with every value as the bytes that it is.

Nothing is decoded that need not be: a name that a camera wrote in UTF-8, against the rules, stays that name.

Source: TIFF 6.0, section 2; BigTIFF by the libtiff project; Exif by CIPA DC-008.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace


# Bytes of one value, by the number of its type; 13 and 16 to 18 are offsets, and integers of 8 bytes.
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_FLOATS = {11: "f", 12: "d"}
SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 3, 4, 5, 7, 16

EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD, SUB_IFDS = 34665, 34853, 40965, 330
_POINTERS = (EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD)
MAKER_NOTE = 37500

# A directory that claims more is damaged, or made to eat memory: all of a photo's own words need far less.
_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Layout:
    """How numbers and offsets are written: `"<"` or `">"`, and 4 or 8 bytes."""

    order: str = "<"
    big: bool = False

    @property
    def offset_type(self) -> str:
        return self.order + ("Q" if self.big else "I")

    @property
    def count_type(self) -> str:
        return self.order + ("Q" if self.big else "H")


@dataclass(frozen=True)
class Field:
    """
    One tag.

    Args:
        kind (`int`): The number of its type.
        data (`bytes`): The values, in the order of bytes of their block.
        offset (`int` or `None`): Where they lay in the block, if not inside the directory.
    """

    kind: int
    data: bytes
    offset: int | None = None

    def numbers(self, order: str) -> list[int | float]:
        """The values; `nan` for a fraction with the denominator 0."""
        if self.kind in (5, 10):
            pairs = struct.unpack(f"{order}{len(self.data) // 4}{'Ii'[self.kind == 10]}", self.data)
            return [a / b if b else float("nan") for a, b in zip(pairs[::2], pairs[1::2], strict=True)]
        letter = {**_INTEGERS, **_FLOATS}.get(self.kind, "B")
        return list(struct.unpack(f"{order}{len(self.data) // struct.calcsize(order + letter)}{letter}", self.data))

    def text(self) -> str:
        """The value as a person reads it: UTF-8, or else Latin-1."""
        try:
            return self.data.rstrip(b"\0").decode()
        except UnicodeDecodeError:
            return self.data.rstrip(b"\0").decode("latin-1")


Directory = dict[int, "Field | Directory"]


@dataclass(frozen=True)
class Exif:
    """
    What a photo says in Exif.

    Args:
        order (`str`): `"<"` or `">"`: the order of bytes of all values.
        fields (`dict`): By tag, fields; and directories where a tag points to one.
        damaged (`bool`): Whether some of it could not be read, and is not here.
    """

    order: str
    fields: Directory
    damaged: bool = False

    def number(self, *tags: int) -> int | float | None:
        """The first value under a tag, or under a tag of a directory under a tag."""
        found = self.fields
        for tag in tags:
            found = found.get(tag) if isinstance(found, Mapping) else None
        numbers = found.numbers(self.order) if isinstance(found, Field) and found.kind != 2 else []
        return numbers[0] if numbers else None

    def resolution(self) -> tuple[float, float] | None:
        """Dots per inch across and down, where a unit is named."""
        unit, values = self.number(_RESOLUTION_UNIT), [self.number(tag) for tag in (_X_RESOLUTION, _Y_RESOLUTION)]
        if unit not in (2, 3) or None in values:
            return None
        return tuple(float(value) * (2.54 if unit == 3 else 1) for value in values)

    def encode(self) -> bytes:
        """The block, without the name that formats put before it; empty if it says nothing."""
        layout = Layout(self.order)
        return encode_header(layout, 8) + encode_directory(self.fields, layout, 8) if self.fields else b""


def parse_exif(block: bytes) -> Exif:
    """
    Read an Exif block. Of the two directories in it the second, for the thumbnail, is left aside.

    Raises:
        `ValueError`: if it is none.
    """
    block = block.removeprefix(b"Exif\0\0")
    layout, offset = read_header(block)
    fields, _, damaged = read_directory(block, layout, offset)
    return Exif(layout.order, fields, damaged)


def read_header(data: bytes) -> tuple[Layout, int]:
    """
    Read the first bytes of a block or a TIFF file.

    Returns:
        `tuple`: the layout, and the offset of the first directory.
    """
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None or len(data) < 8:
        raise ValueError("no TIFF header")
    version = struct.unpack(f"{order}H", data[2:4])[0]
    if version == 43 and len(data) >= 16:
        return Layout(order, big=True), struct.unpack(f"{order}Q", data[8:16])[0]
    return Layout(order), struct.unpack(f"{order}I", data[4:8])[0]


def encode_header(layout: Layout, first: int) -> bytes:
    """Write what [`read_header`] reads."""
    mark = b"II" if layout.order == "<" else b"MM"
    if layout.big:
        return mark + struct.pack(f"{layout.order}HHHQ", 43, 8, 0, first)
    return mark + struct.pack(f"{layout.order}HI", 42, first)


def read_directory(
    data, layout: Layout, offset: int, skip: frozenset[int] = frozenset(), _seen: frozenset[int] = frozenset()
) -> tuple[Directory, int, bool]:
    """
    Read one directory and those that its tags point to.

    Args:
        data (`bytes` or `mmap`): What offsets count in.
        layout (`Layout`): As the header gave it.
        offset (`int`): Where the directory is.
        skip (`frozenset` of `int`): Tags that are not wanted.

    Returns:
        `tuple`: the directory, the offset of the next one (0: none), and whether some of it was damaged.
    """
    count_bytes, width = (8, 8) if layout.big else (2, 4)
    head = data[offset : offset + count_bytes] if 0 < offset < len(data) and offset not in _seen else b""
    if len(head) < count_bytes:
        return {}, 0, True
    count = struct.unpack(layout.count_type, head)[0]
    entry_bytes, start = 4 + 2 * width, offset + count_bytes
    damaged = start + count * entry_bytes > len(data)
    fields, total = {}, 0
    for number in range(min(count, (len(data) - start) // entry_bytes, 65_535)):
        entry = data[start + number * entry_bytes : start + (number + 1) * entry_bytes]
        tag, kind = struct.unpack(f"{layout.order}HH", entry[:4])
        size = _BYTES.get(kind, 0) * struct.unpack(layout.offset_type, entry[4 : 4 + width])[0]
        value, at = entry[4 + width : 4 + width + size], None
        if size > width:
            at = struct.unpack(layout.offset_type, entry[4 + width :])[0]
            total += 0 if tag in skip else size
            value = data[at : at + size] if tag not in skip and total <= _MAX_BYTES else b""
        if tag in skip:
            continue
        if kind not in _BYTES or len(value) != size:
            damaged = True
            continue
        field = Field(kind, value, at)
        if tag in _POINTERS and len(_seen) < 4:
            target = int((field.numbers(layout.order) or [0])[0]) if kind in _INTEGERS else 0
            sub, _, broken = read_directory(data, layout, target, skip, _seen | {offset})
            damaged |= broken
            if sub:
                fields[tag] = sub
        else:
            fields[tag] = field
    end = start + count * entry_bytes
    following = data[end : end + width]
    return fields, struct.unpack(layout.offset_type, following)[0] if len(following) == width else 0, damaged


def encode_directory(fields: Directory, layout: Layout, start: int) -> bytes:
    """
    Write a directory, its values, and the directories that it points to, to lie at the offset `start` (even).

    A maker's note keeps its place in an Exif block if it can: makers count offsets in it from the start of the block.
    """
    parts: dict[int, bytes] = {}
    note = fields.get(EXIF_IFD, {}).get(MAKER_NOTE) if isinstance(fields.get(EXIF_IFD), Mapping) else None
    pinned = note.offset if start == 8 and note is not None and (note.offset or 0) > 8 else None
    cursor = start

    def place(size: int) -> int:
        nonlocal cursor
        if pinned is not None and cursor < pinned + len(note.data) and cursor + size > pinned:
            cursor = pinned + len(note.data)
        cursor += cursor % 2  # values begin on even offsets
        at, cursor = cursor, cursor + size
        return at

    def put(directory: Directory) -> int:
        width = 8 if layout.big else 4
        entry_bytes, head_bytes = 4 + 2 * width, struct.calcsize(layout.count_type)
        at = place(head_bytes + len(directory) * entry_bytes + width)
        entries = [struct.pack(layout.count_type, len(directory))]
        for tag, field in sorted(directory.items()):
            if isinstance(field, Mapping):
                kind, count, value = LONG8 if layout.big else LONG, 1, struct.pack(layout.offset_type, put(field))
            else:
                kind, count, value = field.kind, len(field.data) // _BYTES[field.kind], field.data
                if len(value) > width:
                    where = pinned if field is note and pinned is not None else place(len(value))
                    parts[where] = value
                    value = struct.pack(layout.offset_type, where)
            entries.append(struct.pack(f"{layout.order}HH", tag, kind))
            entries.append(struct.pack(layout.offset_type, count) + value.ljust(width, b"\0"))
        parts[at] = b"".join(entries) + bytes(width)
        return at

    put(fields)
    encoded = bytearray(max(at + len(part) for at, part in parts.items()) - start)
    for at, part in parts.items():
        encoded[at - start : at - start + len(part)] = part
    return bytes(encoded)


# What describes how the old file stores its pixels; it would be a lie in the new one. XMP, ICC and IPTC travel by
# their own ways (700, 34675, 33723), Photoshop's resources (34377) repeat the rest and hold a thumbnail.
# Source: TIFF 6.0, section 8; TIFF/EP, ISO 12234-2; DNG 1.7, of whose tags those of the camera's name and number stay.
_STORAGE = frozenset(
    [254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291, 292]
    + [293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, SUB_IFDS, 332, 338, 339, 340, 341, 347, 512, 513]
    + [514, 519, 520, 521, 529, 530, 531, 532, 700, 33421, 33422, 33723, 34377, 34675, 37393, 37724, 50341]
    + [*range(50706, 50708), *range(50709, 50735), *range(50736, 52600)]
)
# Tags that are offsets into a file, or that are read by other ways: not read with the rest of a large file.
BULKY = frozenset([273, 279, 288, 289, 324, 325, 519, 520, 521, 34377, 37724])
ORIENTATION, _DESCRIPTION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 274, 270, 282, 283, 296
_PAIRS = (((282, 283), None), ((41486, 41487), EXIF_IFD), ((40962, 40963), EXIF_IFD))  # across, down: resolution, ...
_SUBJECT_AREA, _SUBJECT_LOCATION = 37396, 41492


def upright_exif(exif: Exif, orientation: int, size: tuple[int, int]) -> Exif:
    """
    Make Exif true of the pixels as they are after they were turned upright.

    Args:
        exif (`Exif`): Of the file.
        orientation (`int`): 1 to 8: how it was turned.
        size (`tuple`): Width and height of the upright photo.

    Returns:
        `Exif`: Without orientation and storage; resolutions, pixel dimensions and the subject's place turned.
    """
    fields = {tag: field for tag, field in exif.fields.items() if tag not in _STORAGE and tag != ORIENTATION}
    inner = dict(fields[EXIF_IFD]) if isinstance(fields.get(EXIF_IFD), Mapping) else {}
    for tags, where in _PAIRS if orientation >= 5 else ():
        place = inner if where else fields
        taken = [place.pop(tag, None) for tag in tags]
        place.update({tag: field for tag, field in zip(tags, reversed(taken), strict=True) if field is not None})
    for tag, side in zip(_PAIRS[2][0], size, strict=True):
        if tag in inner:
            inner[tag] = Field(LONG, struct.pack(f"{exif.order}I", side))
    stored = size[::-1] if orientation >= 5 else size
    for tag in (_SUBJECT_AREA, _SUBJECT_LOCATION):
        numbers = inner[tag].numbers(exif.order) if isinstance(inner.get(tag), Field) else []
        if len(numbers) >= 2 and inner[tag].kind == SHORT:
            x, y = turn_point(numbers[0] / stored[0], numbers[1] / stored[1], orientation)
            rest = numbers[2:][::-1] if orientation >= 5 else numbers[2:]
            turned = [min(65_535, max(0, round(value))) for value in (x * size[0], y * size[1], *rest)]
            inner[tag] = replace(inner[tag], data=struct.pack(f"{exif.order}{len(turned)}H", *turned))
    if inner:
        fields[EXIF_IFD] = inner
    return replace(exif, fields=fields)


def has_description(exif: Exif | None) -> bool:
    """Whether the field for a description is taken."""
    return exif is not None and _DESCRIPTION in exif.fields


def with_resolution(exif: Exif, dpi: tuple[float, float]) -> Exif:
    """Add a resolution, unless there is one."""
    if _X_RESOLUTION in exif.fields:
        return exif
    across, down = (Field(RATIONAL, struct.pack(f"{exif.order}2I", round(value * 1000), 1000)) for value in dpi)
    unit = Field(SHORT, struct.pack(f"{exif.order}H", 2))  # inches
    return replace(exif, fields=exif.fields | {_X_RESOLUTION: across, _Y_RESOLUTION: down, _RESOLUTION_UNIT: unit})


def turn_point(x: float, y: float, orientation: int) -> tuple[float, float]:
    """
    Turn a point of a stored photo, in `[0, 1]` from the left and from the top, as its photo is turned upright.

    Source: CIPA DC-008, 4.6.5.1.6, Orientation: which side row 0 and column 0 are.
    """
    if orientation in (5, 6, 7, 8):
        x, y = y, x
    if orientation in (3, 4, 7, 8):
        y = 1 - y
    if orientation in (2, 3, 6, 7):
        x = 1 - x
    return x, y
