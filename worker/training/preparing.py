"""What a trainer does before the first epoch: every picture read once, as features or as pixels on the disk."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidModel, LeakedImages
from models.manifest import ModelVersion, Preprocessing
from models.recipes import Recipe
from models.training.features import FeatureEngine, extract, load_features
from worker.training import survey as surveys
from worker.training.pictures import new_rows
from worker.training.request import Request, TrainingItem
from worker.training.survey import Book, Survey, read_all
from worker.training.telling import Teller

log = logging.getLogger(__name__)

LEAKS_TOLD = 12  # in the error; all of them are findings of the run


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run's pictures, ready to be trained on. `features`, `pixels`: files of rows, where the recipe wants them."""

    survey: Survey
    preprocessing: Preprocessing
    pixels: Path | None
    features: Path | None


def wants_pixels(recipe: Recipe, features: FeatureEngine | None) -> bool:
    """Whether pixels are kept: not where a frozen backbone's compiled form turns them into features at once."""
    return recipe.mode != "head" or features is None


def open_features(request: Request, base: ModelVersion | None, wanted: Preprocessing) -> FeatureEngine | None:
    """The compiled form of a frozen backbone; None where there is none for this size, and Keras has to do it."""
    if base is None or request.on_gpu or request.recipe.mode not in ("head", "two_phase"):
        return None
    given = base.manifest.preprocessing
    if (given.width, given.height, given.channels) != (wanted.width, wanted.height, wanted.channels):
        return None
    try:
        return load_features(base, request.precision, Path(request.cache_folder) / "openvino")
    except InvalidModel as error:
        log.warning("features come from Keras: %s", error)
        return None


def prepare(
    request: Request,
    items: Sequence[TrainingItem],
    preprocessing: Preprocessing,
    engine: FeatureEngine | None,
    teller: Teller,
) -> Prepared:
    """Read, survey and keep every picture, unless an earlier attempt did; raises LeakedImages, InvalidRecipe."""
    folder = Path(request.folder)
    pixels = folder / "pixels.npy" if wants_pixels(request.recipe, engine) else None
    features = folder / "features.npy" if engine is not None else None
    noted = folder / "survey.json"
    there = noted.exists() and all(path is None or path.exists() for path in (pixels, features))
    if there:
        survey = surveys.load(noted, items)
    else:
        book = Book.empty(len(items))
        stream = read_all(request, items, preprocessing, book, lambda done: teller.stage("reading", done, len(items)))
        with ExitStack() as stack:
            if pixels is not None:
                shape = (preprocessing.height, preprocessing.width, preprocessing.channels)
                stream = _keeping(stream, stack.enter_context(new_rows(pixels, len(items), shape, np.uint8)))
            if features is not None and engine is not None:
                rows = stack.enter_context(new_rows(features, len(items), (engine.features,), np.float32))
                extract(engine, stream, rows)
            deque(stream, maxlen=0)  # what is left of it: all, where there is no engine
        teller.stage("comparing")
        survey = surveys.conclude(request, items, book)
        surveys.save(survey, items, noted)
    teller.say("survey", path=str(noted))
    surveys.check(survey, items, request.recipe)
    if survey.census.leaks and not request.allow_leaks:
        raise LeakedImages(_leaks_told(survey, items))
    return Prepared(survey, preprocessing, pixels, features)


def forget_features(prepared: Prepared, folder: Path) -> Prepared:
    """The same with pixels that were kept since, and without features that are not to be trusted."""
    (folder / "features.npy").unlink(missing_ok=True)
    return replace(prepared, pixels=folder / "pixels.npy", features=None)


def _keeping(
    stream: Iterator[tuple[int, NDArray[np.uint8]]], kept: NDArray[np.uint8]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    for row, pixels in stream:
        kept[row] = pixels
        yield row, pixels


def _leaks_told(survey: Survey, items: Sequence[TrainingItem]) -> str:
    """The list of leaked pictures, as long as a person reads it."""
    places = {items[row].idx: place for place, row in enumerate(survey.rows.tolist())}
    names = {item.idx: item.name for item in items}
    found = [finding for finding in survey.findings if finding["kind"] == "leak"]

    def told(idx: int) -> str:
        return f"{names[idx]} ({survey.splits[places[idx]]})"

    lines = [f"  {told(finding['idx'])} = {told(finding['other_idx'])}" for finding in found[:LEAKS_TOLD]]
    if len(found) > LEAKS_TOLD:
        lines.append(f"  and {len(found) - LEAKS_TOLD:,} more: the view v_findings has them all")
    pictures = "1 picture is" if len(found) == 1 else f"{len(found):,} pictures are"
    return (
        f"{pictures} held out for validation or test and trained on as well, so the accuracy would be too good:\n"
        + "\n".join(lines)
        + "\nTake them out of one side, or train all the same with --allow-leaks."
    )
