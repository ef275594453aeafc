"""Chooses which images a report shows, and keeps their small copies as files beside the page."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from worker.reporting.gallery import PictureSource, Tile, make_tiles
from worker.reporting.metrics import Evaluation, Prediction

GALLERY = 48  # mistakes in the gallery, the most confident
_PER_PAIR = 6  # further mistakes of each confused pair that have a picture
_FURTHER = 240  # of those at most: a page of a thousand classes stays a few megabytes


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """The tiles of the gallery, and where the page finds the small copy of a prediction."""

    gallery: Sequence[Tile] = ()
    links: Mapping[Prediction, str] = field(default_factory=dict)


def make_thumbnails(folder: Path, evaluation: Evaluation | None, picture: PictureSource | None) -> Thumbnails:
    """Write small copies of the images that the page shows into folder/images; those of an earlier report go."""
    shutil.rmtree(folder / "images", ignore_errors=True)
    if evaluation is None or not evaluation.mistakes:
        return Thumbnails()
    first = evaluation.mistakes[:GALLERY]
    if picture is None:
        return Thumbnails([Tile(one, None) for one in first])
    (folder / "images").mkdir()
    links: dict[Prediction, str] = {}
    gallery: list[Tile] = []
    chosen = [*first, *islice(_of_each_pair(evaluation.mistakes[GALLERY:]), _FURTHER)]
    for number, tile in enumerate(make_tiles(chosen, picture)):
        if tile.image is not None:
            links[tile.prediction] = f"images/{number:04}{tile.suffix}"
            (folder / links[tile.prediction]).write_bytes(tile.image)
        if number < len(first):
            gallery.append(tile)
    return Thumbnails(gallery, links)


def _of_each_pair(mistakes: Iterable[Prediction]) -> Iterable[Prediction]:
    seen: Counter[tuple[str, str]] = Counter()
    for one in mistakes:
        seen[one.true, one.predicted] += 1
        if seen[one.true, one.predicted] <= _PER_PAIR:
            yield one
