"""Further, augmented crops of training pictures for a frozen backbone: their features are computed once and kept."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.images import load_picture
from models.manifest import Preprocessing
from models.training.batches import Pictures
from worker.failures import DECODING_ERRORS
from worker.reading import Reader
from worker.training.pictures import Rows
from worker.training.preparing import Prepared
from worker.training.request import Request, TrainingItem

CROPS = "features-crops.npy"  # beside features.npy
ENLARGED = 1.25  # the side that crops are cut from, in sides of the network's picture
SMALLEST = 0.5  # part of that area which a crop shows
AHEAD = 64  # pictures handed to the threads at a time


def crop(pixels: NDArray[np.uint8], preprocessing: Preprocessing, chance: np.random.Generator, *, flip: bool) -> Any:
    """A part of an enlarged picture [H, W, C] chosen by chance, in the network's size: uint8 [h, w, C]."""
    height, width = pixels.shape[:2]
    side = float(np.sqrt(chance.uniform(SMALLEST, 1.0)))
    left, top = chance.uniform(0, 1 - side) * width, chance.uniform(0, 1 - side) * height
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    size = (preprocessing.width, preprocessing.height)
    box = (left, top, min(float(width), left + side * width), min(float(height), top + side * height))
    part = np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box))
    part = part[:, ::-1] if flip and chance.random() < 0.5 else part
    return part[:, :, np.newaxis] if part.ndim == 2 else part


def read_crops(
    request: Request, items: Sequence[TrainingItem], prepared: Prepared
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(row, pixels) of every crop: row v·N + i is the v-th crop of the i-th training picture. A function of the seed.

    A file that cannot be read any more gives no row.
    """
    reader = Reader(request.max_bytes, Path(request.cache_folder) / "archives")
    root = base64.b64decode(request.root)
    wanted = prepared.preprocessing
    larger = replace(wanted, width=round(ENLARGED * wanted.width), height=round(ENLARGED * wanted.height))
    places = prepared.survey.rows[prepared.survey.of("train")].tolist()
    chosen = request.recipe.augmentation

    def cut(number: int) -> list[tuple[int, NDArray[np.uint8]]]:
        item = items[places[number]]
        try:
            content = reader.read(item.location(root, confined=request.confined))
            pixels = load_picture(content.data, larger, request.max_pixels).pixels
        except DECODING_ERRORS:
            return []
        found = []
        for variant in range(chosen.feature_crops):
            chance = np.random.default_rng([request.recipe.seed, item.idx, variant])
            found.append((variant * len(places) + number, crop(pixels, wanted, chance, flip=chosen.flip)))
        return found

    with ThreadPoolExecutor(request.threads, "crops") as pool:
        for first in range(0, len(places), AHEAD):
            for found in pool.map(cut, range(first, min(first + AHEAD, len(places)))):
                yield from found


class WithCrops:
    """Training features with those of their crops behind them: what Batches with `variants` takes."""

    def __init__(self, plain: Rows, crops: Path) -> None:
        self._plain: Pictures = plain
        self._crops: NDArray[np.float32] = np.load(crops, mmap_mode="r")

    def __len__(self) -> int:
        return len(self._plain) + len(self._crops)

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows by number, float32 [n, F]."""
        count = len(self._plain)
        taken = np.empty((len(rows), self._crops.shape[1]), np.float32)
        plain = rows < count
        taken[plain] = self._plain.take(rows[plain])
        taken[~plain] = self._crops[rows[~plain] - count]
        return taken
