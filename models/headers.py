"""What a picture file says of itself before anything is decoded: its size and its EXIF orientation.

Every function takes the whole file as bytes and raises ImageError; nothing is allocated for pixels.
"""

import re
import struct
from dataclasses import dataclass

from models.errors import ImageError

# A progressive JPEG may repeat scans without end, each a pass over the whole picture; encoders write about ten.
MAX_JPEG_SCANS = 200
_MAX_JPEG_SEGMENTS = 10_000

_SOI_TO_SOS_BARE = {0x01, 0xD8, *range(0xD0, 0xD8)}  # markers without a length
_START_OF_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xCA}
_LOSSLESS_OR_HIERARCHICAL = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}
_EOI, _SOS, _APP1 = 0xD9, 0xDA, 0xE1
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_ORIENTATION_TAG = 0x0112
_EXIF_PREFIX = b"Exif\x00\x00"


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """The frame header of a JPEG; `orientation` is EXIF's 1–8, 1 where there is none."""

    width: int
    height: int
    components: int
    orientation: int


def truncated(name: str) -> ImageError:
    """The error for a file that ends before its picture does."""
    return ImageError(
        "truncated", f"The {name} file ends early: part of the picture is missing. Copy or download it again."
    )


def corrupt(name: str, detail: object) -> ImageError:
    """The error for a file whose header or data contradicts its format."""
    return ImageError("corrupt", f"The {name} file is damaged: {str(detail) or 'its parts contradict each other'}.")


def read_jpeg(data: bytes) -> JpegHeader:
    """Walk the segments up to the first scan. Lossless, hierarchical and 12-bit JPEG are "unsupported"."""
    frame: tuple[int, int, int] | None = None
    orientation = 0
    at = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        marker, start, end = _segment(data, at)
        if marker in _START_OF_FRAME:
            frame = _frame(data[start:end], marker)
        elif marker == _APP1 and not orientation and data.startswith(_EXIF_PREFIX, start):
            orientation = exif_orientation(data[start:end])
        elif marker == _SOS:
            if frame is None:
                raise corrupt("JPEG", "picture data comes before the frame header")
            _check_scans(data, end)
            return JpegHeader(*frame, orientation or 1)
        elif marker == _EOI:
            raise corrupt("JPEG", "it ends before any picture data")
        at = end
    raise corrupt("JPEG", f"more than {_MAX_JPEG_SEGMENTS:,} segments before any picture data")


def _segment(data: bytes, at: int) -> tuple[int, int, int]:
    """The next marker at or after `at`, and where its content starts and ends; junk before it is skipped."""
    at = data.find(b"\xff", at)
    while at >= 0 and data[at + 1 : at + 2] in (b"\xff", b"\x00"):
        at = data.find(b"\xff", at + 1)
    if at < 0 or at + 2 > len(data):
        raise truncated("JPEG")
    marker = data[at + 1]
    if marker in _SOI_TO_SOS_BARE or marker == _EOI:
        return marker, at + 2, at + 2
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    if at + 4 > len(data) or at + 2 + length > len(data):
        raise truncated("JPEG")
    if length < 2:
        raise corrupt("JPEG", f"a segment of {length} bytes")
    return marker, at + 4, at + 2 + length


def _frame(content: bytes, marker: int) -> tuple[int, int, int]:
    """Width, height, components."""
    if len(content) < 6:
        raise corrupt("JPEG", "its frame header is too short")
    precision, height, width, components = struct.unpack_from(">BHHB", content)
    if marker in _LOSSLESS_OR_HIERARCHICAL or precision != 8:
        kind = f"{precision}-bit" if precision != 8 else "lossless or hierarchical"
        raise ImageError("unsupported", f"This JPEG is {kind}: baseline or progressive JPEG of 8 bits was expected.")
    if not (width and height):
        raise corrupt("JPEG", f"its header says {width} × {height} pixels")
    return width, height, components


def _check_scans(data: bytes, at: int) -> None:
    """Raise for a JPEG that would be decoded over and over. `at`: where the first scan's data begins."""
    scans = 1
    while scans <= MAX_JPEG_SCANS:
        found = _MARKER_IN_SCAN.search(data, at)
        if found is None or data[found.start() + 1] == _EOI:
            return  # whether the end is there is the decoder's to say
        marker = data[found.start() + 1]
        scans += marker == _SOS
        at = found.end() + (int.from_bytes(data[found.end() : found.end() + 2], "big") if marker != 0x01 else 0)
    raise corrupt("JPEG", f"more than {MAX_JPEG_SCANS} scans, where encoders write about ten")


def exif_orientation(exif: bytes) -> int:
    """The orientation 1–8 in an EXIF block (with or without its "Exif" prefix); 1 where it is missing or unreadable."""
    tiff = exif.removeprefix(_EXIF_PREFIX)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, first)
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == _ORIENTATION_TAG:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:  # a damaged EXIF block is no reason to lose the picture
        return 1
    return 1


def picture_size(name: str, data: bytes) -> tuple[int, int] | None:
    """Width and height from the first bytes of a PNG, GIF, BMP or WEBP; None for other formats."""
    try:
        if name == "PNG":
            width, height = struct.unpack_from(">II", data, 16)
        elif name == "GIF":
            width, height = struct.unpack_from("<HH", data, 6)
        elif name == "BMP":
            width, height = struct.unpack_from("<HH" if data[14] == 12 else "<ii", data, 18)
        elif name == "WEBP":
            return _webp_size(data)
        else:
            return None
    except struct.error as error:
        raise truncated(name) from error
    return abs(width), abs(height)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Canvas size of the three kinds of WebP (RFC 9649); the length of the file is checked against its RIFF header."""
    (riff,) = struct.unpack_from("<I", data, 4)
    if riff + 8 > len(data):
        raise truncated("WEBP")
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF
