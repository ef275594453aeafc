"""Bytes of pictures, whole and damaged, that tests write to files; the same on each machine."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

JPEG_APP14_TRANSFORM = 11  # bytes behind "Adobe" in the marker, to its colour transform


def picture(width: int = 320, height: int = 240, seed: int = 0) -> Image.Image:
    """A colourful picture with soft shapes and a little noise, so that every format has something to pack."""
    noise = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (17 + 5 * band + seed)) + np.cos(y / (23 - 4 * band)) for band in range(3)]
    pixels = np.stack(waves, axis=-1) * 60 + 128 + noise.normal(0, 6, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The picture as a file of this kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(**options: Any) -> bytes:
    return saved(picture(), "JPEG", **options)


def jpeg_turned(orientation: int) -> bytes:
    """A JPEG whose EXIF says how to hold it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(exif=exif)


def jpeg_ycck() -> bytes:
    """A four-channel JPEG whose Adobe marker says YCCK: how print shops save."""
    data = bytearray(saved(picture().convert("CMYK"), "JPEG"))
    data[data.index(b"Adobe") + JPEG_APP14_TRANSFORM] = 2
    return bytes(data)


def jpeg_frame(*, marker: int = 0xC0, precision: int = 8, width: int | None = None, height: int | None = None) -> bytes:
    """A JPEG whose frame header is written over."""
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, precision
    old_height, old_width = struct.unpack_from(">HH", data, at + 5)
    size = old_height if height is None else height, old_width if width is None else width
    struct.pack_into(">HH", data, at + 5, *size)
    return bytes(data)


def jpeg_bad_table() -> bytes:
    """A JPEG whose first Huffman table promises more codes than there can be."""
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc4")
    data[at + 5 : at + 21] = b"\xff" * 16
    return bytes(data)


def png(**options: Any) -> bytes:
    return saved(picture(), "PNG", **options)


def png_by_hand(width: int, height: int, depth: int, color: int, data: bytes, interlace: int = 0) -> bytes:
    """A PNG from its header's numbers and its packed picture data."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def png_large(width: int, height: int) -> bytes:
    """A whole black-and-white PNG of any size, packed to next to nothing."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    rows = b"".join(packer.compress(row * 100) for _ in range(height // 100))
    return png_by_hand(width, height, 1, 0, rows + packer.flush())


def png_deep(color: int) -> bytes:
    """A PNG with 16 bits per channel: 0 is grey, 2 RGB, 6 RGBA."""
    channels = {0: 1, 2: 3, 6: 4}[color]
    rows = b"".join(b"\0" + bytes((x * y) & 0xFF for x in range(64 * channels * 2)) for y in range(48))
    return png_by_hand(64, 48, 16, color, zlib.compress(rows))


def png_interlaced() -> bytes:
    """An Adam7 PNG of 8×8 grey pixels: seven passes of these sizes."""
    passes = ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))
    rows = b"".join((b"\0" + bytes(range(width))) * height for width, height in passes)
    return png_by_hand(8, 8, 8, 0, zlib.compress(rows), interlace=1)


def png_wrong_checksum() -> bytes:
    """A PNG with one bit turned over in the middle of its picture data."""
    data = bytearray(png())
    data[len(data) // 2] ^= 1
    return bytes(data)


def animated(kind: str) -> bytes:
    """Three frames in one file."""
    frames = [picture(64, 48, seed).convert("RGB") for seed in range(3)]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)


def tiff_without_pages() -> bytes:
    """A TIFF whose directory would be far behind its end."""
    return b"II*\0" + struct.pack("<I", 1 << 20) + bytes(100)


def gif_claiming(width: int, height: int) -> bytes:
    data = bytearray(saved(picture(16, 16).convert("P"), "GIF"))
    struct.pack_into("<HH", data, 6, width, height)
    return bytes(data)


def bmp_claiming(width: int, height: int) -> bytes:
    data = bytearray(saved(picture(16, 16), "BMP"))
    struct.pack_into("<ii", data, 18, width, height)
    return bytes(data)


def bmp_in_runs(width: int, height: int) -> bytes:
    """A BMP of 8 bits whose run-length data says for each row that it ends: the rest is filled up."""
    body = b"\0\0" * height + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 2835, 2835, 256, 0)
    start = 54 + 1024
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + bytes(1024) + body


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
