"""Whether a PNG, GIF or TIFF is all there: its decoder reads only as far as the first picture's pixels need.

Every function takes the whole file as bytes and raises ImageError; nothing is allocated for pixels.
"""

import struct
import zlib
from collections.abc import Iterator

from models.headers import corrupt, truncated


def check_png(data: bytes) -> None:
    """Raise unless every chunk up to IEND is there and the picture data's checksums hold (Pillow checks neither)."""
    view = memoryview(data)
    at = 8
    while True:
        if at + 12 > len(data):
            raise truncated("PNG")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise truncated("PNG")
        if kind == b"IDAT" and zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise corrupt("PNG", "a checksum of its picture data is wrong")
        if kind == b"IEND":
            return
        at = end


def png_pixels_missing(data: bytes) -> bool:
    """Whether a whole PNG's compressed data is too short for its size: Pillow leaves what is missing black.

    Unpacks everything once more, so it is asked only where the last row is black.
    """
    width, height, depth, color, _, _, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    bits = depth * {2: 3, 4: 2, 6: 4}.get(color, 1)
    # Adam7: first column, first row, step right, step down of each pass (PNG specification, 8.2).
    passes = (
        ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
        if interlace
        else ((0, 0, 1, 1),)
    )
    missing = 0
    for x, y, right, down in passes:
        columns, rows = -(-(width - x) // right), -(-(height - y) // down)
        missing += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
    unpacker = zlib.decompressobj()
    for chunk in _png_data(data):
        packed: bytes | memoryview = chunk
        while packed and missing > 0:
            missing -= len(unpacker.decompress(packed, 1 << 20))
            packed = unpacker.unconsumed_tail
    return missing > 0


def _png_data(data: bytes) -> Iterator[memoryview]:
    """The content of every IDAT chunk of a PNG that check_png() found whole."""
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            yield memoryview(data)[at + 8 : at + 8 + length]
        at += 12 + length


def check_gif(data: bytes) -> None:
    """Raise where a GIF ends inside a block. One that lacks only its trailer is whole enough for every viewer."""
    try:
        at = 13 + _color_table_bytes(data[10])
        while at < len(data) and data[at] != 0x3B:
            if data[at] == 0x21:  # an extension: label, then sub-blocks
                at += 2
            elif data[at] == 0x2C:  # an image: descriptor, colour table, code size, then sub-blocks
                at += 11 + _color_table_bytes(data[at + 9])
            else:
                return  # junk between blocks; what comes before it is for the decoder to judge
            while length := data[at]:
                at += 1 + length
            at += 1
    except IndexError as error:
        raise truncated("GIF") from error


def _color_table_bytes(flags: int) -> int:
    """Size of the colour table that a GIF's flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


_TIFF_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


def check_tiff(data: bytes) -> None:
    """Raise where a TIFF ends before its first directory, or before what that directory points to, does.

    Writers put the directory behind the pixels, so a cut file has often lost it. BigTIFF is left to the decoder.
    """
    order = "<" if data[:2] == b"II" else ">"
    try:
        if data[2:4] in (b"+\x00", b"\x00+"):
            return
        (directory,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            _, kind, values, offset = struct.unpack_from(order + "HHII", data, entry)
            size = values * _TIFF_TYPE_BYTES.get(kind, 0)
            if size > 4 and offset + size > len(data):
                raise truncated("TIFF")
    except struct.error as error:
        raise truncated("TIFF") from error
