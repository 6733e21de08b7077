"""
IPTC-IIM, the captions of press photos, inside Photoshop's image resources.

Source: IPTC-NAA Information Interchange Model 4.2; Adobe's Photoshop file format, image resource blocks.
"""

import struct


_RESOURCE = 0x0404


def iptc_of_resources(data: bytes) -> bytes | None:
    """Find IPTC-IIM among Photoshop's image resources."""
    start = 0
    while data[start : start + 4] == b"8BIM" and len(data) >= start + 12:
        number = struct.unpack(">H", data[start + 4 : start + 6])[0]
        named = start + 6 + (data[start + 6] + 2 & ~1)  # a name with its length, of an even number of bytes
        if len(data) < named + 4:
            return None
        size = struct.unpack(">I", data[named : named + 4])[0]
        if number == _RESOURCE:
            return data[named + 4 : named + 4 + size] or None
        start = named + 4 + size + size % 2
    return None


def resources_of_iptc(iptc: bytes) -> bytes:
    """Write IPTC-IIM as the only image resource."""
    return b"8BIM" + struct.pack(">HHI", _RESOURCE, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
