"""
A result says of itself, in its XMP, that a trained model made its colors: which, how, and of which gray.

Source: IPTC Photo Metadata Standard 2025.1 for the properties that every program knows; the rest has a vocabulary of
its own, `RECORD`.
"""

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from xml.dom.minidom import Document

import numpy as np

from colorize_pipeline import __version__
from colorize_pipeline.apps.xmp import (
    IPTC,
    encode_packet,
    parse_packet,
    properties,
    remove_properties,
    set_properties,
    text_of,
)


# For a photo with parts that a model made: IPTC, Digital Source Type.
_SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
RECORD = "urn:colorize-pipeline:record:1.0/"
_PREFIX = "colorize"
SOFTWARE = f"colorize-pipeline {__version__}"

# The gray is also told coarsely, as means of the fields of a grid: so it can be said how far an edited one is off.
_GRID = 16
_ROWS_PER_BLOCK = 1024


@dataclass(frozen=True)
class Gray:
    """
    What identifies a luma plane.

    Args:
        width (`int`), height (`int`): In pixels.
        bits (`int`): 8 or 16.
        sha256 (`str`): Of the line `WIDTH HEIGHT BITS` and the codes, row by row, those of 16 bit in big-endian order.
        means (`str`): The means of a grid of 16 x 16 fields, white = 65535, as `uint16` in big-endian order in base64.
    """

    width: int
    height: int
    bits: int
    sha256: str
    means: str


@dataclass(frozen=True)
class Record:
    """
    How a result was made.

    Args:
        software (`str`): Name and version of this package.
        model (`str`): The folder or the Hub name of the model, as the user gave it, or `"default"`.
        revision (`str`): Of the model: a commit of the Hub, or the hash of its weights.
        seed (`int`): The user's: with the same photo and the same settings it gives the same colors.
        noise_seed (`int`): What it and the content of the photo's file made of it, for the generator of PyTorch.
        settings (`dict`): Arguments of the call of the pipeline; and the page and the depth, if they were asked for.
        gray (`Gray` or `None`): The luma that went in.
    """

    software: str
    model: str
    revision: str
    seed: int
    noise_seed: int
    settings: dict
    gray: Gray | None = None


def noise_seed(sha256: str, page: int | None, seed: int) -> int:
    """
    Seed the noise of a photo by what its file holds and by the user's number: not by its name, its place in a batch or
    the worker that paints it. Two photos of one shape do not share their noise, nor do two pages.

    Args:
        sha256 (`str`): Checksum of the photo's file, in hexadecimal digits.
        page (`int` or `None`): Of the file, from 0; `None` is the first, too.
        seed (`int`): The user's, for this version.
    """
    return int.from_bytes(hashlib.sha256(f"{sha256} {page or 0} {seed}".encode()).digest()[:8])


def identify_gray(luma: np.ndarray) -> Gray:
    """Identify a luma plane of shape `(height, width)`, type `uint8` or `uint16`."""
    height, width = luma.shape
    bits = 8 * luma.dtype.itemsize
    digest = hashlib.sha256(f"{width} {height} {bits}\n".encode())
    for start in range(0, height, _ROWS_PER_BLOCK):
        digest.update(luma[start : start + _ROWS_PER_BLOCK].astype(luma.dtype.newbyteorder(">")).tobytes())
    means = np.rint(gray_means(luma)).astype(">u2").tobytes()
    return Gray(width, height, bits, digest.hexdigest(), base64.b64encode(means).decode())


def gray_means(luma: np.ndarray) -> np.ndarray:
    """Mean luma of each of 16 x 16 fields, white = 65535; a photo of fewer pixels repeats them."""
    rows, columns = (np.linspace(0, side, _GRID + 1).astype(int) for side in luma.shape)
    means = np.empty((_GRID, _GRID))
    for i, (top, bottom) in enumerate(zip(rows[:-1], rows[1:], strict=True)):
        line = luma[top : max(bottom, top + 1)].mean(axis=0, dtype=np.float64)
        for j, (left, right) in enumerate(zip(columns[:-1], columns[1:], strict=True)):
            means[i, j] = line[left : max(right, left + 1)].mean()
    return means * (257 if luma.dtype == np.uint8 else 1)


def distance(luma: np.ndarray, gray: Gray) -> np.ndarray:
    """How far the mean of each field is from that of the recorded gray, in 8-bit codes: `(16, 16)`, at least that."""
    recorded = np.frombuffer(base64.b64decode(gray.means), ">u2")
    if recorded.size != _GRID**2:
        raise ValueError("the record of the gray is damaged")
    return np.abs(gray_means(luma) - recorded.reshape(_GRID, _GRID)) / 257


def mark_synthetic(xmp: bytes | None, record: Record | None = None) -> bytes:
    """
    State in a packet that a trained model made part of the picture, and how. All else in it stays.

    Args:
        xmp (`bytes` or `None`): The photo's packet. Where it names a source (a scanned negative), the new one takes
            its place.
        record (`Record`, *optional*): How the result was made.

    Raises:
        `ValueError`: if the packet is damaged.
    """
    document = parse_packet(xmp)
    remove_properties(document, RECORD)
    values = {(IPTC, "Iptc4xmpExt", "DigitalSourceType"): _SYNTHETIC}
    if record is not None:
        values[IPTC, "Iptc4xmpExt", "AISystemUsed"] = "colorize-pipeline"
        values[IPTC, "Iptc4xmpExt", "AISystemVersionUsed"] = record.software.split()[-1]
        for name, value in asdict(record).items():
            values[RECORD, _PREFIX, name] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    set_properties(document, values)
    return encode_packet(document)


def unmark(xmp: bytes) -> bytes:
    """Take back what [`mark_synthetic`] states: for the gray that is in a result, which no model made."""
    document = parse_packet(xmp)
    remove_properties(document, RECORD)
    ours = ("DigitalSourceType", "AISystemUsed", "AISystemVersionUsed")
    for name, node in properties(document, IPTC).items():
        if name in ours and (name != "DigitalSourceType" or _source(document) == _SYNTHETIC):
            if hasattr(node, "ownerElement"):
                node.ownerElement.removeAttributeNode(node)
            else:
                node.parentNode.removeChild(node)
    return encode_packet(document)


def _source(document: Document) -> str:
    node = properties(document, IPTC).get("DigitalSourceType")
    if node is None:
        return ""
    return text_of(node) or (node.getAttribute("rdf:resource") if hasattr(node, "getAttribute") else "")


def is_synthetic(xmp: bytes | None) -> bool:
    """Whether a packet says that a model made part of the picture."""
    return bool(xmp) and _source(parse_packet(xmp)) == _SYNTHETIC


def read_record(xmp: bytes | None) -> Record | None:
    """
    Read how a result was made; `None` if the packet does not say.

    Raises:
        `ValueError`: if the packet or the record is damaged.
    """
    found = properties(parse_packet(xmp), RECORD)
    if not found:
        return None
    try:
        words = {name: text_of(node) for name, node in found.items()}
        gray = json.loads(words.get("gray", "null"))
        return Record(
            software=words["software"],
            model=words["model"],
            revision=words["revision"],
            seed=int(words["seed"]),
            noise_seed=int(words["noise_seed"]),
            settings=json.loads(words["settings"]),
            gray=None if gray is None else Gray(**gray),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"its record of how it was made is damaged ({error})") from error
