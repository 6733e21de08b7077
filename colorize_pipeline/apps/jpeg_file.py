"""
JPEG: what its segments hold beside the picture, and how they are written.

Source: ITU-T T.81, annex B; XMP specification, part 3, section 1.1.3; Adobe's Photoshop file format, image resources.
"""

import struct

from PIL import Image

from colorize_pipeline.apps.iptc import iptc_of_resources, resources_of_iptc
from colorize_pipeline.apps.photo import Photo


_MAX_SEGMENT = 65_533
_EXIF_NAME, _XMP_NAME = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_MORE_XMP_NAME, _PHOTOSHOP_NAME = b"http://ns.adobe.com/xmp/extension/\0", b"Photoshop 3.0\0"
_MAX_MORE_XMP = 64 << 20


def read_iptc(segments: list[tuple[str, bytes]]) -> bytes | None:
    """Read IPTC-IIM out of the Photoshop segments."""
    data = b"".join(part[len(_PHOTOSHOP_NAME) :] for name, part in segments if part.startswith(_PHOTOSHOP_NAME))
    return iptc_of_resources(data)


def read_more_xmp(segments: list[tuple[str, bytes]]) -> bytes | None:
    """Put together what of XMP lies outside of the packet; `None` if there is none, or parts of it are missing."""
    parts, total = {}, 0
    for _, part in segments:
        if part.startswith(_MORE_XMP_NAME):
            head = part[len(_MORE_XMP_NAME) + 32 :]
            if len(head) < 8:
                return None
            total, at = struct.unpack(">2I", head[:8])
            parts[at] = head[8:]
    if not parts or total > _MAX_MORE_XMP:
        return None
    whole = b"".join(part for _, part in sorted(parts.items()))
    return whole if len(whole) == total else None


def write_jpeg(file, image: Image.Image, photo: Photo) -> list[str]:
    """
    Write a JPEG.

    Args:
        file (binary file): Where to.
        image (`PIL.Image.Image`): In mode RGB.
        photo (`Photo`): What it says.

    Returns:
        `list` of `str`: What is longer than a JPEG can hold.
    """
    options, notes = {}, []
    resource = _PHOTOSHOP_NAME + resources_of_iptc(photo.iptc) if photo.iptc else b""
    exif = _EXIF_NAME + block if photo.exif and (block := photo.exif.encode()) else b""
    comment = photo.texts.get("Comment", "").encode()
    for name, data, what in (
        ("exif", exif, "Exif"),
        ("comment", comment, "the comment"),
        ("extra", resource, "IPTC"),
    ):
        if len(data) > _MAX_SEGMENT:
            notes.append(f"{what} is left out: it is longer than JPEG can hold")
        elif data:
            options[name] = data
    if "extra" in options:  # as a segment: Pillow writes it as it is
        options["extra"] = b"\xff\xed" + struct.pack(">H", len(resource) + 2) + resource
    for name in ("xmp", "icc_profile", "dpi"):
        if getattr(photo, name):
            options[name] = getattr(photo, name)
    image.save(file, "JPEG", quality=95, subsampling=0, **options)
    return notes


def fits(xmp: bytes) -> bool:
    """Whether a packet fits into a segment."""
    return len(_XMP_NAME) + len(xmp) <= _MAX_SEGMENT


def why_not_read(head: bytes) -> str | None:
    """Give a reason if a file begins as a JPEG that decoders of photos do not know; `None` for all others."""
    start = 2
    while head.startswith(b"\xff\xd8\xff") and start + 5 <= len(head) and head[start] == 0xFF:
        kind, depth = head[start + 1], head[start + 4]
        if kind in range(0xC0, 0xD0) and kind not in (0xC4, 0xC8, 0xCC):  # a frame (ITU-T T.81, table B.1)
            if depth != 8:
                return f"a JPEG of {depth} bit a channel is not read: save it as TIFF of 16 bit"
            return None
        start += 2 + int.from_bytes(head[start + 2 : start + 4])
    return None
