"""Which size and colour a network gets where neither recipe nor base say it: the pictures' own, if they are small."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from models.errors import ImageError
from models.manifest import Preprocessing
from models.recipes import ImageChoice, Recipe
from models.training.catalogue import NETWORKS, find_backbone
from worker.reading import Reader
from worker.training.request import Request, TrainingItem

SAMPLES = 64  # pictures that are looked at
SMALL = 96  # pixels; pictures of one size up to this are taken as they are
GREY_MODES = ("1", "L", "LA", "I;16")


def choose_preprocessing(request: Request, items: Sequence[TrainingItem], base: Preprocessing | None) -> Preprocessing:
    """How this run's pictures are prepared: the base's way, else as the data asks, and over both what the recipe says.

    Pixels are always 0–255: a base that wants another range gets a layer for it inside.
    """
    chosen = request.recipe.image
    if base is not None:
        # The whole short side, as fine-tuning is commonly done: a subject at the edge is part of what is learned.
        # (Cutting 12.5 % off is how ImageNet's classifiers are measured; it cost cats_dogs half a point.)
        fraction = base.crop_fraction if request.recipe.keep_head else 1.0
        return _with(replace(base, scale="0-255", crop_fraction=fraction), chosen)
    found = list(_samples(request, items))
    return _with(_fitting(request.recipe, found), chosen)


def _fitting(recipe: Recipe, found: Sequence[tuple[tuple[int, int], bool]]) -> Preprocessing:
    """The architecture's own size, or that of small pictures which all have the same."""
    sizes = {size for size, _grey in found}
    network = NETWORKS.get(recipe.preset or "")
    if network is None:
        return find_backbone(recipe.preset or "").preprocessing
    grey = bool(found) and all(is_grey for _size, is_grey in found)
    channels = 1 if grey else 3
    if len(sizes) == 1 and max(max(size) for size in sizes) <= SMALL:
        width, height = next(iter(sizes))
        return Preprocessing(width=width, height=height, channels=channels, crop="squash")
    return Preprocessing(width=network.width, height=network.height, channels=channels, crop_fraction=1.0)


def _with(preprocessing: Preprocessing, chosen: ImageChoice) -> Preprocessing:
    said = chosen.model_dump(exclude_none=True)
    if "width" in said or "height" in said:  # one side said means a square
        said = {"width": said.get("height"), "height": said.get("width"), **said}
    return replace(preprocessing, **said)


def _samples(request: Request, items: Sequence[TrainingItem]) -> Iterator[tuple[tuple[int, int], bool]]:
    """Size and greyness of some readable pictures, spread over all items: the same ones in every attempt."""
    reader = Reader(request.max_bytes, Path(request.cache_folder) / "archives")
    root = base64.b64decode(request.root)
    for row in np.unique(np.linspace(0, len(items) - 1, SAMPLES).astype(int)):
        try:
            data = reader.read(items[row].location(root, confined=request.confined)).data
            with Image.open(io.BytesIO(data)) as image:
                yield image.size, image.mode in GREY_MODES
        except (ImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue  # it is named when all are read
