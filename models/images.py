"""Turns a picture's bytes into the pixels a model sees: the one preprocessing of training, evaluation, inference.

Bytes → format by content → size checked from the header → decoded in full → cropped and resized in one antialiased
step → upright by EXIF → RGB or grey uint8. Transparent pictures are laid over white; of animations and multi-page
files the first picture counts; embedded colour profiles are not applied, as no common training pipeline applies them.

Thread-safe, and the heavy steps (decoding, resizing) release the GIL. Needs numpy, Pillow and simplejpeg only.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.decoding import ACCEPTED, check_pixels, decode_jpeg, decode_other
from models.errors import ImageError
from models.formats import RECOGNISED, SUPPORTED, sniff
from models.headers import read_jpeg
from models.manifest import Interpolation, Preprocessing

MAX_PIXELS = 100_000_000

# A picture is first shrunk cheaply (JPEG: while decoding; else: by averaging), but to no less than this times the
# target.
_GAP = 2.0

_FILTERS: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "area": Image.Resampling.BOX,
}

# What turns a stored picture upright, by its EXIF orientation (TIFF 6.0, tag 274).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """What a model sees of an image. `width` and `height` are the source's, upright."""

    pixels: NDArray[np.uint8]  # [H, W, C]
    width: int
    height: int


class _Frame(NamedTuple):
    """The part of the stored picture that is used (left, top, right, bottom) and the size it is resized to."""

    box: tuple[float, float, float, float]
    size: tuple[int, int]


def load_picture(data: bytes | memoryview, preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode and prepare one image, given the whole file.

    Raises ImageError with code "empty", "not_image", "unsupported", "truncated", "corrupt" or "too_many_pixels".
    """
    data = bytes(data)
    name = _supported_format(data)
    if name == "JPEG":
        return _load_jpeg(data, preprocessing, max_pixels)
    image, orientation = decode_other(name, data, max_pixels)
    width, height = image.size
    frame = _frame(width, height, orientation, preprocessing)
    return _finish(_resize(image, frame, preprocessing), orientation, (width, height), preprocessing)


def _load_jpeg(data: bytes, preprocessing: Preprocessing, max_pixels: int) -> Picture:
    """Decode a JPEG no larger than needed, and prepare it."""
    header = read_jpeg(data)
    check_pixels(header.width, header.height, max_pixels)
    frame = _frame(header.width, header.height, header.orientation, preprocessing)
    eighths = 8 if preprocessing.interpolation == "nearest" else _eighths(frame)
    image = decode_jpeg(data, header, preprocessing.channels == 1, eighths)
    scale = eighths / 8 if image.width < header.width else 1.0  # a second opinion comes in full size
    left, top, right, bottom = frame.box
    frame = frame._replace(box=(left * scale, top * scale, right * scale, bottom * scale))
    size = header.width, header.height
    return _finish(_resize(image, frame, preprocessing), header.orientation, size, preprocessing)


def _supported_format(data: bytes) -> str:
    """The format of a file that can be decoded. Raises ImageError for any other, naming what it is."""
    if not data:
        raise ImageError("empty", "The file is empty (0 bytes).")
    name = sniff(data)
    if name in SUPPORTED:
        return name
    if name is not None:
        raise ImageError("unsupported", f"This is {RECOGNISED[name]}, which is not supported. {ACCEPTED}")
    raise ImageError("not_image", f"This is no picture: no known format begins with {data[:12]!r}. {ACCEPTED}")


def _frame(width: int, height: int, orientation: int, preprocessing: Preprocessing) -> _Frame:
    """Where to crop and what to resize to, in the stored picture's axes: it is turned upright after resizing."""
    sideways = orientation >= 5
    target_width, target_height = preprocessing.width, preprocessing.height
    if sideways:
        target_width, target_height = target_height, target_width
    whole = (0.0, 0.0, float(width), float(height))
    if preprocessing.crop == "squash":
        return _Frame(whole, (target_width, target_height))
    if preprocessing.crop == "pad":
        scale = min(target_width / width, target_height / height)
        return _Frame(whole, (max(1, round(width * scale)), max(1, round(height * scale))))
    scale = preprocessing.crop_fraction * min(width / target_width, height / target_height)
    # Pillow refuses a box that leaves the picture, be it by a rounding error.
    left, top = max(0.0, (width - scale * target_width) / 2), max(0.0, (height - scale * target_height) / 2)
    return _Frame((left, top, width - left, height - top), (target_width, target_height))


def _eighths(frame: _Frame) -> int:
    """The smallest of 1, 2, 4, 8 eighths that leaves the frame at least _GAP times its target on both sides."""
    left, top, right, bottom = frame.box
    ratio = min((right - left) / frame.size[0], (bottom - top) / frame.size[1])
    return next((eighths for eighths in (1, 2, 4) if ratio * eighths / 8 >= _GAP), 8)


def _resize(image: Image.Image, frame: _Frame, preprocessing: Preprocessing) -> Image.Image:
    """Crop and resize in one step; antialiased but for "nearest"."""
    return image.resize(frame.size, _FILTERS[preprocessing.interpolation], box=frame.box, reducing_gap=_GAP)


def _finish(image: Image.Image, orientation: int, size: tuple[int, int], preprocessing: Preprocessing) -> Picture:
    """Flatten, turn upright, pad, and hand over as an array."""
    mode = "L" if preprocessing.channels == 1 else "RGB"
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode != mode:
        image = image.convert(mode)
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    target = preprocessing.width, preprocessing.height
    if image.size != target:
        canvas = Image.new(mode, target)
        canvas.paste(image, ((target[0] - image.width) // 2, (target[1] - image.height) // 2))
        image = canvas
    width, height = size if orientation < 5 else size[::-1]
    pixels = np.asarray(image)
    return Picture(pixels[:, :, np.newaxis] if mode == "L" else pixels, width, height)
