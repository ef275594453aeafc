"""Ways to damage a file: any file's bytes, and the structure of a picture's format, repaired so that decoders go on.

Every way takes the dice and the bytes, and gives other bytes; it never fails, whatever the bytes are.
"""

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

Part = TypeVar("Part")
Mutation = Callable[[random.Random, bytes], bytes]

HEAD = 600  # bytes of a file that hold most of what decides
NUMBERS = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x3FFF, 0x4000, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 0x10000)
WIDE_NUMBERS = (*NUMBERS, 0xFFFFFF, 0x1000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)
SIDES = (0, 1, 2, 3, 8, 17, 100, 1000, 5000, 9999, 16383, 30000, 65500, 65535)  # of a picture, in pixels


TIFF_PACKINGS = (2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34712, 34925, 50000, 50001)  # with and without a decoder here
TIFF_TAGS = (
    254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 330, 338, 339, 347,
    530, 34675, 0xC612,
)  # fmt: skip

# Any file


def flip_bits(dice: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        changed[_place(dice, changed)] ^= 1 << dice.randrange(8)
    return bytes(changed)


def set_bytes(dice: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.randint(1, 6)):
        changed[_place(dice, changed)] = dice.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, dice.randrange(256)))
    return bytes(changed)


def set_number(dice: random.Random, data: bytes) -> bytes:
    """A number that programs trip over, of two or four bytes, either end first."""
    size, order = dice.choice("HI"), dice.choice("<>")
    return _put(bytearray(data), _place(dice, data), order + size, dice.choice(WIDE_NUMBERS))


def fill_run(dice: random.Random, data: bytes) -> bytes:
    at, length = _run(dice, data)
    filling = dice.choice((b"\0" * length, b"\xff" * length, dice.randbytes(length)))
    return data[:at] + filling + data[at + length :]


def drop_run(dice: random.Random, data: bytes) -> bytes:
    at, length = _run(dice, data)
    return data[:at] + data[at + length :]


def repeat_run(dice: random.Random, data: bytes) -> bytes:
    at, length = _run(dice, data)
    return data[: at + length] + data[at : at + length] * dice.choice((1, 1, 2, 30)) + data[at + length :]


def insert_run(dice: random.Random, data: bytes) -> bytes:
    at, length = _run(dice, data)
    return data[:at] + dice.randbytes(length) + data[at:]


def swap_runs(dice: random.Random, data: bytes) -> bytes:
    (at, length), (other, _) = _run(dice, data), _run(dice, data)
    first, second = sorted((at, other))
    length = min(length, second - first, len(data) - second)
    one, two = data[first : first + length], data[second : second + length]
    return data[:first] + two + data[first + length : second] + one + data[second + length :]


def cut(dice: random.Random, data: bytes) -> bytes:
    return data[: dice.randrange(len(data))] if data else data


def cut_and_close(dice: random.Random, data: bytes) -> bytes:
    """Cut, with the end of the whole file put back."""
    tail = dice.choice((2, 8, 12, 22))
    return cut(dice, data) + data[-tail:]


def add_tail(dice: random.Random, data: bytes) -> bytes:
    return data + dice.choice((data, dice.randbytes(500), b"\0" * 5000, b"\xff\xd9", b"PK\5\6" + bytes(18)))


ANY: Sequence[Mutation] = (
    flip_bits, flip_bits, set_bytes, set_bytes, set_number, set_number, fill_run, drop_run, repeat_run, insert_run,
    swap_runs, cut, cut_and_close, add_tail,
)  # fmt: skip


def splice(dice: random.Random, data: bytes, other: bytes) -> bytes:
    """The beginning of one file and the rest of another, of any format."""
    return data[: dice.randrange(len(data) + 1)] + other[dice.randrange(len(other) + 1) :]


def swap_header(dice: random.Random, data: bytes, other: bytes) -> bytes:
    """Another file's first bytes over this one's."""
    size = dice.choice((4, 8, 12, 16, 26, 33, 64, 200))
    return other[:size] + data[size:]


# PNG: chunks (length, kind, content, checksum)


def png_chunks(dice: random.Random, data: bytes) -> bytes:
    chunks = _png_parts(data)
    if not chunks:
        return flip_bits(dice, data)
    act = dice.choice((_png_header, _png_header, _png_content, _png_content, _png_data, _shuffle))
    return data[:8] + b"".join(_png_chunk(dice, kind, content) for kind, content in act(dice, chunks))


_Chunks = list[tuple[bytes, bytes]]


def _png_parts(data: bytes) -> _Chunks:
    chunks, at = [], 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _png_chunk(dice: random.Random, kind: bytes, content: bytes) -> bytes:
    """A chunk whose checksum is right, now and then with a length that is not."""
    length = dice.choice(WIDE_NUMBERS) if dice.random() < 0.02 else len(content)
    return struct.pack(">I", length) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png_header(dice: random.Random, chunks: _Chunks) -> _Chunks:
    kind, content = chunks[0]
    fields = list(struct.unpack(">IIBBBBB", content[:13].ljust(13, b"\0")))
    field = dice.randrange(7)
    choices = (SIDES, SIDES, (1, 2, 4, 8, 16, 0, 3, 32), (0, 2, 3, 4, 6, 1, 5, 7), (0, 1, 255), (0, 1, 255), (0, 1, 2))
    fields[field] = dice.choice(choices[field])
    return [(kind, struct.pack(">IIBBBBB", *fields) + content[13:]), *chunks[1:]]


def _png_content(dice: random.Random, chunks: _Chunks) -> _Chunks:
    at = dice.randrange(len(chunks))
    kind, content = chunks[at]
    return [*chunks[:at], (kind, dice.choice(ANY)(dice, content or b"\0")), *chunks[at + 1 :]]


def _png_data(dice: random.Random, chunks: _Chunks) -> _Chunks:
    """The packed pixels unpacked, damaged, and packed again: what reaches the filters is wrong, not the packing."""
    packed = b"".join(content for kind, content in chunks if kind == b"IDAT")
    try:
        raw = zlib.decompressobj().decompress(packed, 1 << 22)
    except zlib.error:
        return _png_content(dice, chunks)
    damaged = zlib.compress(dice.choice(ANY)(dice, raw or b"\0"), dice.choice((0, 1, 9)))
    first = next((at for at, (kind, _) in enumerate(chunks) if kind == b"IDAT"), len(chunks))
    others = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
    middle = dice.randrange(len(damaged) + 1)
    return [*others[:first], (b"IDAT", damaged[:middle]), (b"IDAT", damaged[middle:]), *others[first:]]


def _shuffle(dice: random.Random, parts: list[Part]) -> list[Part]:
    """Leave a part out, put one in twice or many times, or in another place."""
    parts = list(parts)
    at = dice.randrange(len(parts))
    part = parts[at]
    act = dice.randrange(4)
    if act != 2:
        del parts[at]
    if act in (1, 2):
        parts.insert(dice.randrange(len(parts) + 1), part)
    if act == 3:
        parts[at:at] = [part] * dice.choice((2, 50, 300))
    return parts


# JPEG: segments (marker, length, content), then the scan


def jpeg_segments(dice: random.Random, data: bytes) -> bytes:
    segments, scan = _jpeg_parts(data)
    if not segments:
        return flip_bits(dice, data)
    if dice.random() < 0.25:
        scan = dice.choice((_jpeg_markers, _jpeg_rescan, *ANY[:8]))(dice, scan or b"\0")
    else:
        segments = dice.choice((_jpeg_frame, _jpeg_frame, _jpeg_content, _jpeg_content, _shuffle))(dice, segments)
    return data[:2] + b"".join(_jpeg_segment(dice, marker, content) for marker, content in segments) + scan


JPEG_MARKERS = (b"\xff\xd0", b"\xff\xd7", b"\xff\xd9", b"\xff\xda\0\x0c", b"\xff\xdc\0\4\xff\xff", b"\xff\xff")
_Segments = list[tuple[int, bytes]]
_FRAMES = (0xC0, 0xC1, 0xC2)


def _jpeg_parts(data: bytes) -> tuple[_Segments, bytes]:
    """The segments up to and with the first scan's header, and all that follows."""
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segments.append((marker, data[at + 4 : at + 2 + length]))
        at += 2 + max(length, 2)
        if marker == 0xDA:
            break
    return segments, data[at:]


def _jpeg_segment(dice: random.Random, marker: int, content: bytes) -> bytes:
    length = dice.choice(NUMBERS) & 0xFFFF if dice.random() < 0.02 else min(len(content) + 2, 0xFFFF)
    return bytes((0xFF, marker)) + length.to_bytes(2, "big") + content


def _jpeg_frame(dice: random.Random, segments: _Segments) -> _Segments:
    """Another size, precision, kind, number of channels or sampling in the frame header."""
    at = next((at for at, (marker, _) in enumerate(segments) if marker in _FRAMES), None)
    if at is None:
        return _jpeg_content(dice, segments)
    marker, content = segments[at]
    changed = bytearray(content.ljust(9, b"\0"))
    act = dice.randrange(6)
    if act < 3:
        struct.pack_into(">H", changed, dice.choice((1, 3)), dice.choice(SIDES))
    elif act == 3:
        marker = dice.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC9, 0xCA, 0xCD))
    elif act == 4:
        changed[5] = dice.choice((0, 1, 2, 3, 4, 5, 255))
    else:
        changed[dice.randrange(6, len(changed))] = dice.choice((0, 0x11, 0x12, 0x21, 0x22, 0x41, 0x44, 0xFF, 0x10))
    return [*segments[:at], (marker, bytes(changed)), *segments[at + 1 :]]


def _jpeg_content(dice: random.Random, segments: _Segments) -> _Segments:
    at = dice.randrange(len(segments))
    marker, content = segments[at]
    if dice.random() < 0.1:
        marker = dice.choice((0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xDE, 0xE1, 0xEE, 0xFE, 0x01, 0xD0, 0xD8, 0xD9))
    return [*segments[:at], (marker, dice.choice(ANY)(dice, content or b"\0")), *segments[at + 1 :]]


def _jpeg_markers(dice: random.Random, scan: bytes) -> bytes:
    """Markers where none belong."""
    for _ in range(dice.choice((1, 3, 40))):
        at = dice.randrange(len(scan) + 1)
        new = dice.choice(
            (b"\xff\xd0", b"\xff\xd7", b"\xff\xd9", b"\xff\xda\0\x0c", b"\xff\xdc\0\4\xff\xff", b"\xff\xff")
        )
        scan = scan[:at] + new + scan[at:]
    return scan


def _jpeg_rescan(dice: random.Random, scan: bytes) -> bytes:
    """Later scans again and again, each a pass over all pixels."""
    at = scan.rfind(b"\xff\xda")
    last = scan[at:-2] if at >= 0 else b"\xff\xda\0\x08\1\1\0\0\x3f\0" + scan[:50]
    return scan[:-2] + last * dice.choice((1, 20, 150, 1000)) + b"\xff\xd9"


# GIF, BMP, TIFF, WebP


def gif_fields(dice: random.Random, data: bytes) -> bytes:
    """The screen's or a picture's size and place, flags, and the first code size."""
    changed = bytearray(data)
    image = data.find(b"\x2c", 13)
    if dice.random() < 0.4 or image < 0 or image + 11 > len(data):
        return _put(changed, 6 + 2 * dice.randrange(2), "<H", dice.choice(SIDES))
    act = dice.randrange(6)
    if act < 4:
        return _put(changed, image + 1 + 2 * act, "<H", dice.choice(SIDES))
    return _put(changed, image + 5 + act, "<B", dice.choice((0, 1, 8, 11, 12, 13, 0x40, 0x80, 0x87, 0xC7, 255)))


def bmp_fields(dice: random.Random, data: bytes) -> bytes:
    at, values = dice.choice(
        (
            (10, WIDE_NUMBERS), (14, (12, 40, 52, 56, 64, 108, 124)), (18, SIDES), (22, SIDES),
            (22, (0xFFFFFFFF, 0xFFFFFF00, 0xFFFF0000, 0x80000000)), (28, (0, 1, 2, 4, 8, 16, 24, 32, 64)),
            (30, (0, 1, 2, 3, 4, 5, 6)), (34, WIDE_NUMBERS), (46, WIDE_NUMBERS), (54, WIDE_NUMBERS),
        )
    )  # fmt: skip
    return _put(bytearray(data), at, "<H" if at == 28 else "<I", dice.choice(values))


def tiff_tags(dice: random.Random, data: bytes) -> bytes:
    """A tag's number, type, count or value; the next directory; or the whole list in another order."""
    order = ">" if data[:2] == b"MM" else "<"
    try:
        (at,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, at)
    except struct.error:
        return flip_bits(dice, data)
    entry = at + 2 + 12 * dice.randrange(max(1, min(count, 40)))
    changed = bytearray(data)
    act = dice.randrange(8)
    if act == 0:
        return _put(changed, entry, order + "H", dice.choice(TIFF_TAGS))
    if act == 1:
        return _put(changed, entry + 2, order + "H", dice.choice((0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16, 99)))
    if act == 2:
        return _put(changed, entry + 4, order + "I", dice.choice(WIDE_NUMBERS))
    if act == 3:
        return _put(changed, at + 2 + 12 * count, order + "I", dice.choice((at, 8, len(data), 0xFFFFFFFF)))
    if act in (4, 5):
        return _put(changed, entry + 8, order + "H", dice.choice(NUMBERS) & 0xFFFF)
    return _put(changed, entry + 8, order + "I", dice.choice((*SIDES, *WIDE_NUMBERS, *TIFF_PACKINGS)))


def webp_chunks(dice: random.Random, data: bytes) -> bytes:
    """Sizes, kinds and order of the RIFF chunks; the outer length is made right again."""
    chunks, at = [], 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        chunks.append((data[at : at + 4], data[at + 8 : at + 8 + size]))
        at += 8 + size + (size & 1)
    if not chunks:
        return flip_bits(dice, data)
    act = dice.randrange(4)
    if act == 0:
        chunks = _shuffle(dice, chunks)
    else:
        at = dice.randrange(len(chunks))
        kind, content = chunks[at]
        if act == 1:
            kind = dice.choice((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XXXX"))
        content = _webp_size(dice, kind, content) if act == 2 else dice.choice(ANY)(dice, content or b"\0")
        chunks[at] = kind, content
    body = b"WEBP" + b"".join(_riff(dice, kind, content) for kind, content in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_size(dice: random.Random, kind: bytes, content: bytes) -> bytes:
    side = dice.choice(SIDES)
    place, layout = {b"VP8 ": (6, "<H"), b"VP8L": (1, "<I"), b"VP8X": (4, "<I"), b"ANMF": (6, "<I")}.get(
        kind, (0, "<H")
    )
    return _put(bytearray(content), place + 2 * (kind == b"VP8 " and dice.random() < 0.5), layout, side)


def _riff(dice: random.Random, kind: bytes, content: bytes) -> bytes:
    size = dice.choice(WIDE_NUMBERS) if dice.random() < 0.03 else len(content)
    return kind + struct.pack("<I", size) + content + b"\0" * (len(content) & 1)


SURGERY: dict[bytes, Mutation] = {
    b"\xff\xd8": jpeg_segments,
    b"\x89P": png_chunks,
    b"GI": gif_fields,
    b"BM": bmp_fields,
    b"II": tiff_tags,
    b"MM": tiff_tags,
    b"RI": webp_chunks,
}


def _put(data: bytearray, at: int, layout: str, value: int) -> bytes:
    """A number written over, where it fits."""
    size = struct.calcsize(layout)
    if at + size <= len(data):
        struct.pack_into(layout, data, at, value & (1 << 8 * size) - 1)
    return bytes(data)


def _place(dice: random.Random, data: bytes | bytearray) -> int:
    """Anywhere, half of the time in the header."""
    return dice.randrange(max(1, min(len(data), HEAD) if dice.random() < 0.5 else len(data)))


def _run(dice: random.Random, data: bytes) -> tuple[int, int]:
    at = _place(dice, data)
    return at, min(dice.choice((1, 2, 4, 16, 64, 512, 4096)), len(data) - at)
