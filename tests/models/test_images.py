"""What a model sees of a picture: modes, orientation, crop, resize. What cannot be read is in test_damaged_images."""

import io
import subprocess
import sys
import threading
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from models.images import Picture, load_picture
from models.manifest import Crop, Interpolation, Preprocessing
from tests import pictures
from tests.pictures import picture, saved

EXACT = Preprocessing(48, 32, crop="squash", interpolation="nearest")  # pictures of 48×32 pass unchanged
SMALL = Preprocessing(48, 48)


def pixels(data: bytes, preprocessing: Preprocessing = EXACT) -> NDArray[np.int16]:
    """The pixels, in a type that can be subtracted."""
    return load_picture(data, preprocessing).pixels.astype(np.int16)


def difference(data: bytes, expected: Any, preprocessing: Preprocessing = EXACT) -> int:
    """The largest difference of a pixel."""
    return int(np.abs(pixels(data, preprocessing) - np.asarray(expected).astype(np.int16)).max())


SOURCE = picture(48, 32)


@pytest.mark.parametrize("name", ["PNG", "BMP", "TIFF"])
def test_a_lossless_picture_arrives_as_it_is(name: str) -> None:
    assert difference(saved(SOURCE, name), SOURCE) == 0


def test_a_lossless_webp_arrives_as_it_is() -> None:
    assert difference(saved(SOURCE, "WEBP", lossless=True), SOURCE) == 0


def test_the_size_is_that_of_the_source() -> None:
    found = load_picture(saved(picture(71, 53), "PNG"), SMALL)
    assert (found.width, found.height, found.pixels.shape) == (71, 53, (48, 48, 3))
    assert found.pixels.dtype == np.dtype(np.uint8)


def test_a_memoryview_is_as_good_as_bytes() -> None:
    data = pictures.jpeg()
    np.testing.assert_array_equal(load_picture(memoryview(data), SMALL).pixels, load_picture(data, SMALL).pixels)


# Modes


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 48 * 32).reshape(32, 48).astype(np.uint16)
    for name in ("PNG", "TIFF"):
        assert difference(saved(Image.fromarray(ramp), name), (ramp >> 8)[..., None]) == 0


def test_sixteen_bit_grey_and_colour_of_the_same_picture_look_the_same() -> None:
    def png(color: int, channels: int) -> bytes:
        rows = b"".join(b"\0" + b"".join(bytes([x * 5, y * 7]) * channels for x in range(48)) for y in range(32))
        return pictures.png_by_hand(48, 32, 16, color, zlib.compress(rows))

    np.testing.assert_array_equal(pixels(png(0, 1)), pixels(png(2, 3)))


def test_a_big_endian_sixteen_bit_tiff_is_read_in_its_own_order() -> None:
    ramp = np.linspace(0, 65535, 48 * 32).reshape(32, 48).astype(">u2")
    image = Image.frombytes("I;16B", (48, 32), ramp.tobytes())
    assert difference(saved(image, "TIFF"), (ramp >> 8).astype(np.uint8)[..., None]) == 0


def test_white_is_zero_is_turned_over_in_sixteen_bits_too() -> None:
    ramp = np.linspace(0, 65535, 48 * 32).reshape(32, 48).astype(np.uint16)
    data = saved(Image.fromarray(ramp), "TIFF", tiffinfo={262: 0})
    assert difference(data, (255 - (ramp >> 8))[..., None]) == 0


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_other_modes_become_rgb_as_pillow_would_show_them(mode: str) -> None:
    image = SOURCE.convert(mode)
    assert difference(saved(image, "TIFF"), image.convert("RGB")) == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("name", ["PNG", "WEBP"])
def test_transparent_pictures_are_laid_over_white(mode: str, name: str) -> None:
    image = SOURCE.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image = image.convert(mode)
    options: dict[str, Any] = {"lossless": True, "exact": True} if name == "WEBP" else {}
    rgba = image.convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert("RGB")
    assert difference(saved(image, name, **options), expected) <= 1


def test_an_invisible_colour_does_not_bleed_into_what_is_seen() -> None:
    """Resizing colour and alpha apart would mix the hidden red into the edge."""
    image = Image.new("RGBA", (480, 320), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 240, 320))
    found = pixels(saved(image, "PNG"), replace(EXACT, interpolation="bilinear"))
    assert (found[..., 0] <= found[..., 1] + 1).all()  # never redder than the white below allows


def test_a_palette_with_a_transparent_colour_is_laid_over_white() -> None:
    image = Image.new("P", (48, 32), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 0, 24, 32))
    for name in ("PNG", "GIF"):
        found = pixels(saved(image, name, transparency=0))
        assert found[5, 5].tolist() == [200, 100, 50]
        assert found[5, 40].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_many_frames_or_pages_the_first_counts(kind: str) -> None:
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "lime", "blue")]
    found = pixels(saved(frames[0], kind, save_all=True, append_images=frames[1:]), SMALL)
    assert found[..., 0].min() > 240
    assert found[..., 1:].max() < 15


# JPEG


def decoded_by_pillow(data: bytes, preprocessing: Preprocessing) -> Image.Image:
    """The plain way: decode in full, crop and resize in floating point."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    side = preprocessing.crop_fraction * min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    size = preprocessing.width, preprocessing.height
    return image.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


@pytest.mark.parametrize("width", [60, 200, 431, 900, 1777])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_a_jpeg_scaled_while_decoding_looks_like_one_decoded_in_full(width: int, options: dict[str, Any]) -> None:
    data = saved(picture(width, width * 3 // 4), "JPEG", quality=90, **options)
    found = pixels(data, SMALL)
    distance = np.abs(found - np.asarray(decoded_by_pillow(data, SMALL)))
    assert distance.mean() < 0.6
    assert distance.max() <= 6


def test_a_jpeg_is_not_shifted_by_scaling() -> None:
    """A white square on a black ground keeps its centre, whatever part of the size the decoder gives."""
    for side in (96, 200, 404, 811, 1603):
        image = Image.new("L", (side, side), 0)
        image.paste(255, (side // 4, side // 4, side - side // 4, side - side // 4))
        found = pixels(saved(image, "JPEG", quality=95), replace(SMALL, crop="squash"))[..., 0].astype(float)
        places = np.arange(48) + 0.5
        assert abs((found.sum(axis=0) @ places) / found.sum() - 24) < 0.1
        assert abs((found.sum(axis=1) @ places) / found.sum() - 24) < 0.1


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_and_ycck_jpegs_have_the_colours_that_pillow_gives_them(adobe: bool) -> None:
    data = saved(picture(200, 150).convert("CMYK"), "JPEG", quality=95) if adobe else pictures.jpeg_ycck()
    assert np.abs(pixels(data, SMALL) - np.asarray(decoded_by_pillow(data, SMALL))).mean() < 1.5


def test_a_grey_jpeg_becomes_rgb() -> None:
    found = pixels(saved(picture(200, 150).convert("L"), "JPEG"), SMALL)
    assert (found[..., 0] == found[..., 1]).all()
    assert (found[..., 0] == found[..., 2]).all()


def test_a_jpeg_with_stray_bytes_before_its_end_is_read() -> None:
    data = pictures.jpeg()
    assert np.abs(pixels(data[:-2] + b"stray" + data[-2:], SMALL) - pixels(data, SMALL)).mean() < 1


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("crop", ["center", "squash", "pad"])
def test_a_turned_picture_is_seen_upright(kind: str, orientation: int, crop: Crop) -> None:
    by_kind: dict[str, dict[str, Any]] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    options = by_kind.get(kind, {})
    image = picture(131, 77)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = saved(image, kind, exif=exif, **options)
    upright = saved(ImageOps.exif_transpose(with_exif(image, exif)), "PNG")
    preprocessing = Preprocessing(40, 56, crop=crop)
    found, expected = load_picture(turned, preprocessing), load_picture(upright, preprocessing)
    assert (found.width, found.height) == (expected.width, expected.height)
    assert np.abs(found.pixels.astype(int) - expected.pixels).max() <= (4 if kind == "JPEG" else 1)


def with_exif(image: Image.Image, exif: Image.Exif) -> Image.Image:
    """A copy that Pillow thinks of as turned."""
    return Image.open(io.BytesIO(saved(image, "PNG", exif=exif)))


def test_orientations_differ_so_that_the_test_above_can_fail() -> None:
    seen = {load_picture(pictures.jpeg_turned(way), SMALL).pixels.tobytes() for way in range(1, 9)}
    assert len(seen) == 8


def test_imagemagicks_hidden_exif_in_a_png_is_found() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    block = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
    text = PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n", zip=True)
    found = load_picture(saved(picture(60, 40), "PNG", pnginfo=text), SMALL)
    assert (found.width, found.height) == (40, 60)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(20),
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0",  # orientation 9
        b"Exif\0\0nothing of the kind",
    ],
)
def test_damaged_exif_does_not_cost_the_picture(exif: bytes) -> None:
    data = saved(picture(60, 40), "JPEG", exif=exif)
    found = load_picture(data, SMALL)
    assert (found.width, found.height) == (60, 40)


# Crop and resize


def grid(width: int, height: int) -> Image.Image:
    """Red tells the column, green the row."""
    x = np.broadcast_to(np.arange(width)[None] * 255 / (width - 1), (height, width))
    y = np.broadcast_to(np.arange(height)[:, None] * 255 / (height - 1), (height, width))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 128)], axis=-1).round().astype(np.uint8))


@pytest.mark.parametrize("size", [(400, 200), (200, 400), (300, 300)])
@pytest.mark.parametrize("target", [(32, 32), (48, 32), (32, 48)])
@pytest.mark.parametrize("fraction", [1.0, 0.875, 0.5])
def test_center_takes_the_middle_of_the_frame_without_distortion(
    size: tuple[int, int], target: tuple[int, int], fraction: float
) -> None:
    found = pixels(saved(grid(*size), "PNG"), Preprocessing(*target, crop_fraction=fraction))
    scale = fraction * min(size[0] / target[0], size[1] / target[1])
    for axis, channel in ((0, 0), (1, 1)):
        seen = scale * target[axis] / size[axis]
        line = found[target[1] // 2, :, channel] if axis == 0 else found[:, target[0] // 2, channel]
        step = seen * 255 / target[axis]
        assert abs(line[0] - (255 * (1 - seen) / 2 + step / 2)) <= 2
        assert abs(line[-1] - (255 * (1 + seen) / 2 - step / 2)) <= 2


def test_the_whole_short_side_can_be_taken_whatever_the_rounding() -> None:
    """1019 ÷ 7 × 7 is a hair more than 1019, and Pillow refuses a frame that begins before the picture."""
    for kind in ("PNG", "JPEG"):
        found = load_picture(saved(Image.new("L", (1019, 777)), kind), Preprocessing(7, 3, crop_fraction=1.0))
        assert found.pixels.shape == (3, 7, 3)


def test_squash_shows_the_whole_frame() -> None:
    found = pixels(saved(grid(400, 200), "PNG"), Preprocessing(32, 32, crop="squash"))
    assert found[0, 0, :2].max() <= 6
    assert found[-1, -1, :2].min() >= 249


@pytest.mark.parametrize(("size", "bars"), [((400, 200), "rows"), ((200, 400), "columns")])
def test_pad_shows_the_whole_frame_between_black_bars(size: tuple[int, int], bars: str) -> None:
    found = pixels(saved(grid(*size), "PNG"), Preprocessing(32, 32, crop="pad"))
    found = found if bars == "rows" else found.transpose(1, 0, 2)
    assert (found[:8] == 0).all()
    assert (found[24:] == 0).all()
    assert (found[8:24, :, 2] == 128).all()


def test_pad_leaves_no_side_without_a_pixel() -> None:
    found = pixels(saved(picture(2000, 1), "PNG"), Preprocessing(32, 32, crop="pad"))
    assert (found.max(axis=(1, 2)) > 0).sum() == 1


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "area"])
def test_every_interpolation_is_pillows_filter(interpolation: Interpolation) -> None:
    names = {"area": "BOX"}
    resample = Image.Resampling[names.get(interpolation, interpolation.upper())]
    image = picture(90, 61)
    preprocessing = replace(EXACT, interpolation=interpolation)
    expected = image.resize((48, 32), resample)
    assert difference(saved(image, "PNG"), expected, preprocessing) == 0


def test_nearest_keeps_the_colours_of_a_large_jpeg() -> None:
    """Scaling while decoding would average what "nearest" must pick."""
    board = Image.fromarray((np.indices((640, 640)).sum(axis=0) // 8 % 2 * 255).astype(np.uint8))
    found = pixels(saved(board, "JPEG", quality=100), Preprocessing(40, 40, crop="squash", interpolation="nearest"))
    assert set(np.unique(found // 16).tolist()) <= {0, 15}


def test_resizing_is_antialiased() -> None:
    """One pixel of 16 is white: what skips pixels sees all or nothing, what averages sees a sixteenth."""
    dots = np.zeros((480, 480), np.uint8)
    dots[::4, ::4] = 255
    found = pixels(saved(Image.fromarray(dots), "PNG"), Preprocessing(40, 40, crop="squash"))
    assert 12 <= found.min() <= found.max() <= 20


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_one_channel_is_grey(kind: str) -> None:
    image = picture(300, 200)
    grey = Preprocessing(28, 28, channels=1)
    found = load_picture(saved(image, kind), grey).pixels
    assert found.shape == (28, 28, 1)
    colour = load_picture(saved(image, kind), replace(grey, channels=3)).pixels
    luma = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(found[..., 0] - luma).max() <= 2.5


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3), (9000, 30)])
@pytest.mark.parametrize("crop", ["center", "squash", "pad"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_any_shape_of_picture_can_be_prepared(size: tuple[int, int], crop: Crop, kind: str) -> None:
    found = load_picture(saved(Image.new("RGB", size, (9, 200, 90)), kind), replace(SMALL, crop=crop))
    assert (found.width, found.height) == size
    assert found.pixels.shape == (48, 48, 3)


def test_threads_get_what_one_thread_gets() -> None:
    data = [saved(picture(200 + 3 * n, 150, n), kind) for n, kind in enumerate(["JPEG", "PNG", "WEBP", "GIF", "TIFF"])]
    expected = [load_picture(one, SMALL).pixels for one in data]
    wrong: list[int] = []

    def work() -> None:
        for _ in range(10):
            for n, one in enumerate(data):
                if not np.array_equal(load_picture(one, SMALL).pixels, expected[n]):
                    wrong.append(n)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_picture_is_a_value() -> None:
    found = load_picture(pictures.png(), SMALL)
    assert isinstance(found, Picture)
    with pytest.raises(AttributeError):
        found.width = 3  # type: ignore[misc]  # what must not be possible


def test_images_needs_no_framework() -> None:
    names = ("keras", "tensorflow", "openvino", "cv2", "matplotlib", "scipy", "sqlalchemy", "celery")
    code = f"import sys, models.images; print(sorted(set({names}) & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
