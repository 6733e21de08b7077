"""Files that are no photos as this program understands them, told by name what to do instead."""

RAW_SUFFIXES = (
    (".3fr", ".ari", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mef")
    + (".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f")
)  # fmt: skip
_RAW = "a camera's raw file: develop it, export it as TIFF of 16 bit, and colorize that"
_OTHERS = {
    ".jxl": "JPEG XL is not read: convert it to PNG or TIFF",
    ".pdf": "PDF is not read: export its pictures as TIFF or PNG (for example with pdfimages), and colorize these",
    ".psd": "Photoshop's own format is not read: save a copy as TIFF",
    ".psb": "Photoshop's own format is not read: save a copy as TIFF",
    ".xcf": "GIMP's own format is not read: export it as TIFF or PNG",
    ".svg": "SVG is a drawing, not a photo: export it as PNG",
    ".eps": "EPS is not read: export it as TIFF or PNG",
    ".djvu": "DjVu is not read: export its pages as TIFF",
}
# The first bytes, and where they are, of files that may come under any name.
_MARKS = (
    (8, b"CR\2", _RAW),  # Canon, in a TIFF
    (4, b"ftypcrx ", _RAW),
    (0, b"FUJIFILMCCD-RAW", _RAW),
    (0, b"IIRO", _RAW),
    (0, b"IIRS", _RAW),
    (0, b"MMOR", _RAW),
    (0, b"IIU\0", _RAW),
    (0, b"FOVb", _RAW),
    (0, b"\0MRM", _RAW),
    (0, b"8BPS", _OTHERS[".psd"]),
    (0, b"%PDF", _OTHERS[".pdf"]),
    (0, b"gimp xcf", _OTHERS[".xcf"]),
    (0, b"%!PS", _OTHERS[".eps"]),
    (0, b"<svg", _OTHERS[".svg"]),
    (0, b"\xff\x0a", _OTHERS[".jxl"]),
    (4, b"JXL ", _OTHERS[".jxl"]),
    (0, b"AT&TFORM", _OTHERS[".djvu"]),
)
OTHER_SUFFIXES = (*RAW_SUFFIXES, *_OTHERS)


def reason(suffix: str, head: bytes) -> str | None:
    """
    Say why a file is not read; `None` if nothing speaks against it yet.

    Args:
        suffix (`str`): In lower case.
        head (`bytes`): Its first 64 bytes.
    """
    for at, mark, words in _MARKS:
        if head[at : at + len(mark)] == mark:
            return words
    # What is a photo inside is read under any name.
    known = head[:3] == b"\xff\xd8\xff" or head[:4] in (b"\x89PNG", b"RIFF", b"GIF8") or head[:2] == b"BM"
    return None if known else _RAW if suffix in RAW_SUFFIXES else _OTHERS.get(suffix)
