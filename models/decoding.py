"""Decodes the bytes of a picture into a Pillow image of mode RGB, L or RGBA, or says why that cannot be.

JPEG goes through simplejpeg, scaled down while decoding where asked; all else, and the JPEG that it refuses, through
Pillow. Pillow's format classes are used directly: they read the header without allocating pixels, know no other
formats, and leave the pixel limit to us.
"""

import io
import struct
import warnings
import zlib
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from models.completeness import check_gif, check_png, check_tiff, png_pixels_missing
from models.errors import ImageError
from models.formats import SUPPORTED
from models.headers import JpegHeader, corrupt, exif_orientation, picture_size, truncated

ACCEPTED = f"Accepted are {', '.join(SUPPORTED[:-1])} and {SUPPORTED[-1]}."

# Set once, for the process: the pixel limit is checked here, from the header, for every decoder. Pillow's own limit
# would warn between one and two times its value, and its parsers warn of damaged metadata that does not touch the
# pixels.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_CLASSES: dict[str, type[ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "TIFF": TiffImageFile,
}

# Pillow reads only as far as the first picture's pixels, and PNG's checksums not at all.
_WHOLE = {"PNG": check_png, "GIF": check_gif, "TIFF": check_tiff}

# What Pillow's parsers raise on bytes that contradict the format. It promises no list: 166,000 damaged files gave half
# of these, its source shows the others. MemoryError is not among them: it is no fault of the file.
_BROKEN = (
    AssertionError,
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)
_UNSUPPORTED_WORDS = (
    "unsupported",
    "not supported",
    "not yet supported",
    "unknown pixel mode",
    "cannot handle",
    "unknown data",
)
_TRUNCATED_WORDS = (
    "truncated",
    "premature end",
    "not enough image data",
    "unexpected end",
    "no more images",
    "end of file",
)

# libjpeg's warnings after which every pixel is still right; after any other, the picture shown would be partly
# invented.
_HARMLESS_JPEG_WARNINGS = (
    "extraneous bytes before marker 0xd9",
    "adobe color transform",
    "jfif revision",
    "icc marker",
)

MAX_RUN_LENGTH_PIXELS = 10_000_000  # 3 s; 314 bytes that claimed 54 million took half a minute

_RAW_TAGS = (0xC612, 0xC614)  # DNGVersion, UniqueCameraModel
_SUBFILE_TYPE, _BITS, _PHOTOMETRIC, _SUB_IFDS = 254, 258, 262, 330
_STRIPS, _TILES = (273, 279), (324, 325)  # offsets, byte counts


class Decoded(NamedTuple):
    """A decoded picture as stored: not yet turned upright. `orientation` is EXIF's 1–8."""

    image: Image.Image
    orientation: int


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise ImageError "too_many_pixels" above the limit."""
    if width * height > max_pixels:
        message = f"{width:,} × {height:,} are {width * height:,} pixels; the limit is {max_pixels:,}. Make it smaller."
        raise ImageError("too_many_pixels", message)


def decode_jpeg(data: bytes, header: JpegHeader, grey: bool, eighths: int) -> Image.Image:
    """Decode a JPEG to RGB or L at `eighths`/8 of its size (1, 2, 4 or 8), rounded up."""
    if header.components not in (1, 3, 4):
        raise ImageError("unsupported", f"This JPEG has {header.components} channels: 1, 3 or 4 were expected.")
    mode = "CMYK" if header.components == 4 else "GRAY" if grey or header.components == 1 else "RGB"
    width, height = (-(-side * eighths // 8) for side in (header.width, header.height))
    try:
        pixels = simplejpeg.decode_jpeg(data, mode, min_width=width, min_height=height, strict=True)
    except ValueError as error:
        return _second_opinion(data, str(error), grey)
    if mode == "CMYK":  # stored inverted, as Adobe does and everyone follows
        return Image.fromarray(255 - pixels, "CMYK").convert("L" if grey else "RGB")
    return Image.fromarray(pixels[:, :, 0] if mode == "GRAY" else pixels)


def _second_opinion(data: bytes, complaint: str, grey: bool) -> Image.Image:
    """simplejpeg raises libjpeg's first warning. Where that is harmless, Pillow decodes; else it is the verdict."""
    words = complaint.lower()
    if "premature end" in words:
        raise truncated("JPEG")
    if "corrupt jpeg data" in words and not any(harmless in words for harmless in _HARMLESS_JPEG_WARNINGS):
        raise corrupt("JPEG", complaint.removeprefix("Corrupt JPEG data: "))
    image = _load("JPEG", _open("JPEG", data))
    return image.convert("L" if grey else "RGB")


def decode_other(name: str, data: bytes, max_pixels: int) -> Decoded:
    """Decode the first frame or page of a PNG, WEBP, BMP, GIF or TIFF to RGB, L or RGBA."""
    size = picture_size(name, data)
    if size is not None:
        check_pixels(*size, max_pixels)
    if check := _WHOLE.get(name):
        check(data)
    image = _open(name, data)
    check_pixels(*image.size, max_pixels)
    if name == "BMP":
        _check_run_lengths(image)
    try:
        depth, inverted = _check_tiff(image, len(data)) if isinstance(image, TiffImageFile) else (16, False)
        _load(name, image)
        if name == "PNG" and _ends_black(image) and png_pixels_missing(data):
            raise truncated(name)
        return Decoded(_to_8_bit(image, depth, inverted), _orientation(image))
    except _BROKEN as error:
        raise corrupt(name, error) from error


def _open(name: str, data: bytes) -> ImageFile:
    """Read the header with Pillow's class for this format."""
    try:
        return _CLASSES[name](io.BytesIO(data))
    except _BROKEN as error:
        raise _explain(name, error) from error


def _load(name: str, image: ImageFile) -> ImageFile:
    """Decode every pixel."""
    try:
        image.load()
    except _BROKEN as error:
        raise _explain(name, error) from error
    return image


def _explain(name: str, error: Exception) -> ImageError:
    """Which of our codes a Pillow error is."""
    words = str(error).lower()
    if any(word in words for word in _UNSUPPORTED_WORDS):
        return ImageError(
            "unsupported", f"This kind of {name} is not supported ({error}). Save it as an 8-bit PNG or JPEG."
        )
    if isinstance(error, EOFError) or any(word in words for word in _TRUNCATED_WORDS):
        return truncated(name)
    return corrupt(name, error)


def _check_run_lengths(image: ImageFile) -> None:
    """Refuse a large BMP that is packed in runs: Pillow fills its rows pixel by pixel, in Python."""
    if image.width * image.height > MAX_RUN_LENGTH_PIXELS and any(tile.codec_name == "bmp_rle" for tile in image.tile):
        message = (
            f"A BMP packed in runs may have {MAX_RUN_LENGTH_PIXELS:,} pixels; this one has {image.width:,} × "
            f"{image.height:,}. Save it as a PNG."
        )
        raise ImageError("unsupported", message)


def _check_tiff(image: TiffImageFile, size_bytes: int) -> tuple[int, bool]:
    """Refuse camera raw files (their first page is but a thumbnail) and files that end before their pixels do.

    Returns the bits of the first channel, and whether black is stored as the highest value. A damaged tag may be of
    any type: the caller takes what comes of that for damage.
    """
    tags = image.tag_v2
    if any(tag in tags for tag in _RAW_TAGS) or (tags.get(_SUBFILE_TYPE, 0) & 1 and _SUB_IFDS in tags):
        raise ImageError("unsupported", f"This is a camera raw file: develop it to JPEG first. {ACCEPTED}")
    for offsets, counts in (_STRIPS, _TILES):
        for offset, count in zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False):
            if offset + count > size_bytes:
                raise truncated("TIFF")
    return tags.get(_BITS, (16,))[0], tags.get(_PHOTOMETRIC) == 0


def _ends_black(image: Image.Image) -> bool:
    """Whether the last row is all zeros, as it is where the data ended before it."""
    return not image.crop((0, image.height - 1, image.width, image.height)).tobytes().strip(b"\0")


def _to_8_bit(image: Image.Image, depth: int, inverted: bool) -> Image.Image:
    """Any mode to RGB, L or RGBA. 16-bit grey keeps its high byte, as Pillow does for 16-bit colour."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16) >> (depth - 8)
        return Image.fromarray((255 - values if inverted else values).astype(np.uint8))
    if image.mode in ("I", "F", "LAB", "HSV"):
        message = (
            f"Pixels of mode {image.mode} have no agreed range. Save it as an 8-bit or 16-bit grey or RGB picture."
        )
        raise ImageError("unsupported", message)
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation from a PNG or WEBP. Pillow has already turned a TIFF; GIF and BMP have none."""
    if isinstance(image, TiffImageFile):
        return 1
    if isinstance(exif := image.info.get("exif"), bytes):
        return exif_orientation(exif)
    if isinstance(
        profile := image.info.get("Raw profile type exif"), str
    ):  # ImageMagick's older way, hex after three lines
        try:
            return exif_orientation(bytes.fromhex("".join(profile.split("\n")[3:])))
        except ValueError:
            return 1
    return 1
