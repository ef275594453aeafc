"""Where the class names of a model file may be: what was said, the file's own metadata, files beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.errors import InvalidModel
from models.imagenet import CLASSES, class_names
from models.labels import SUFFIXES, check_count, check_labels, read_labels

IMAGENET = Path("imagenet")  # what --labels may say instead of a file


@dataclass(frozen=True, slots=True)
class Candidate:
    """Class names that may be the model's. `said`: they were asked for, so a wrong count is an error and not a miss."""

    source: str
    names: tuple[str, ...]
    said: bool = False

    def to_json(self) -> dict[str, Any]:
        """For the sandboxed child, which knows how many classes the model has."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Candidate:
        """Read back what `to_json` gave."""
        return cls(facts["source"], tuple(facts["names"]), facts["said"])


def find_labels(file: Path, said: Path | None, metadata: Sequence[str] = ()) -> Sequence[Candidate]:
    """Class names for a model file, the likeliest first.

    `said` alone where it is given (a file, or the word `imagenet`); else names in the file's metadata,
    `<stem>_labels.*`, `labels.*`, and last any `*labels*` beside the file, provided that there is one such list of
    its length only. Raises InvalidModel where the file that was said cannot be read; files that were merely found are
    passed over.
    """
    if said is not None:
        names = class_names() if said == IMAGENET and not said.exists() else read_labels(said)
        return [Candidate(str(said), names, said=True)]
    found = [Candidate(f"metadata of {file.name}", check_labels(metadata, file))] if metadata else []
    return [*found, *_beside(file)]


def choose_labels(candidates: Sequence[Candidate], classes: int) -> tuple[str, ...]:
    """The names that were said, or the first found with the right count. Raises InvalidModel with what to do."""
    for candidate in candidates:
        if candidate.said:
            check_count(candidate.names, classes, candidate.source)
        if len(candidate.names) == classes:
            return candidate.names
    seen = "; ".join(f"{candidate.source} has {len(candidate.names)}" for candidate in candidates)
    imagenet = f" For ImageNet's own classes say --labels {IMAGENET}." if classes == CLASSES else ""
    raise InvalidModel(
        f"The model has {classes} classes and no names for them{f' ({seen})' if seen else ''}. Give a file with "
        "--labels: one name a line (.txt), a list (.json), or index,name (.csv), in the order of the model's outputs."
        + imagenet
    )


def _beside(file: Path) -> Iterator[Candidate]:
    stems = (f"{file.stem}_labels", f"{file.stem}.labels", "labels")
    named = [file.with_name(stem + suffix) for stem in stems for suffix in SUFFIXES]
    yield from _readable(path for path in named if path.is_file())

    others = [path for path in sorted(file.parent.glob("*labels*")) if path.suffix in SUFFIXES and path not in named]
    lists = list(_readable(path for path in others if path.is_file()))
    for candidate in lists:
        rivals = {other.names for other in lists if len(other.names) == len(candidate.names)}
        if len(rivals) == 1:
            yield candidate


def _readable(paths: Iterator[Path]) -> Iterator[Candidate]:
    for path in paths:
        try:
            yield Candidate(str(path), read_labels(path))
        except InvalidModel:
            continue
