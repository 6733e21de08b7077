"""
Color spaces: what the codes of a photo look like, and profiles for results that look the same.

Source: ICC.1:2022 for profiles (sections 7.2, 8.3, 8.4, 10.6, 10.18), IEC 61966-2-1 for sRGB.
"""

import io
import struct
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageCms


WHITE_D50 = np.array([0.9642, 1.0, 0.8249])  # Source: ICC.1:2022, 7.2.16
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

# White, red, green, blue: chromaticities x, y. Source: ITU-T H.273, table 2; Adobe RGB (1998) Color Image Encoding.
PRIMARIES_SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
PRIMARIES_P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
PRIMARIES_2020 = (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)
PRIMARIES_ADOBE = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)

# Code points of ITU-T H.273, tables 2 and 3, for pictures that are no HDR; those of television by how it is shown
# (ITU-R BT.1886).
_PRIMARIES = {1: PRIMARIES_SRGB, 9: PRIMARIES_2020, 12: PRIMARIES_P3}
_GAMMAS = {1: 2.4, 4: 2.2, 5: 2.8, 6: 2.4, 8: 1.0, 14: 2.4, 15: 2.4}
_SRGB_TRANSFER, _UNSPECIFIED = 13, 2

CODES = np.arange(65_536) / 65_535  # those of 16 bit, white = 1
_NEAR_SRGB = 2e-3  # profiles of sRGB by its many makers differ by less; in linear light
_TABLE_ENTRIES = 4096
# Parameters of a parametric curve by its number, and what the rest of g, a, b, c, d, e, f are then (10.18).
_PARAMETERS = {0: "g", 1: "gab", 2: "gabc", 3: "gabcd", 4: "gabcdef"}


@dataclass(frozen=True)
class RgbSpace:
    """
    A space of RGB by primaries and tone curves.

    Args:
        matrix (`np.ndarray` of shape `(3, 3)`): Linear RGB in `[0, 1]` to XYZ under D50.
        curves (`np.ndarray` of shape `(3, 65536)`): Linear light at each 16-bit code of red, green and blue.
    """

    matrix: np.ndarray
    curves: np.ndarray

    def gray_light(self) -> np.ndarray:
        """The luminance of each 16-bit code of gray."""
        return np.maximum(self.matrix[1] @ self.curves, 0)

    def is_srgb(self) -> bool:
        other = srgb()
        return (
            np.abs(self.matrix - other.matrix).max() < _NEAR_SRGB
            and np.abs(self.curves - other.curves).max() < _NEAR_SRGB
        )


@cache
def srgb() -> RgbSpace:
    return space_of(PRIMARIES_SRGB, srgb_light(CODES))


def srgb_light(values: np.ndarray) -> np.ndarray:
    """Linear light of sRGB values in `[0, 1]`."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def srgb_value(light: np.ndarray) -> np.ndarray:
    """The inverse of [`srgb_light`]."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


def space_of(primaries: tuple[float, ...], curve: np.ndarray) -> RgbSpace:
    """
    Give the space with the chromaticities of white, red, green and blue, and one tone curve.

    Raises:
        `ValueError`: if no colors lie between the primaries.
    """
    white, *corners = (np.array([x, y, 1 - x - y]) / (y or 1e-9) for x, y in zip(*[iter(primaries)] * 2, strict=True))
    matrix = np.stack(corners, axis=1)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-6:
        raise ValueError("the primaries are no colors")
    matrix = matrix * np.linalg.solve(matrix, white)
    cones = (_BRADFORD @ WHITE_D50) / (_BRADFORD @ white)  # chromatic adaptation: ICC.1:2022, annex E
    return RgbSpace(np.linalg.solve(_BRADFORD, cones[:, None] * (_BRADFORD @ matrix)), np.tile(curve, (3, 1)))


def gamma_curve(gamma: float) -> np.ndarray:
    return CODES**gamma


def profile_of_code_points(primaries: int, transfer: int) -> tuple[bytes | None, str]:
    """
    Give a profile for the code points of ITU-T H.273 that PNG (cICP), AVIF and HEIC name a color space with.

    Returns:
        `tuple`: a profile, or `None` for sRGB and where nothing is said; and a note where there is no profile for it.
    """
    if _UNSPECIFIED in (primaries, transfer) or (primaries, transfer) == (1, _SRGB_TRANSFER):
        return None, ""
    if primaries not in _PRIMARIES or transfer not in (*_GAMMAS, _SRGB_TRANSFER):
        return None, f"its color space (code points {primaries}, {transfer}) is not known here: it is read as sRGB"
    curve = gamma_curve(_GAMMAS[transfer]) if transfer in _GAMMAS else srgb().curves[0]
    return build_profile(space_of(_PRIMARIES[primaries], curve)), ""


def color_model(icc_profile: bytes) -> str:
    """`"RGB"`, `"GRAY"`, `"CMYK"`, ...: what a profile describes."""
    return icc_profile[16:20].decode("ascii", "replace").strip()


def read_space(icc_profile: bytes) -> RgbSpace:
    """
    Read an RGB profile that has primaries and tone curves.

    Raises:
        `ValueError`: if it is damaged, of another kind, or made of tables.
    """
    tags = _tags(icc_profile)
    if color_model(icc_profile) != "RGB" or not {b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"} <= tags.keys():
        raise ValueError("the ICC profile has no primaries and tone curves")
    try:
        columns = [struct.unpack(">3i", tags[name][8:20]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
        matrix = np.array(columns).T / 65_536
        curves = np.stack([_read_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")])
    except struct.error as error:
        raise ValueError("the ICC profile is damaged") from error
    if abs(np.linalg.det(matrix)) < 1e-6 or (np.diff(curves) < -1e-3).any() or (curves[:, -1] < 0.5).any():
        raise ValueError("the ICC profile is damaged: its primaries or tone curves are none")
    return RgbSpace(matrix, curves)


def other_space(icc_profile: bytes | None) -> RgbSpace | None:
    """The space of a profile; `None` for sRGB, for no profile, and where it has no primaries and curves."""
    try:
        space = read_space(icc_profile) if icc_profile else None
    except ValueError:  # said when the photo was read
        return None
    return None if space is None or space.is_srgb() else space


def _tags(icc_profile: bytes) -> dict[bytes, bytes]:
    if len(icc_profile) < 132 or icc_profile[36:40] != b"acsp":
        raise ValueError("the ICC profile is damaged")
    count = struct.unpack(">I", icc_profile[128:132])[0]
    entries = [icc_profile[132 + 12 * number : 144 + 12 * number] for number in range(min(count, 200))]
    found = {}
    for entry in (entry for entry in entries if len(entry) == 12):
        at, size = struct.unpack(">II", entry[4:])
        found[entry[:4]] = icc_profile[at : at + size]
    return found


def _read_curve(tag: bytes) -> np.ndarray:
    """Evaluate a `curv` or `para` element at all 16-bit codes."""
    if tag[:4] == b"curv":
        count = struct.unpack(">I", tag[8:12])[0]
        if count == 0:
            return CODES.copy()
        if count == 1:
            return gamma_curve(struct.unpack(">H", tag[12:14])[0] / 256)
        table = np.frombuffer(tag[12:], ">u2", count=min(count, (len(tag) - 12) // 2)) / 65_535
        return np.interp(CODES, np.linspace(0, 1, len(table)), table)
    if tag[:4] != b"para" or (number := struct.unpack(">H", tag[8:10])[0]) not in _PARAMETERS:
        raise ValueError("the ICC profile has a tone curve of an unknown kind")
    names = _PARAMETERS[number]
    values = struct.unpack(f">{len(names)}i", tag[12 : 12 + 4 * len(names)])
    p = dict.fromkeys("gabcdef", 0.0) | {"a": 1.0} | {k: v / 65_536 for k, v in zip(names, values, strict=True)}
    power = np.maximum(p["a"] * CODES + p["b"], 0) ** p["g"]
    if number < 3:  # c is an offset, and the curve begins where the power does
        start = -p["b"] / p["a"] if p["a"] else 0.0
        return np.clip(np.where(CODES >= start, power + p["c"], p["c"]), 0, 1)
    return np.clip(np.where(CODES >= p["d"], power + p["e"], p["c"] * CODES + p["f"]), 0, 1)


def rgb_profile_of_gray(icc_profile: bytes) -> bytes:
    """
    Give an RGB profile in which equal red, green and blue look as the same code of gray does in a gray profile.

    Raises:
        `ValueError`: if the profile is damaged.
    """
    tags = _tags(icc_profile)
    if color_model(icc_profile) != "GRAY" or b"kTRC" not in tags:
        raise ValueError("the ICC profile is damaged")
    try:
        curve = _read_curve(tags[b"kTRC"])
    except struct.error as error:
        raise ValueError("the ICC profile is damaged") from error
    if icc_profile[20:24] == b"Lab ":  # then the curve gives L* / 100 (8.3.4)
        lightness = 100 * curve
        curve = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness * 27 / 24_389)
    elif len(tags[b"kTRC"]) < 65_536:
        return build_profile(space_of(PRIMARIES_SRGB, curve), curve=tags[b"kTRC"])
    return build_profile(space_of(PRIMARIES_SRGB, curve))


def build_profile(space: RgbSpace, model: str = "RGB", curve: bytes | None = None) -> bytes:
    """
    Write an ICC profile (version 2, which everything reads).

    Args:
        space (`RgbSpace`): What it describes, by the tone curve of red.
        model (`str`, *optional*, defaults to `"RGB"`): Or `"GRAY"`, of the same tones.
        curve (`bytes`, *optional*): The tone curve as an element of a profile. Defaults to a table of `space`.
    """
    table = np.interp(np.linspace(0, 1, _TABLE_ENTRIES), CODES, space.curves[0])
    codes = np.rint(np.clip(table, 0, 1) * 65_535).astype(">u2").tobytes()
    curve = curve or b"curv\0\0\0\0" + struct.pack(">I", _TABLE_ENTRIES) + codes
    words = b"by the tones of the photo\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(words)) + words + bytes(78),
        b"cprt": b"text\0\0\0\0CC0\0",
        b"wtpt": _xyz(WHITE_D50),
    }
    if model == "RGB":
        tags |= {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), space.matrix.T, strict=True)}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    else:
        tags[b"kTRC"] = curve
    table_end = 132 + 12 * len(tags)
    places, body = {}, b""
    for element in dict.fromkeys(tags.values()):  # equal curves are written once
        places[element] = table_end + len(body)
        body += element + bytes(-len(element) % 4)
    entries = [name + struct.pack(">II", places[element], len(element)) for name, element in tags.items()]
    length, date = table_end + len(body), struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    kind = b"mntr" + model.encode().ljust(4) + b"XYZ "
    head = struct.pack(">I", length) + bytes(4) + b"\2\x10\0\0" + kind + date + b"acsp"
    head = head.ljust(68, b"\0") + _xyz(WHITE_D50)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + b"".join(entries) + body


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(value) * 65_536) for value in values))


def result_profile(icc_profile: bytes) -> tuple[bytes | None, str]:
    """
    Give the profile of RGB with which a result looks as a photo with another profile does.

    Returns:
        `tuple`: the profile or `None`, and a note where the look or the profile is not kept.
    """
    model = color_model(icc_profile)
    try:
        if model == "GRAY":
            return rgb_profile_of_gray(icc_profile), ""
        if model != "RGB":
            return None, f"the ICC profile is left out: it is one for {model or 'nothing'}, not for RGB"
        _tags(icc_profile)
    except ValueError as error:
        return None, f"the ICC profile is left out: {error}"
    try:
        read_space(icc_profile)
    except ValueError as error:
        return icc_profile, f"colors are made as in sRGB, and may look otherwise: {error}"
    return icc_profile, ""


def srgb_of_cmyk(image: Image.Image, icc_profile: bytes) -> tuple[Image.Image, str]:
    """Show the inks of a photo in CMYK as its profile says, in sRGB; or as Pillow guesses where it cannot be used."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        shown = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        return image.convert("RGB"), f"the ICC profile is left out: it is damaged ({error})"
    shown.info.pop("icc_profile", None)
    return shown, "CMYK is shown in sRGB, by its profile"
