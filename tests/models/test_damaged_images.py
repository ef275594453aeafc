"""Pictures that cannot be used: each has its code and a message for a person; no other exception comes out."""

import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models import images
from models.errors import ImageError
from models.formats import RECOGNISED
from models.headers import MAX_JPEG_SCANS
from models.images import MAX_PIXELS, load_picture
from models.manifest import Preprocessing
from tests import pictures
from tests.models.test_formats import FOREIGN
from tests.pictures import picture, saved

SMALL = Preprocessing(32, 32)
# Pillow says in warnings what is odd about a file; the product ignores them once, for the process.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def refusal(data: bytes, **options: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        load_picture(data, SMALL, **options)
    assert str(caught.value).endswith(".")
    return caught.value


def _alpha() -> Image.Image:
    image = picture(90, 60).convert("RGBA")
    image.putalpha(picture(90, 60, 1).convert("L"))
    return image


SMALL_PICTURE = picture(90, 60)
WHOLE: dict[str, bytes] = {
    "baseline.jpg": saved(SMALL_PICTURE, "JPEG"),
    "progressive.jpg": saved(SMALL_PICTURE, "JPEG", progressive=True),
    "cmyk.jpg": saved(SMALL_PICTURE.convert("CMYK"), "JPEG"),
    "grey.jpg": saved(SMALL_PICTURE.convert("L"), "JPEG"),
    "plain.png": saved(SMALL_PICTURE, "PNG"),
    "palette.png": saved(SMALL_PICTURE.quantize(32), "PNG"),
    "alpha.png": saved(_alpha(), "PNG"),
    "animated.png": pictures.animated("PNG"),
    "interlaced.png": pictures.png_interlaced(),
    "lossy.webp": saved(SMALL_PICTURE, "WEBP"),
    "lossless.webp": saved(_alpha(), "WEBP", lossless=True),
    "animated.webp": pictures.animated("WEBP"),
    "plain.gif": saved(SMALL_PICTURE, "GIF"),
    "animated.gif": pictures.animated("GIF"),
    "plain.bmp": saved(SMALL_PICTURE, "BMP"),
    "palette.bmp": saved(SMALL_PICTURE.quantize(32), "BMP"),
    "plain.tif": saved(SMALL_PICTURE, "TIFF"),
    "lzw.tif": saved(SMALL_PICTURE, "TIFF", compression="tiff_lzw"),
    "deflate.tif": saved(SMALL_PICTURE, "TIFF", compression="tiff_adobe_deflate"),
    "jpeg.tif": saved(SMALL_PICTURE, "TIFF", compression="jpeg"),
    "fax.tif": saved(SMALL_PICTURE.convert("1"), "TIFF", compression="group4"),
    "deep.tif": saved(Image.new("I;16", (90, 60), 999), "TIFF"),
}


def test_an_empty_file_is_empty() -> None:
    assert refusal(b"").code == "empty"


@pytest.mark.parametrize("data", [b"x", b"This is no picture.", bytes(5000), b"<html>404</html>", b"PK\3\4zip"])
def test_what_is_no_picture_is_called_so(data: bytes) -> None:
    error = refusal(data)
    assert error.code == "not_image"
    assert "JPEG, PNG" in str(error)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_format_that_is_not_read_is_named_with_what_is(name: str) -> None:
    error = refusal(FOREIGN[name] + bytes(200))
    assert error.code == "unsupported"
    assert RECOGNISED[name] in str(error)
    assert "JPEG, PNG, WEBP, BMP, GIF and TIFF" in str(error)


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_is_read(name: str) -> None:
    load_picture(WHOLE[name], SMALL)


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_ends_early_is_refused_as_truncated_wherever_it_ends(name: str) -> None:
    data = WHOLE[name]
    # No pixel is missing where a GIF lacks its trailer, a BMP its last row's padding, a TIFF the place of a next page.
    enough = len(data) - {".gif": 2, ".bmp": 2, ".tif": 4}.get(name[-4:], 0)
    sizes = {*range(12, min(enough, 80)), *range(80, enough, max(1, len(data) // 97)), enough - 1}
    codes = {size: refusal(data[:size]).code for size in sizes}
    assert {code for size, code in codes.items() if size >= 20} == {"truncated"}
    assert {code for size, code in codes.items() if size < 20} <= {"truncated", "not_image"}


@pytest.mark.parametrize("name", ["baseline.jpg", "progressive.jpg", "cmyk.jpg", "grey.jpg"])
def test_a_cut_jpeg_with_an_end_marker_put_back_is_truncated_too(name: str) -> None:
    data = WHOLE[name]
    for part in (0.5, 0.8, 0.97):
        # Where the cut falls into a header between two scans, the end marker makes that header a lie.
        code = refusal(data[: int(len(data) * part)] + b"\xff\xd9").code
        assert code == "truncated" or (name, part, code) == ("progressive.jpg", 0.5, "corrupt")


@pytest.mark.parametrize("name", ["baseline.jpg", "progressive.jpg", "cmyk.jpg"])
def test_a_jpeg_whose_tail_is_zeros_is_truncated(name: str) -> None:
    data = WHOLE[name]
    assert refusal(data[: len(data) // 2] + bytes(len(data) // 2)).code == "truncated"


def test_a_large_jpeg_that_is_scaled_while_decoding_is_checked_to_its_end() -> None:
    data = saved(picture(1600, 1200), "JPEG")
    assert refusal(data[:-2]).code == "truncated"
    assert refusal(data[: len(data) * 9 // 10]).code == "truncated"


@pytest.mark.parametrize("name", WHOLE)
def test_flipped_bytes_give_a_picture_or_an_image_error(name: str) -> None:
    """No other exception, whatever is in the file: half of the flips hit the header."""
    dice = random.Random(name)
    codes = set()
    for turn in range(120):
        data = bytearray(WHOLE[name])
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(min(len(data), 150) if turn % 2 else len(data))] = dice.randrange(256)
        try:
            load_picture(bytes(data), SMALL, max_pixels=1_000_000)
        except ImageError as error:
            codes.add(error.code)
    assert codes <= {"not_image", "unsupported", "truncated", "corrupt", "too_many_pixels"}
    assert codes, "no flip did any harm: they are not where they should be"


def _png_with_wrong_checksum_only() -> bytes:
    data = bytearray(WHOLE["plain.png"])
    data[-13] ^= 1  # IEND is the last 12 bytes, before it ends IDAT with its checksum
    return bytes(data)


def _tiff_with(tag: int, kind: int, new_tag: int | None = None) -> bytes:
    """A TIFF with one of its tags of another type, or another tag altogether."""
    data = bytearray(WHOLE["plain.tif"])
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    entry = next(e for e in range(at + 2, at + 2 + 12 * count, 12) if struct.unpack_from("<H", data, e) == (tag,))
    struct.pack_into("<HH", data, entry, new_tag or tag, kind)
    return bytes(data)


DAMAGED: dict[str, Callable[[], bytes]] = {
    "checksum of a PNG": pictures.png_wrong_checksum,
    "checksum of a PNG whose data is right": _png_with_wrong_checksum_only,
    "no compressed data in a PNG": lambda: pictures.png_by_hand(16, 16, 8, 2, b"these are no packed pixels"),
    "too little data in a PNG": lambda: pictures.png_by_hand(16, 16, 8, 2, zlib.compress(bytes(49))),
    "no such colour type": lambda: pictures.png_by_hand(4, 4, 8, 5, zlib.compress(bytes(20))),
    "no width in a JPEG": lambda: pictures.jpeg_frame(width=0),
    "no height in a JPEG": lambda: pictures.jpeg_frame(height=0),
    "Huffman table": pictures.jpeg_bad_table,
    "no picture in a JPEG": lambda: b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xd9",
    "segment of one byte": lambda: b"\xff\xd8\xff\xe0\x00\x01" + bytes(50),
    "scan before the frame": lambda: b"\xff\xd8\xff\xda\x00\x02" + bytes(50),
    "no palette in a PNG of palette": lambda: pictures.png_by_hand(4, 4, 8, 3, zlib.compress(bytes(20))),
    "place of a TIFF's pixels is text": lambda: _tiff_with(273, 2),
    "subfile type of a TIFF is text": lambda: _tiff_with(256, 2, 254),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_data_that_contradicts_its_format_is_corrupt(what: str) -> None:
    code = refusal(DAMAGED[what]()).code
    assert code == ("truncated" if what.startswith("too little") else "corrupt")


def test_a_jpeg_that_repeats_its_scans_without_end_is_corrupt_at_once() -> None:
    """Each scan is a pass over all pixels: a small file could keep a worker busy for minutes."""
    data = WHOLE["progressive.jpg"]
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    assert load_picture(data[:last] + scan * 5 + b"\xff\xd9", SMALL)
    assert refusal(data[:last] + scan * MAX_JPEG_SCANS + b"\xff\xd9").code == "corrupt"


def test_end_markers_inside_metadata_do_not_count_as_scans() -> None:
    comment = b"\xff\xda" * 30_000
    data = WHOLE["baseline.jpg"]
    load_picture(data[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + data[2:], SMALL)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(pictures.jpeg_frame(marker=0xC1, precision=12), id="12-bit JPEG"),
        pytest.param(pictures.jpeg_frame(marker=0xC3), id="lossless JPEG"),
        pytest.param(pictures.bmp_in_runs(54_000_000, 1), id="large BMP in runs"),
        pytest.param(saved(Image.new("F", (9, 9), 0.5), "TIFF"), id="floating point TIFF"),
        pytest.param(saved(Image.new("I", (9, 9), 5), "TIFF"), id="32-bit TIFF"),
        pytest.param(saved(SMALL_PICTURE, "TIFF", tiffinfo={0xC612: b"\1\4\0\0"}), id="DNG"),
    ],
)
def test_a_kind_of_a_known_format_that_is_not_read_is_unsupported(data: bytes) -> None:
    assert refusal(data).code == "unsupported"


# The pixel limit


@pytest.mark.parametrize("name", [name for name in WHOLE if name != "interlaced.png"])
def test_the_pixel_limit_is_the_number_given(name: str) -> None:
    size = load_picture(WHOLE[name], SMALL)
    count = size.width * size.height
    load_picture(WHOLE[name], SMALL, max_pixels=count)
    error = refusal(WHOLE[name], max_pixels=count - 1)
    assert error.code == "too_many_pixels"
    assert f"{count:,} pixels" in str(error)
    assert f"{count - 1:,}" in str(error)


BOMBS: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: pictures.png_by_hand(50_000, 50_000, 8, 2, zlib.compress(bytes(1 << 20))),
    "JPEG": lambda: pictures.jpeg_frame(width=65_500, height=65_500),
    "GIF": lambda: pictures.gif_claiming(65_535, 65_535),
    "BMP": lambda: pictures.bmp_claiming(100_000, 100_000),
    "BMP upside down": lambda: pictures.bmp_claiming(100_000, -100_000),
    "WEBP": lambda: _webp_claiming(1 << 14),
    "TIFF": lambda: _tiff_claiming(100_000),
    "160 megapixels that are there": lambda: pictures.png_large(16_000, 10_000),
}


def _webp_claiming(side: int) -> bytes:
    data = bytearray(WHOLE["animated.webp"])
    assert data[12:16] == b"VP8X"
    data[24:30] = (side - 1).to_bytes(3, "little") * 2
    return bytes(data)


def _tiff_claiming(side: int) -> bytes:
    data = bytearray(WHOLE["plain.tif"])
    (at,) = struct.unpack_from("<I", data, 4)
    for entry in range(at + 2, at + 26, 12):  # width and height are the first two tags
        struct.pack_into("<HII", data, entry + 2, 4, 1, side)
    return bytes(data)


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_by_its_header(kind: str) -> None:
    assert refusal(BOMBS[kind]()).code == "too_many_pixels"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_no_memory_is_taken_for_a_bomb() -> None:
    """All bombs in a process of their own: any of them, decoded, would take hundreds of megabytes."""
    code = (
        "from tests.models import test_damaged_images as t\n"
        "def peak():\n"
        "    lines = open('/proc/self/status').readlines()\n"
        "    return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM'))\n"
        "bombs = [make() for make in t.BOMBS.values()]\n"
        "before = peak()\n"
        "codes = set()\n"
        "for data in bombs:\n"
        "    try: t.load_picture(data, t.SMALL)\n"
        "    except t.ImageError as error: codes.add(error.code)\n"
        "print(codes, peak() - before)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    codes, grown = said.rsplit(maxsplit=1)
    assert codes == "{'too_many_pixels'}"
    assert int(grown) < 60_000  # kB; the largest of the files has 2 MB


def test_pillows_own_limit_neither_warns_nor_refuses() -> None:
    """Between its limit and ours (89 and 100 million pixels) Pillow would warn, and warnings are errors here."""
    assert MAX_PIXELS == 100_000_000
    data = saved(Image.new("1", (9_600, 10_000)), "TIFF", compression="group4")
    assert load_picture(data, SMALL).width == 9_600
    assert refusal(data, max_pixels=95_999_999).code == "too_many_pixels"


def test_the_limit_of_the_default_argument_is_the_documented_one() -> None:
    assert images.load_picture.__defaults__ == (MAX_PIXELS,)


@pytest.mark.parametrize(
    ("depth", "color"), [(1, 0), (8, 0), (16, 0), (8, 2), (16, 2), (4, 3), (8, 4), (8, 6), (16, 6)]
)
@pytest.mark.parametrize("interlace", [0, 1])
def test_a_black_png_is_told_from_one_whose_data_stops_early(depth: int, color: int, interlace: int) -> None:
    """Pillow shows both as black: only the amount of data tells them apart."""
    width, height = 13, 11
    bits = depth * {2: 3, 4: 2, 6: 4}.get(color, 1)
    steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    count = 0
    for x, y, right, down in steps if interlace else [(0, 0, 1, 1)]:
        rows, columns = len(range(y, height, down)), len(range(x, width, right))
        count += rows * (1 + -(-columns * bits // 8)) if columns else 0
    palette = struct.pack(">I", 3) + b"PLTE\1\2\3" + struct.pack(">I", zlib.crc32(b"PLTE\1\2\3"))

    def png(size: int) -> bytes:
        data = pictures.png_by_hand(width, height, depth, color, zlib.compress(bytes(size)), interlace)
        return data[:33] + palette + data[33:] if color == 3 else data

    load_picture(png(count), SMALL)
    for size in (count - 1, count // 2, 0):
        assert refusal(png(size)).code == "truncated"
