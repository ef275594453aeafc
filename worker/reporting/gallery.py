"""The gallery of misclassified images: small pictures with true and predicted label, as files and for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from models.errors import ImageError
from models.images import load_picture
from models.manifest import Preprocessing
from worker.reporting.drawing import BLUE, INK, LINE, MUTED, ORANGE, new_figure, save, style_text
from worker.reporting.metrics import Prediction
from worker.reporting.rows import shorten

PictureSource = Callable[[Prediction], bytes | None]
"""Gives the image file of a prediction; None where it is gone."""

_PIXELATED = 96  # sources no larger than this are kept as they are, dot by dot
_COLUMNS = 6
# Of the contact sheet, in widths of a tile: from one to the next, between them, the space for the title.
_STEP_X, _STEP_Y, _GAP, _HEAD = 1.1, 1.5, 0.1, 0.28
_INCHES = 1.6  # a tile's width
_DPI = 110  # the tiles have no more to show


@dataclass(frozen=True, slots=True)
class Tile:
    """One image of the gallery: a small upright copy as JPEG, or PNG of a tiny source; None where it is unreadable."""

    prediction: Prediction
    image: bytes | None

    @property
    def suffix(self) -> str:
        """Of a file with the image: ".png" or ".jpg"."""
        return ".png" if self.image and self.image.startswith(b"\x89PNG") else ".jpg"


def make_tiles(predictions: Iterable[Prediction], picture: PictureSource, side: int = 192) -> Iterator[Tile]:
    """Small copies of the images, at most `side` pixels wide and high; nothing is enlarged or cropped.

    Files that cannot be read or decoded (any more) give tiles without an image.
    """
    for prediction in predictions:
        data = picture(prediction)
        try:
            yield Tile(prediction, _small_copy(data, side) if data else None)
        except ImageError:
            yield Tile(prediction, None)


def _small_copy(data: bytes, side: int) -> bytes:
    frame = Preprocessing(width=side, height=side, channels=3, crop="pad", interpolation="bilinear")
    found = load_picture(data, frame)
    scale = min(1.0, side / max(found.width, found.height))
    width, height = max(1, round(found.width * scale)), max(1, round(found.height * scale))
    small = load_picture(data, replace(frame, width=width, height=height, crop="squash"))
    target = BytesIO()
    if max(found.width, found.height) <= _PIXELATED:
        Image.fromarray(small.pixels).save(target, "PNG", optimize=True)
    else:
        Image.fromarray(small.pixels).save(target, "JPEG", quality=82, optimize=True)
    return target.getvalue()


def contact_sheet(tiles: Sequence[Tile], path: Path, title: str = "") -> Path:
    """Draw the tiles with true and predicted label and score, as .svg or .png. Raises ValueError for another ending."""
    return save(sheet_figure(tiles, title), path)


def sheet_figure(tiles: Sequence[Tile], title: str = "") -> Figure:
    """The figure of `contact_sheet`, to be saved in several formats."""
    rows, columns = max(1, -(-len(tiles) // _COLUMNS)), min(_COLUMNS, max(1, len(tiles)))
    width, height = columns * _STEP_X - _GAP, rows * _STEP_Y
    figure = new_figure(width * _INCHES, (height + _HEAD) * _INCHES)
    figure.set_layout_engine("none")
    figure.set_dpi(_DPI)
    # One coordinate system for all, a tile being 1 wide: an own one for each takes Matplotlib seconds.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, -_HEAD))
    axes.set_axis_off()
    style_text(axes.text(0, -_HEAD / 2, title, va="center"), INK, 12, fontweight="bold")
    for place, tile in enumerate(tiles):
        _draw_tile(axes, tile, (place % columns * _STEP_X, place // columns * _STEP_Y))
    return figure


def _draw_tile(axes: Axes, tile: Tile, corner: tuple[float, float]) -> None:
    """The image above what was said and how sure, what is true, and the file's name."""
    left, top = corner
    if tile.image:
        with Image.open(BytesIO(tile.image)) as image:
            width, height = (length / max(image.size) for length in image.size)
            x, y = left + (1 - width) / 2, top + (1 - height) / 2
            smooth = "nearest" if tile.suffix == ".png" else "antialiased"
            frame = (x, x + width, y + height, y)
            axes.imshow(np.asarray(image), extent=frame, interpolation=smooth, aspect="auto")
    else:
        style_text(axes.text(left + 0.5, top + 0.5, "no picture", ha="center", va="center"), MUTED, 8)
        axes.add_patch(Rectangle((left, top), 1, 1, fill=False, edgecolor=LINE))
    said = tile.prediction
    lines = (
        (f"{shorten(said.predicted, 16)}  {said.score:.3f}", ORANGE, 8.5),
        (f"is {shorten(said.true, 18)}", BLUE, 8.5),
        (shorten(said.path.rsplit("/", 1)[-1], 24), MUTED, 6.5),
    )
    for number, (text, color, size) in enumerate(lines):
        style_text(axes.text(left, top + 1.04 + 0.115 * number, text, va="top"), color, size)
