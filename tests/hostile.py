"""Writes a folder of everything that goes wrong with image files, and of what looks wrong but is fine.

Each file's name says what it is. `write_hostile` returns the outcome that Pixmill promises for each.
"""

import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from PIL import Image

from tests import pictures
from tests.pictures import animated, jpeg, picture, png, saved

OK = "ok"
TOO_LARGE_BYTES = 300 << 20  # above the reader's limit; written as one hole, so it takes no room on the disk


def write_hostile(folder: Path, *, absent: bool = False) -> dict[str, str]:
    """Write more than 100 kinds of files; the outcome of each, by its name relative to the folder (os.fsdecode).

    An outcome is an item's error code or "ok". absent: also promise a file that is not there. One more picture is
    written beside the folder, for a link that leads out of it. What the platform or the user cannot make is left out.
    """
    outcomes: dict[str, str] = {}
    for name, (code, make) in {**_fine(), **_cut(), **_broken(), **_too_large(), **_foreign(), **_no_images()}.items():
        (folder / name).write_bytes(make())
        outcomes[name] = code
    outcomes |= dict(_named_oddly(folder))
    outcomes |= dict(_not_plain(folder))
    outcomes |= dict(_linked(folder))
    return outcomes | ({"absent.jpg": "missing"} if absent else {})


_Files = dict[str, tuple[str, Callable[[], bytes]]]


def _fine() -> _Files:
    """Unusual, but pictures."""
    alpha = picture().convert("RGBA")
    alpha.putalpha(picture(seed=1).convert("L"))
    makers: dict[str, Callable[[], bytes]] = {
        "baseline.jpg": jpeg,
        "progressive.jpg": lambda: jpeg(progressive=True),
        "grey.jpg": lambda: saved(picture().convert("L"), "JPEG"),
        "cmyk.jpg": lambda: saved(picture().convert("CMYK"), "JPEG"),
        "ycck.jpg": pictures.jpeg_ycck,
        "full_colour.jpg": lambda: jpeg(subsampling=0, quality=100),
        "broken_profile.jpg": lambda: jpeg(icc_profile=b"no colour profile"),
        "broken_exif.jpg": lambda: jpeg(exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"),
        "trailing_garbage.jpg": lambda: jpeg() + b"\0garbage\xff" * 100,
        "with_a_second_picture.jpg": lambda: jpeg() + jpeg(),
        "one_pixel.jpg": lambda: saved(picture(1, 1), "JPEG"),
        "one_line.jpg": lambda: saved(picture(5000, 1), "JPEG"),
        "one_column.png": lambda: saved(picture(1, 5000), "PNG"),
        **{f"exif_{way}.jpg": partial(pictures.jpeg_turned, way) for way in range(1, 9)},
        "grey_16_bit.png": lambda: pictures.png_deep(0),
        "rgb_16_bit.png": lambda: pictures.png_deep(2),
        "rgba_16_bit.png": lambda: pictures.png_deep(6),
        "palette_with_alpha.png": lambda: saved(alpha.quantize(64), "PNG"),
        "rgba.png": lambda: saved(alpha, "PNG"),
        "grey_with_alpha.png": lambda: saved(alpha.convert("LA"), "PNG"),
        "one_bit.png": lambda: saved(picture().convert("1"), "PNG"),
        "interlaced.png": pictures.png_interlaced,
        "animated.png": lambda: animated("PNG"),
        "animated.gif": lambda: animated("GIF"),
        "animated.webp": lambda: animated("WEBP"),
        "still.gif": lambda: saved(picture().convert("P"), "GIF"),
        "lossy.webp": lambda: saved(picture(), "WEBP"),
        "lossless.webp": lambda: saved(alpha, "WEBP", lossless=True),
        "plain.bmp": lambda: saved(picture(), "BMP"),
        "plain.tif": lambda: saved(picture(), "TIFF"),
        "packed.tiff": lambda: saved(picture(), "TIFF", compression="tiff_lzw"),
        "many_pages.tiff": lambda: animated("TIFF"),
        "cmyk.tiff": lambda: saved(picture().convert("CMYK"), "TIFF"),
        "png_named.jpg": png,
        "jpeg_named.png": jpeg,
        "webp_named.jpg": lambda: saved(picture(), "WEBP"),
        "jpeg_named.txt": jpeg,
        "jpeg_without_extension": jpeg,
    }
    return {name: (OK, make) for name, make in makers.items()}


def _cut() -> _Files:
    """Copies that broke off."""
    whole = {
        "jpg": jpeg(),
        "png": png(),
        "gif": saved(picture().convert("P"), "GIF"),
        "bmp": saved(picture(), "BMP"),
        "webp": saved(picture(), "WEBP"),
        "tif": saved(picture(), "TIFF"),
    }
    progressive = jpeg(progressive=True)
    cuts = {f"half.{kind}": data[: len(data) // 2] for kind, data in whole.items()}
    cuts |= {
        "magic_only.jpg": whole["jpg"][:3],
        "header_only.jpg": whole["jpg"][:200],
        "tenth.jpg": whole["jpg"][: len(whole["jpg"]) // 10],
        "most.jpg": whole["jpg"][: len(whole["jpg"]) * 95 // 100],
        "no_end_marker.jpg": whole["jpg"][:-2],
        "half_progressive.jpg": progressive[: len(progressive) // 2],
        "magic_only.png": whole["png"][:8],
        "header_only.png": whole["png"][:33],
        "tenth.png": whole["png"][: len(whole["png"]) // 10],
        "no_end_chunk.png": whole["png"][:-12],
        "header_only.gif": whole["gif"][:13],
        "header_only.webp": whole["webp"][:20],
        "header_only.tif": whole["tif"][:8],
    }
    return {f"cut_{name}": ("truncated", partial(bytes, data)) for name, data in cuts.items()}


def _broken() -> _Files:
    """Bytes that contradict their own format."""
    makers: dict[str, Callable[[], bytes]] = {
        "checksum.png": pictures.png_wrong_checksum,
        "no_width.png": lambda: pictures.png_by_hand(0, 10, 8, 2, zlib.compress(b"")),
        "no_such_colour.png": lambda: pictures.png_by_hand(4, 4, 8, 5, zlib.compress(bytes(20))),
        "no_zlib.png": lambda: pictures.png_by_hand(16, 16, 8, 2, b"these are no packed pixels"),
        "no_height.jpg": lambda: pictures.jpeg_frame(height=0),
        "no_width.jpg": lambda: pictures.jpeg_frame(width=0),
        "table.jpg": pictures.jpeg_bad_table,
        "no_picture.jpg": lambda: b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xd9",
    }
    return {f"broken_{name}": ("corrupt", make) for name, make in makers.items()}


def _too_large() -> _Files:
    """More pixels than the limit, some of them really there."""
    makers: dict[str, Callable[[], bytes]] = {
        "160_megapixels.png": lambda: pictures.png_large(16_000, 10_000),
        "bomb.png": lambda: pictures.png_by_hand(50_000, 50_000, 8, 2, zlib.compress(bytes(1 << 20))),
        "bomb.jpg": lambda: pictures.jpeg_frame(width=65_500, height=65_500),
        "bomb.gif": lambda: pictures.gif_claiming(65_535, 65_535),
        "bomb.bmp": lambda: pictures.bmp_claiming(100_000, 100_000),
    }
    return {f"large_{name}": ("too_many_pixels", make) for name, make in makers.items()}


def _foreign() -> _Files:
    """Pictures and documents of formats that are known and not read."""
    svg = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>\n'
    makers: dict[str, Callable[[], bytes]] = {
        "photo.heic": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
        "photo.avif": lambda: b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(200),
        "heic_named.jpg": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
        "drawing.svg": lambda: svg,
        "svg_named.png": lambda: svg,
        "layers.psd": lambda: b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x10\0\0\0\x10\0\x08\0\3" + bytes(100),
        "pdf_named.jpg": lambda: b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF\n",
        "waves.jp2": lambda: b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 " + bytes(100),
        "icon.ico": lambda: saved(picture(16, 16), "ICO"),
        "photo.jxl": lambda: b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100),
        "raw.cr2": lambda: b"II*\0\x10\0\0\0CR\2\0" + bytes(100),
        "plain.ppm": lambda: saved(picture(16, 16), "PPM"),
        "12_bit.jpg": lambda: pictures.jpeg_frame(marker=0xC1, precision=12),
        "lossless.jpg": lambda: pictures.jpeg_frame(marker=0xC3),
        "floating_point.tif": lambda: saved(Image.new("F", (9, 9), 0.5), "TIFF"),
    }
    return {f"foreign_{name}": ("unsupported", make) for name, make in makers.items()}


def _no_images() -> _Files:
    """Files that only bear a picture's name."""
    makers = {
        "text.jpg": b"This is a shopping list, not a picture.\n",
        "web_page.jpg": b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n",
        "one_byte.png": b"x",
        "zeros.jpg": bytes(10_000),
        "zip.jpg": b"PK\3\4" + bytes(100),
        "film.jpg": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(100),
        "pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n",
        "json.png": b'{"error": "no such picture"}\n',
    }
    files: _Files = {f"no_{name}": ("not_image", partial(bytes, data)) for name, data in makers.items()}
    return files | {"empty.jpg": ("empty", bytes), "empty.png": ("empty", bytes)}


def _named_oddly(folder: Path) -> Iterator[tuple[str, str]]:
    """Good pictures under names that trip shells, logs, terminals, tables and databases."""
    data = jpeg()
    names: list[bytes] = [
        b"line\nbreak.jpg",
        b"tab\there.jpg",
        b" space in front.jpg",
        b"space behind.jpg ",
        b"-rf.jpg",
        b"=1+1.jpg",
        b"'quote\".jpg",
        b"percent %s {0}.jpg",
        b"back\\slash.jpg",
        b"\x1b[31mred.jpg",
        b"caf\xe9.jpg",  # Latin-1, no UTF-8
        b"\xff\xfe.jpg",
        "bäckerei 写真 😀.jpg".encode(),
        "cafe\u0301.jpg".encode(),  # the accent as a character of its own
        "\u202egpj.exe.jpg".encode(),  # right to left
        b"UPPER.JPEG",
        b"l" * 251 + b".jpg",
        b"deep/er/and/deep/er/inside.jpg",
        b"caf\xe9 folder/inside.jpg",
    ]
    for name in names:
        path = folder / os.fsdecode(name)
        with suppress(OSError):  # a file system that takes only UTF-8
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            yield os.fsdecode(name), OK


def _not_plain(folder: Path) -> Iterator[tuple[str, str]]:
    """What has a picture's name and is no file, or none that can be read."""
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jpg" / "inside.jpg").write_bytes(jpeg())
    yield "folder.jpg", "not_a_file"
    yield "folder.jpg/inside.jpg", OK
    os.mkfifo(folder / "pipe.jpg")
    yield "pipe.jpg", "not_a_file"
    with suppress(OSError):
        os.mknod(folder / "socket.jpg", stat.S_IFSOCK | 0o600)
        yield "socket.jpg", "not_a_file"
    with suppress(OSError):  # only the administrator, and not in every container
        os.mknod(folder / "device.jpg", stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero
        yield "device.jpg", "not_a_file"
    with (folder / "too_large.jpg").open("wb") as file:
        file.write(jpeg())
        file.truncate(TOO_LARGE_BYTES)
    yield "too_large.jpg", "too_large"
    if os.geteuid() != 0:  # the administrator may read everything
        (folder / "locked.jpg").write_bytes(jpeg())
        (folder / "locked.jpg").chmod(0)
        yield "locked.jpg", "permission"


def _linked(folder: Path) -> Iterator[tuple[str, str]]:
    outside = folder.parent / f"{folder.name}-outside.jpg"
    outside.write_bytes(jpeg())
    links = {
        "link_inside.jpg": ("baseline.jpg", OK),
        "link_to_link.jpg": ("link_inside.jpg", OK),
        "link_to_dev_zero.jpg": ("/dev/zero", "not_a_file"),
        "link_broken.jpg": ("nothing_here.jpg", "broken_link"),
        "link_to_itself.jpg": ("link_to_itself.jpg", "broken_link"),
        "link_circle_a.jpg": ("link_circle_b.jpg", "broken_link"),
        "link_circle_b.jpg": ("link_circle_a.jpg", "broken_link"),
        "link_outside.jpg": (f"../{outside.name}", "outside_root"),
        "link_outside_absolute.jpg": (str(outside), "outside_root"),
    }
    for name, (target, code) in links.items():
        (folder / name).symlink_to(target)
        yield name, code
    (folder / "hard_link.jpg").hardlink_to(folder / "baseline.jpg")
    yield "hard_link.jpg", OK
