"""What a trainer is asked to do: one document that station and trainer share, and the items in a file beside it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.engines.openvino import Precision
from models.files import sync
from models.recipes import Recipe, check_recipe
from store.rows import TrainingRow
from worker.reading import Location


@dataclass(frozen=True, slots=True)
class Request:
    """One attempt at one run. Paths are absolute.

    folder: of the run; it outlives attempts (survey, caches). attempt_folder: of this attempt alone (checkpoints).
    staging: an empty folder to make the model version in. base: the folder of the base model's version, or "".
    checkpoint: where to go on from, or ""; one of another run is gone on with for more epochs.
    """

    name: str
    recipe: Recipe
    labels: tuple[str, ...]
    folder: str
    attempt_folder: str
    staging: str
    base: str
    checkpoint: str
    allow_leaks: bool
    lineage: Mapping[str, Any]
    root: str  # base64 of bytes
    confined: bool
    precision: Precision
    max_pixels: int
    max_bytes: int
    cache_folder: str
    threads: int
    on_gpu: bool
    checkpoint_s: float

    def to_json(self) -> dict[str, Any]:
        """As the trainer reads it."""
        return {**asdict(self), "recipe": self.recipe.model_dump()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Request:
        """Read back what `to_json` gave."""
        recipe = check_recipe(values["recipe"])
        return cls(**{**values, "recipe": recipe, "labels": tuple(values["labels"])})


class TrainingItem(TrainingRow):
    """One labelled picture of a run, and where it lies."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """Its path for people."""
        inside = f"!/{self.member}" if self.member else ""
        return self.path.decode("utf-8", "backslashreplace") + inside

    def location(self, root: bytes, *, confined: bool) -> Location:
        """Where a Reader finds it."""
        return Location(root, self.path, confined, self.size, self.mtime_ns, self.member, self.offset)


def write_items(path: Path, items: Iterable[TrainingRow]) -> None:
    """Write items as JSON lines; a name is bytes, so it goes as base64."""
    aside = path.with_suffix(".tmp")
    with aside.open("w", encoding="utf-8") as file:
        for item in items:
            file.write(json.dumps({**asdict(item), "path": base64.b64encode(item.path).decode()}) + "\n")
    sync(aside)
    aside.replace(path)


def read_items(path: Path) -> Iterator[TrainingItem]:
    """Read back what `write_items` wrote."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            values = json.loads(line)
            yield TrainingItem(**{**values, "path": base64.b64decode(values["path"])})
