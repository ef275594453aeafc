"""Formats told by content."""

import struct
import subprocess
import sys

import pytest
from PIL import Image

from models.formats import HEAD_BYTES, IMAGE_EXTENSIONS, RECOGNISED, SUPPORTED, sniff
from tests.pictures import picture, saved

FOREIGN = {
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf",
    "JP2": b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ",
    "JXL": b"\0\0\0\x0cJXL \r\n\x87\n",
    "JXR": b"II\xbc\x01\x08\0\0\0",
    "RAW": b"II*\0\x10\0\0\0CR\2\0",
    "PSD": b"8BPS\0\1",
    "XCF": b"gimp xcf v011\0",
    "ICO": struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, 1128, 22),
    "ICNS": b"icns\0\0\0\0",
    "SVG": b'<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "PDF": b"%PDF-1.7\n",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "WMF": b"\xd7\xcd\xc6\x9a\0\0",
    "PNM": b"P6\n16 16\n255\n",
    "QOI": b"qoif\0\0\0\x10",
    "DDS": b"DDS |\0\0\0",
    "EXR": b"v/1\x01\x02\0\0\0",
    "HDR": b"#?RADIANCE\n",
    "FITS": b"SIMPLE  =                    T",
    "DJVU": b"AT&TFORM\0\0\0\0DJVU",
}


@pytest.mark.parametrize("name", SUPPORTED)
def test_a_supported_format_is_known_by_its_first_bytes(name: str) -> None:
    assert sniff(saved(picture(16, 16), name)[:HEAD_BYTES]) == name


def test_every_recognised_format_has_an_example_here() -> None:
    assert set(FOREIGN) == set(RECOGNISED)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_format_that_is_not_decoded_is_still_named(name: str) -> None:
    assert sniff(FOREIGN[name] + bytes(200)) == name


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", id="generic brand"),
        pytest.param(b"\0\0\0\x1cftypavis\0\0\0\0avisavif", id="sequence"),
    ],
)
def test_an_avif_is_told_from_heic_by_its_compatible_brands(head: bytes) -> None:
    assert sniff(head) == "AVIF"


@pytest.mark.parametrize(
    ("order", "magic"), [("little", b"II*\0"), ("big", b"MM\0*"), ("little big", b"II+\0"), ("big big", b"MM\0+")]
)
def test_both_byte_orders_of_tiff_and_bigtiff_are_known(order: str, magic: bytes) -> None:
    assert sniff(magic + bytes(60)) == "TIFF"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"x",
        bytes(100),
        b"BM is how this letter begins, and it is no bitmap at all",
        b"Please find the pictures enclosed.",
        b"<!DOCTYPE html><html>",
        b'<?xml version="1.0"?><rss/>',
        b"PK\3\4",
        b"P",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
        b"\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ],
)
def test_what_is_no_picture_has_no_format(head: bytes) -> None:
    assert sniff(head) is None


@pytest.mark.parametrize("name", [*SUPPORTED, *FOREIGN])
def test_any_number_of_first_bytes_is_read_as_far_as_it_goes(name: str) -> None:
    data = saved(picture(16, 16), name) if name in SUPPORTED else FOREIGN[name]
    seen = {sniff(memoryview(data)[:size]) for size in range(min(len(data), HEAD_BYTES) + 1)}
    assert seen <= {None, name, "TIFF"}  # a camera's raw file begins like a TIFF
    assert name in seen or name == "SVG"  # which may need more than HEAD_BYTES


def test_extensions_are_lower_case_with_a_dot_and_cover_what_pillow_writes() -> None:
    assert all(extension == extension.lower() and extension[0] == "." for extension in IMAGE_EXTENSIONS)
    Image.init()
    written = {extension for extension, name in Image.EXTENSION.items() if name in (*SUPPORTED, "DIB")}
    assert written <= IMAGE_EXTENSIONS | {".tiff"}
    assert {".heic", ".avif", ".svg", ".nef", ".psd"} <= IMAGE_EXTENSIONS
    assert {".txt", ".pdf", ".mp4", ".zip"}.isdisjoint(IMAGE_EXTENSIONS)


def test_formats_needs_no_package_so_that_listing_a_folder_loads_no_decoder() -> None:
    code = "import sys, models.formats; print(sorted({'PIL', 'numpy', 'simplejpeg'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
