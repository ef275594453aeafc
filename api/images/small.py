"""Small copies of classified pictures: from the shelf, else rendered now by a confined child."""

from __future__ import annotations

import contextlib
import os

from api.context import Context
from api.images.content import Classified, copy
from api.images.gate import Gate
from api.problems import Problem
from models.errors import ImageError
from worker.thumbnails.renderer import Order, Renderer, RendererBusy
from worker.thumbnails.shelf import Shelf

SIZES = (64, 96, 128, 192, 256, 384, 512)  # pixels of the longer side that are kept; what is asked for is rounded up
AT_ONCE = 4  # copies of originals that are made at the same time


class Thumbnails:
    """The one shelf and the one renderer of this process."""

    def __init__(self, here: Context) -> None:
        self._here = here
        self._shelf = Shelf(here.settings.thumbnails_folder)
        self._renderer = Renderer()
        self._gate = Gate(AT_ONCE, "small copies are made")

    def small(self, found: Classified, size: int) -> bytes:
        """A WebP whose longer side is at most `size`. Raises Problem."""
        name = f"{found.tag}-{size}.webp"
        kept = self._shelf.get(name)
        if kept is not None:
            self._refuse_outside(found)
            return kept
        made = self._render(found, size)
        self._shelf.put(name, made)
        return made

    def stop(self) -> None:
        """End the children."""
        self._renderer.stop()

    def _refuse_outside(self, found: Classified) -> None:
        """What is kept is the item's content whatever became of the file; but its place must still be allowed."""
        try:
            os.close(self._here.roots.open(found.job.root, found.row.path))
        except Problem as problem:
            if problem.kind == "root-not-allowed":
                raise

    def _render(self, found: Classified, size: int) -> bytes:
        missing = self._renderer.missing()
        if missing is not None:
            raise Problem("not-installed", f"Small copies need the package {missing}, which this server does not have.")
        width, height = _fitted(found, size)
        with self._gate.turn():
            picture = copy(self._here, found)
            with contextlib.closing(picture):
                order = Order(picture.file, picture.size, width, height, self._here.settings.max_pixels)
                try:
                    return self._renderer.render(order)
                except ImageError as error:
                    raise Problem("not-rendered", str(error), code=error.code) from error
                except RendererBusy as error:
                    raise Problem("unavailable", str(error)) from error


def rounded(size: int) -> int:
    """The size that is kept for one that is asked for."""
    return next(kept for kept in SIZES if kept >= size)


def _fitted(found: Classified, size: int) -> tuple[int, int]:
    """Width and height of the copy: the picture's proportions, not larger than it is."""
    width, height = found.row.width or size, found.row.height or size
    scale = min(1.0, size / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
