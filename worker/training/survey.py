"""The first look at every picture of a run: read and decoded once, split, and searched for copies."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets.census import Census, take_census
from models.datasets.counting import count, problems
from models.datasets.duplicates import SIDE, Pair, find_pairs, thumbnail
from models.datasets.groups import join
from models.datasets.leaks import conflicts, leaks
from models.datasets.splits import assign
from models.files import sync
from models.images import load_picture
from models.manifest import Preprocessing
from models.recipes import Recipe
from worker.failures import DECODING_ERRORS, of_decoding
from worker.reading import Reader
from worker.training.request import Request, TrainingItem

CHUNK = 16  # items that one thread takes at a time
Tell = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Failure:
    """One file that cannot be trained on: its place, and the row that says why."""

    row: int
    code: str
    message: str


@dataclass(slots=True)
class Book:
    """What is noted of every item while it is read, by its row."""

    digests: list[bytes]
    sizes: list[tuple[int, int]]
    thumbnails: NDArray[np.uint8]
    failures: list[Failure] = field(default_factory=list)

    @classmethod
    def empty(cls, count: int) -> Book:
        """For so many items."""
        return cls([b""] * count, [(0, 0)] * count, np.zeros((count, SIDE, SIDE, 3), np.uint8))


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of a run's pictures once all were read. `rows`: of the usable ones; the lists go by them."""

    rows: NDArray[np.int64]
    labels: list[str]
    splits: list[str]
    digests: list[bytes]
    census: Census
    findings: list[dict[str, Any]]
    failures: list[Failure]

    def of(self, split: str) -> NDArray[np.int64]:
        """Places (not rows) of the usable pictures of one split."""
        return np.flatnonzero(np.array(self.splits) == split)


def read_all(
    request: Request, items: Sequence[TrainingItem], preprocessing: Preprocessing, book: Book, tell: Tell
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Read and decode every item; yields (row, pixels uint8 [H, W, C]) of each that can be, and fills the book."""
    reader = Reader(request.max_bytes, Path(request.cache_folder) / "archives")
    root = base64.b64decode(request.root)

    def read(row: int) -> tuple[int, NDArray[np.uint8] | None]:
        try:
            content = reader.read(items[row].location(root, confined=request.confined))
            book.digests[row] = content.digest
            picture = load_picture(content.data, preprocessing, request.max_pixels)
        except DECODING_ERRORS as error:
            failed = of_decoding(items[row].idx, error)
            book.failures.append(Failure(row, failed.error_code or "", failed.error or ""))
            return row, None
        book.sizes[row] = (picture.width, picture.height)
        book.thumbnails[row] = thumbnail(picture.pixels)
        return row, picture.pixels

    done = 0
    for chunk in _ahead(lambda first: [read(row) for row in _chunk(first, len(items))], len(items), request.threads):
        for row, pixels in chunk:
            if pixels is not None:
                yield row, pixels
        done += len(chunk)
        tell(done)


def _chunk(first: int, count: int) -> range:
    return range(first, min(first + CHUNK, count))


def _ahead(
    work: Callable[[int], list[tuple[int, NDArray[np.uint8] | None]]], count: int, threads: int
) -> Iterator[list[tuple[int, NDArray[np.uint8] | None]]]:
    """The chunks in order, read by threads that are only so far ahead: memory stays flat."""
    pool = ThreadPoolExecutor(threads, "decode")
    waiting: deque[Future[list[tuple[int, NDArray[np.uint8] | None]]]] = deque()
    try:
        for first in range(0, count, CHUNK):
            waiting.append(pool.submit(work, first))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def conclude(request: Request, items: Sequence[TrainingItem], book: Book) -> Survey:
    """Split what was read, and look for copies. Raises InvalidRecipe for a split that is no known word."""
    unusable = {failure.row for failure in book.failures}
    rows = np.array([row for row in range(len(items)) if row not in unusable], np.int64)
    kept = [items[row] for row in rows]
    labels, digests = [item.label for item in kept], [book.digests[row] for row in rows]
    pairs = find_pairs(book.thumbnails[rows], digests)
    groups = join([item.group for item in kept], [(pair.a, pair.b) for pair in pairs])
    splits = list(assign(labels, [item.split for item in kept], groups, digests, request.recipe.split))
    sizes = [book.sizes[row] for row in rows]
    census = take_census(labels, splits, sizes, [failure.code for failure in book.failures], pairs)
    found = _Findings(kept, splits)
    torn = torn_groups(kept, splits)
    found.add_torn(torn)
    found.add_all(pairs, census, labels)
    census = replace(census, leaks=census.leaks + len(torn))
    failures = sorted(book.failures, key=lambda failure: failure.row)
    return Survey(rows, labels, [str(split) for split in splits], digests, census, found.rows, failures)


def torn_groups(items: Sequence[TrainingItem], splits: Sequence[str]) -> list[tuple[int, int]]:
    """Held-out items, each with one of those that are trained on which belongs to the same group of their owner's."""
    trained: dict[str, int] = {}
    for place, (item, split) in enumerate(zip(items, splits, strict=True)):
        if item.group is not None and split == "train":
            trained.setdefault(item.group, place)
    return [
        (place, trained[item.group])
        for place, (item, split) in enumerate(zip(items, splits, strict=True))
        if item.group is not None and item.group in trained and split != "train"
    ]


class _Findings:
    """What a person should know of the data, as rows."""

    def __init__(self, items: Sequence[TrainingItem], splits: Sequence[str]) -> None:
        self._items = items
        self._splits = splits
        self.rows: list[dict[str, Any]] = []

    def add_all(self, pairs: Sequence[Pair], census: Census, labels: Sequence[str]) -> None:
        for leak in leaks(pairs, self._splits):
            self._add("leak", leak.held_out, leak.other, leak.distance)
        for pair in conflicts(pairs, labels):
            self._add("label_conflict", pair.a, pair.b, pair.distance)
        for pair in pairs:
            self._add("duplicate" if pair.kind == "identical" else "near_duplicate", pair.a, pair.b, pair.distance)
        for label, images in census.small.items():
            self.rows.append({"kind": "small_class", "detail": f"{label}: {images} training pictures"})

    def add_torn(self, torn: Sequence[tuple[int, int]]) -> None:
        for held_out, trained in torn:
            first, second = self._items[held_out], self._items[trained]
            detail = f"the same group {first.group}"
            self.rows.append({"kind": "leak", "idx": first.idx, "other_idx": second.idx, "detail": detail})

    def _add(self, kind: str, a: int, b: int, distance: float) -> None:
        first, second = self._items[a].idx, self._items[b].idx
        self.rows.append({"kind": kind, "idx": first, "other_idx": second, "distance": distance})


def fingerprint(survey: Survey, items: Sequence[TrainingItem]) -> str:
    """SHA-256 hex over what was trained on: paths, contents, labels and splits, whatever their order."""
    lines = sorted(
        b"\0".join((items[row].path, (items[row].member or "").encode(), digest, label.encode(), split.encode()))
        for row, digest, label, split in zip(survey.rows, survey.digests, survey.labels, survey.splits, strict=True)
    )
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def save(survey: Survey, items: Sequence[TrainingItem], path: Path) -> None:
    """Write it down, for the station and for later attempts."""
    usable = zip(survey.rows.tolist(), survey.splits, survey.digests, strict=True)
    values = {
        "items": [[row, items[row].idx, split, digest.hex(), items[row].group] for row, split, digest in usable],
        "failures": [[f.row, items[f.row].idx, f.code, f.message] for f in survey.failures],
        "findings": survey.findings,
        "census": survey.census.to_json(),
        "fingerprint": fingerprint(survey, items),
    }
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(json.dumps(values), encoding="utf-8")
    sync(aside)
    aside.replace(path)


def load(path: Path, items: Sequence[TrainingItem]) -> Survey:
    """Read back what `save` wrote."""
    values = json.loads(path.read_text(encoding="utf-8"))
    usable = values["items"]
    return Survey(
        rows=np.array([row for row, *_ in usable], np.int64),
        labels=[items[row].label for row, *_ in usable],
        splits=[split for _row, _idx, split, _digest, _group in usable],
        digests=[bytes.fromhex(digest) for _row, _idx, _split, digest, _group in usable],
        census=Census.from_json(values["census"]),
        findings=values["findings"],
        failures=[Failure(row, code, message) for row, _idx, code, message in values["failures"]],
    )


def check(survey: Survey, items: Sequence[TrainingItem], recipe: Recipe) -> None:
    """Raise InvalidRecipe where too little can be read to train on; a class without a readable file counts too."""
    counts = count(survey.labels, survey.splits)
    for label in {item.label for item in items} - counts.keys():
        counts[label] = {"train": 0}
    problems(counts, recipe)
