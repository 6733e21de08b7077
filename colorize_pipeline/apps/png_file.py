"""
PNG: its chunks, its ways to name a color space, and 16 bit a channel, which Pillow reads and writes only in gray.

Source: PNG third edition, sections 5, 9 and 11.
"""

import re
import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from colorize_pipeline.apps import color_space
from colorize_pipeline.apps.iptc import iptc_of_resources, resources_of_iptc
from colorize_pipeline.apps.photo import Photo


SIGNATURE = b"\x89PNG\r\n\x1a\n"
END_OF_HEADER = 33  # signature and IHDR
XMP_KEYWORD = "XML:com.adobe.xmp"  # XMP specification, part 3, section 1.1.5
# Texts that hold what the formats share: ImageMagick's way of before there were chunks for it.
RAW_PROFILE = re.compile(r"Raw profile type (\w+)")
_RAW_PROFILE_TEXT = re.compile(r"\s*[^\n]*\n\s*\d+\s*\n([0-9a-fA-F\s]*)")  # name, length, and what it is
_MAX_TEXT = 8 << 20
_ARCHIVE_HINT = "16-bit color needs two more packages, those of the extra `archive`: pip install -e '.[archive]'"

_SRGB_GAMMA = 0.45455  # what files of sRGB say in gAMA (section 11.3.2.5)
_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels (section 6.1)


def read_chunks(data) -> Iterator[tuple[bytes, bytes]]:
    """Give type and data of each chunk before the pixels and after, up to where the file is cut off."""
    start = len(SIGNATURE)
    while start + 12 <= len(data):
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        if kind == b"IEND":
            return
        if kind != b"IDAT" and size <= _MAX_TEXT:
            yield kind, data[start + 8 : start + 8 + size]
        start += 12 + size


def raw_profile(text: str) -> bytes:
    """Decode the hexadecimal text under a keyword `Raw profile type ...`; empty if it is damaged."""
    found = _RAW_PROFILE_TEXT.fullmatch(text)
    try:
        return bytes.fromhex("".join(found[1].split())) if found else b""
    except ValueError:
        return b""


def shared_texts(found: dict[str, bytes | None], texts: dict[str, str]) -> tuple[dict, dict[str, str]]:
    """
    Take from the texts of a PNG what other formats have places of their own for.

    Args:
        found (`dict`): `"exif"`, `"xmp"` and `"icc_profile"`, as far as chunks hold them.
        texts (`dict` of `str`): By keyword.

    Returns:
        `tuple`: `found` with what texts hold of it, and with `"iptc"`; and the other texts.
    """
    found, rest = dict(found), {}
    for keyword, text in texts.items():
        if keyword == XMP_KEYWORD:
            found["xmp"] = found.get("xmp") or text.encode()
        elif named := RAW_PROFILE.fullmatch(keyword):
            data, name = raw_profile(text), named[1].lower()
            if name in ("exif", "app1") and data.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
                found["xmp"] = found.get("xmp") or data.split(b"\0", 1)[1]
            elif name in ("exif", "app1"):
                found["exif"] = found.get("exif") or data
            elif name in ("icc", "icm"):
                found["icc_profile"] = found.get("icc_profile") or data
            elif name == "xmp":
                found["xmp"] = found.get("xmp") or data
            elif name in ("iptc", "8bim"):
                found["iptc"] = found.get("iptc") or (iptc_of_resources(data) if data.startswith(b"8BIM") else data)
        else:
            rest[keyword] = text
    return found, rest


def is_deep_color(head: bytes) -> bool:
    """Whether a file that begins so has 16 bit a channel, and more channels than one."""
    depth, color_type = head[24:26]  # IHDR: the bytes after width and height
    return depth == 16 and color_type != 0


def decode_deep(data: bytes, chunks: dict[bytes, bytes]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """
    Decode 16 bit a channel, which Pillow would cut to 8 unless they are gray alone.

    Returns:
        `tuple`: codes of type `uint16` and their opacity, or `None` and `None` for other PNGs.
    """
    has_key = b"tRNS" in chunks and data[25] in (0, 2)
    if not is_deep_color(data) and not (data[24] == 16 and has_key):
        return None, None
    try:
        import imagecodecs
    except ImportError as error:
        raise ValueError(_ARCHIVE_HINT) from error
    try:
        codes = imagecodecs.png_decode(data)
    except RuntimeError as error:  # the decoder's own
        raise ValueError(f"cannot be decoded: {error}") from error
    codes = codes[:, :, None] if codes.ndim == 2 else codes
    colors = 3 if codes.shape[2] >= 3 else 1
    alpha = codes[:, :, colors] if codes.shape[2] > colors else None
    codes = codes[:, :, :3] if colors == 3 else codes[:, :, 0]
    if has_key and alpha is None:
        key = np.frombuffer(chunks[b"tRNS"], ">u2")[:colors]
        is_key = codes == key[0] if colors == 1 else (codes == key).all(axis=2)
        alpha = np.where(is_key, 0, 65_535).astype(np.uint16)
    return codes, alpha


def stated_profile(chunks: dict[bytes, bytes]) -> tuple[bytes | None, str]:
    """
    Give a profile for what cICP, sRGB, gAMA and cHRM say, which only PNG can.

    Args:
        chunks (`dict`): The data of the chunks by type; cICP outranks iCCP, and that sRGB, gAMA and cHRM.

    Returns:
        `tuple`: a profile, or `None` for sRGB and where nothing is said; and a note where what is said has no profile.
    """
    primaries, curve = color_space.PRIMARIES_SRGB, None
    try:
        if b"cICP" in chunks:
            return color_space.profile_of_code_points(*chunks[b"cICP"][:2])
        if b"sRGB" in chunks or not {b"gAMA", b"cHRM"} & chunks.keys():
            return None, ""
        gamma = struct.unpack(">I", chunks[b"gAMA"])[0] / 100_000 if b"gAMA" in chunks else _SRGB_GAMMA
        if b"cHRM" in chunks:
            primaries = tuple(value / 100_000 for value in struct.unpack(">8I", chunks[b"cHRM"]))
        if not 0.05 <= gamma <= 20:
            return None, "its gAMA chunk is damaged, and left out"
        if abs(gamma - _SRGB_GAMMA) > 0.001:
            curve = color_space.gamma_curve(1 / gamma)
        space = color_space.space_of(primaries, color_space.srgb().curves[0] if curve is None else curve)
    except (struct.error, TypeError, ValueError) as error:
        return None, f"its color space is damaged, and left out ({error})"
    return (None, "") if space.is_srgb() else (color_space.build_profile(space), "")


def metadata_chunks(photo: Photo) -> list[bytes]:
    """Encode what a photo says of itself."""
    chunks = []
    if photo.icc_profile:
        chunks.append(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(photo.icc_profile)))
    if photo.dpi:
        chunks.append(_chunk(b"pHYs", struct.pack(">2IB", *(round(value / 0.0254) for value in photo.dpi), 1)))
    if photo.exif and (block := photo.exif.encode()):
        chunks.append(_chunk(b"eXIf", block))
    if photo.xmp:
        chunks.append(_international_text(XMP_KEYWORD, photo.xmp, b""))
    if photo.iptc:
        resources = resources_of_iptc(photo.iptc)
        lines = "\n".join(resources.hex()[start : start + 72] for start in range(0, 2 * len(resources), 72))
        text = f"\niptc\n{len(resources):8d}\n{lines}\n".encode()
        chunks.append(_chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(text)))
    for keyword, text in photo.texts.items():
        try:
            chunks.append(_chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + text.encode("latin-1")))
        except UnicodeEncodeError:
            language = getattr(text, "lang", None) or ""
            chunks.append(_international_text(keyword, text.encode(), language.encode()))
    return chunks


def _international_text(keyword: str, text: bytes, language: bytes) -> bytes:
    return _chunk(b"iTXt", keyword.encode("latin-1", "replace") + b"\0\0\0" + language + b"\0\0" + text)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(file, blocks: Iterable[np.ndarray], shape: tuple[int, int, int], chunks: list[bytes]) -> None:
    """
    Write 16 bit a channel, row by row.

    Args:
        file (binary file): Where to.
        blocks (iterable of `np.ndarray`): Rows `(rows, width, channels)` of type `uint16`, from the top.
        shape (`tuple`): Height, width, and 1 to 4 channels.
        chunks (`list` of `bytes`): Those of [`metadata_chunks`].
    """
    height, width, channels = shape
    header = struct.pack(">2I5B", width, height, 16, _COLOR_TYPES[channels], 0, 0, 0)
    file.write(SIGNATURE + _chunk(b"IHDR", header) + b"".join(chunks))
    # The noise of scans repeats nothing that is worth looking for: this is three times as fast, and 1 to 5% larger.
    packer = zlib.compressobj(1, strategy=zlib.Z_RLE)
    above = np.zeros(2 * width * channels, np.uint8)
    for block in blocks:
        rows = np.ascontiguousarray(block.astype(">u2", copy=False)).view(np.uint8).reshape(len(block), -1)
        for start in range(0, len(rows), 64):
            part = rows[start : start + 64]
            file.write(_data(packer.compress(_filter(part, above, 2 * channels))))
            above = part[-1].copy()
    file.write(_data(packer.flush()) + _chunk(b"IEND", b""))


def _data(packed: bytes) -> bytes:
    return _chunk(b"IDAT", packed) if packed else b""


def _filter(rows: np.ndarray, above: np.ndarray, pixel_bytes: int) -> bytes:
    """Take from each byte the one to its left, or the one above, whichever leaves less in a row (section 9.2)."""
    upper = np.concatenate([above[None], rows[:-1]])
    left = np.zeros_like(rows)
    left[:, pixel_bytes:] = rows[:, :-pixel_bytes]
    choices = [(1, rows - left), (2, rows - upper)]
    weights = np.stack([np.abs(rest.view(np.int8).astype(np.int16)).sum(axis=1) for _, rest in choices])
    best = weights.argmin(axis=0)
    filtered = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    for number, (kind, rest) in enumerate(choices):
        filtered[best == number, 0] = kind
        filtered[best == number, 1:] = rest[best == number]
    return filtered.tobytes()
