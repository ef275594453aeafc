"""The whole pictures that mutants are made of: every variant of every format that Pixmill reads, small, and real ones.

Made when asked for, the same bytes on each machine that has the same Pillow.
"""

import io
import struct
import tarfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from PIL import Image, ImageCms

from tests import pictures
from tests.pictures import animated, picture, saved

WIDTH, HEIGHT = 90, 61  # odd, so that no row, tile or block fits exactly
REAL_FILES = 60  # of the shared photographs; all of them would be as many of one kind
TILE = 16


def originals(shared: Path | None = None) -> Mapping[str, bytes]:
    """Whole files by name. shared: the folder of real data, whose photographs come along where they are there."""
    made = {name: make() for name, make in {**_jpegs(), **_pngs(), **_webps(), **_gifs_and_bmps(), **_tiffs()}.items()}
    return made | (_photographs(shared / "imagenet200.tar") if shared is not None else {})


_Makers = dict[str, Callable[[], bytes]]


def _small(seed: int = 0) -> Image.Image:
    return picture(WIDTH, HEIGHT, seed)


def _alpha() -> Image.Image:
    image = _small().convert("RGBA")
    image.putalpha(_small(1).convert("L"))
    return image


def _profile() -> bytes:
    return bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x9003] = orientation, "a camera", "2026:01:01 00:00:00"
    return exif


def _jpegs() -> _Makers:
    make = partial(saved, _small(), "JPEG")
    return {
        "baseline.jpg": make,
        "progressive.jpg": partial(make, progressive=True),
        "optimised.jpg": partial(make, optimize=True, quality=95, subsampling=0),
        "rough.jpg": partial(make, quality=5),
        "restarts.jpg": partial(make, restart_marker_blocks=3),
        "half_colour.jpg": partial(make, subsampling=1),
        "grey.jpg": lambda: saved(_small().convert("L"), "JPEG"),
        "grey_progressive.jpg": lambda: saved(_small().convert("L"), "JPEG", progressive=True),
        "cmyk.jpg": lambda: saved(_small().convert("CMYK"), "JPEG"),
        "ycck.jpg": pictures.jpeg_ycck,
        "rgb_stored.jpg": partial(make, keep_rgb=True),
        "profile.jpg": partial(make, icc_profile=_profile()),
        "commented.jpg": partial(make, comment=b"a remark", dpi=(300, 300)),
        **{f"turned_{way}.jpg": partial(make, exif=_exif(way)) for way in (3, 6)},
        "large.jpg": lambda: saved(picture(1400, 1050), "JPEG"),
        "large_progressive.jpg": lambda: saved(picture(1400, 1050), "JPEG", progressive=True),
    }


def _pngs() -> _Makers:
    return {
        "rgb.png": lambda: saved(_small(), "PNG"),
        "grey.png": lambda: saved(_small().convert("L"), "PNG"),
        "one_bit.png": lambda: saved(_small().convert("1"), "PNG"),
        "palette.png": lambda: saved(_small().quantize(60), "PNG"),
        "palette_4_bit.png": lambda: saved(_small().quantize(13), "PNG", bits=4),
        "palette_alpha.png": lambda: saved(_alpha().quantize(60), "PNG"),
        "alpha.png": lambda: saved(_alpha(), "PNG"),
        "grey_alpha.png": lambda: saved(_alpha().convert("LA"), "PNG"),
        "colour_key.png": lambda: saved(_small(), "PNG", transparency=(9, 9, 9)),
        "grey_16.png": lambda: pictures.png_deep(0),
        "rgb_16.png": lambda: pictures.png_deep(2),
        "rgba_16.png": lambda: pictures.png_deep(6),
        "interlaced.png": pictures.png_interlaced,
        "interlaced_rgb.png": _png_interlaced_rgb,
        "animated.png": lambda: animated("PNG"),
        "profile_and_exif.png": lambda: saved(_small(), "PNG", icc_profile=_profile(), exif=_exif(8), dpi=(72, 72)),
    }


def _png_interlaced_rgb() -> bytes:
    """Adam7 in colour, 33 × 29 pixels."""
    rows = b""
    for x, y, right, down in (
        *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
        *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
    ):
        columns, lines = -(-(33 - x) // right), -(-(29 - y) // down)
        rows += b"".join(b"\1" + bytes((line * 3 + at) & 7 for at in range(3 * columns)) for line in range(lines))
    return pictures.png_by_hand(33, 29, 8, 2, zlib.compress(rows), interlace=1)


def _webps() -> _Makers:
    return {
        "lossy.webp": lambda: saved(_small(), "WEBP"),
        "lossy_alpha.webp": lambda: saved(_alpha(), "WEBP", quality=60),
        "lossless.webp": lambda: saved(_small(), "WEBP", lossless=True),
        "lossless_alpha.webp": lambda: saved(_alpha(), "WEBP", lossless=True),
        "lossless_palette.webp": lambda: saved(_small().quantize(7).convert("RGB"), "WEBP", lossless=True),
        "animated.webp": lambda: animated("WEBP"),
        "profile_and_exif.webp": lambda: saved(_small(), "WEBP", icc_profile=_profile(), exif=_exif(5)),
    }


def _gifs_and_bmps() -> _Makers:
    return {
        "plain.gif": lambda: saved(_small().quantize(50), "GIF", interlace=0),
        "interlaced.gif": lambda: saved(_small().quantize(256), "GIF", interlace=1),
        "grey.gif": lambda: saved(_small().convert("L"), "GIF"),
        "see_through.gif": lambda: saved(_small().quantize(8), "GIF", transparency=3, comment=b"a remark"),
        "animated.gif": lambda: animated("GIF"),
        "rgb.bmp": lambda: saved(_small(), "BMP"),
        "rgba.bmp": lambda: saved(_alpha(), "BMP"),
        "palette.bmp": lambda: saved(_small().quantize(60), "BMP"),
        "one_bit.bmp": lambda: saved(_small().convert("1"), "BMP"),
        "run_length_8.bmp": partial(_bmp_run_length, 8),
        "run_length_4.bmp": partial(_bmp_run_length, 4),
        "old_header.bmp": _bmp_old_header,
    }


def _bmp_run_length(bits: int) -> bytes:
    """40 × 20 pixels in runs, with literal runs and jumps, which Pillow reads and does not write."""
    row = b"\x14\x05" + b"\x00\x04\x01\x02\x03\x04"[: 4 if bits == 4 else 6] + b"\x10\x07" + b"\x00\x00"
    body = row * 9 + b"\x00\x02\x03\x01" + row * 10 + b"\x00\x01"
    palette = bytes(range(64)) if bits == 4 else bytes(range(256)) * 4
    compression = 1 if bits == 8 else 2
    offset = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, 40, 20, 1, bits, compression, len(body), 2835, 2835, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + header + palette + body


def _bmp_old_header() -> bytes:
    """OS/2's first header, of 12 bytes."""
    body = bytes(range(96)) * 8  # 32 × 8 pixels of 24 bits
    return b"BM" + struct.pack("<IHHI", 26 + len(body), 0, 0, 26) + struct.pack("<IHHHH", 12, 32, 8, 1, 24) + body


def _tiffs() -> _Makers:
    make = partial(saved, _small(), "TIFF")
    packed = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    return {
        "plain.tif": make,
        **{f"{name.removeprefix('tiff_')}.tif": partial(make, compression=name) for name in packed},
        "predicted.tif": partial(make, compression="tiff_lzw", tiffinfo={317: 2}),
        "fax_3.tif": lambda: saved(_small().convert("1"), "TIFF", compression="group3"),
        "fax_4.tif": lambda: saved(_small().convert("1"), "TIFF", compression="group4"),
        "grey.tif": lambda: saved(_small().convert("L"), "TIFF"),
        "grey_16.tif": lambda: saved(Image.new("I;16", (WIDTH, HEIGHT), 999), "TIFF"),
        "grey_16_motorola.tif": lambda: saved(Image.new("I;16B", (WIDTH, HEIGHT), 999), "TIFF"),
        "grey_32.tif": lambda: saved(Image.new("F", (WIDTH, HEIGHT), 0.5), "TIFF"),
        "palette.tif": lambda: saved(_small().quantize(60), "TIFF"),
        "alpha.tif": lambda: saved(_alpha(), "TIFF", compression="tiff_lzw"),
        "cmyk.tif": lambda: saved(_small().convert("CMYK"), "TIFF", compression="tiff_adobe_deflate"),
        "lab.tif": lambda: saved(_small().convert("LAB"), "TIFF"),
        "ycbcr.tif": lambda: saved(_small().convert("YCbCr"), "TIFF"),
        "strips.tif": partial(make, compression="tiff_lzw", strip_size=1000),
        "big.tif": partial(make, big_tiff=True),
        "pages.tif": lambda: animated("TIFF"),
        "turned.tif": partial(make, exif=_exif(6)),
        "profile.tif": partial(make, icc_profile=_profile()),
        "tiled.tif": partial(_tiff_tiled, packed=False),
        "tiled_deflate.tif": partial(_tiff_tiled, packed=True),
    }


def _tiff_tiled(packed: bool) -> bytes:
    """3 × 2 tiles of grey, which Pillow reads and does not write."""
    across, down = 3, 2
    tiles = [bytes((number * 40 + at) & 0xFF for at in range(TILE * TILE)) for number in range(across * down)]
    tiles = [zlib.compress(tile) for tile in tiles] if packed else tiles
    count, directory = len(tiles), 8
    lists = directory + 2 + 12 * 10 + 4
    data_at = lists + 8 * count
    places = [data_at + sum(map(len, tiles[:number])) for number in range(count)]
    tags = (
        *((256, 4, 1, across * TILE - 5), (257, 4, 1, down * TILE - 3), (258, 3, 1, 8)),
        *((259, 3, 1, 8 if packed else 1), (262, 3, 1, 1), (277, 3, 1, 1), (322, 3, 1, TILE), (323, 3, 1, TILE)),
        *((324, 4, count, lists), (325, 4, count, lists + 4 * count)),
    )
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    numbers = struct.pack(f"<{count}I", *places) + struct.pack(f"<{count}I", *map(len, tiles))
    head = b"II*\0" + struct.pack("<I", directory) + struct.pack("<H", len(tags))
    return head + entries + bytes(4) + numbers + b"".join(tiles)


def _photographs(archive: Path) -> dict[str, bytes]:
    """Some of the shared photographs, the smallest first; none where the archive is not there."""
    if not archive.is_file():
        return {}
    with tarfile.open(archive) as tar:
        members = sorted((info for info in tar if info.name.endswith(".JPEG")), key=lambda info: (info.size, info.name))
        files = [tar.extractfile(info) or io.BytesIO() for info in members[:REAL_FILES]]
        return {f"photograph_{number:02}.jpg": file.read() for number, file in enumerate(files)}
