"""The pictures of a chaos run, and what each of them must be answered with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from models.engines.fake import FakeEngine
from models.errors import ImageError
from models.images import load_picture
from tests.running import LABELS, SMALL, write_images

BROKEN = {"empty.png": b"", "text.png": b"no picture at all", "text.jpg": b"<html>"}
COPIES = 8  # every so many-th picture is there twice


@dataclass(frozen=True, slots=True)
class Answer:
    """What the row of a picture must say."""

    status: str
    label: str | None = None
    score: float | None = None
    error_code: str | None = None


def write_folder(folder: Path, count: int, start: int = 0) -> Path:
    """About `count` files: most with their own content, some identical, and a few that cannot be read."""
    own = max(1, count * COPIES // (COPIES + 1))
    write_images(folder, own, start)
    names = sorted(folder.glob("*.png"))
    for path in names[::COPIES]:
        os.link(path, folder / f"copy-{path.name}")
    for name, data in BROKEN.items():
        (folder / name).write_bytes(data)
    half = names[0].read_bytes()
    (folder / "half.png").write_bytes(half[: len(half) // 2])
    return folder


class Answers:
    """The answers by file: from the product's one preprocessing and the stand-in engine."""

    def __init__(self) -> None:
        self._engine = FakeEngine(LABELS)
        self._of_content = lru_cache(maxsize=None)(self._compute)
        self._known: dict[str, Answer] = {}

    def of(self, root: str, path: str) -> Answer:
        """The answer for a file, which has not changed since it was written."""
        name = f"{root}/{path}"
        if name not in self._known:
            self._known[name] = self._of_content(Path(name).read_bytes())
        return self._known[name]

    def _compute(self, data: bytes) -> Answer:
        try:
            picture = load_picture(data, SMALL)
        except ImageError as error:
            return Answer("failed", error_code=error.code)
        indices, scores = self._engine.predict(np.stack([picture.pixels]))
        return Answer("ok", LABELS[int(indices[0, 0])], round(float(scores[0, 0]), 6))
