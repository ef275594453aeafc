"""The pipeline: every item comes out once, and a bad one costs no neighbour its result."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.engines.base import Batch
from models.engines.fake import FakeEngine
from models.manifest import Preprocessing
from store.memory import Known
from store.rows import NewResult
from worker.answers import Answers
from worker.pipeline import Chunk, Pipeline, Row
from worker.preparing import Preparer, Recall, Wanted
from worker.reading import Location, Reader
from worker.twins import Twins

LABELS = ("robin", "wren", "owl")
SMALL = Preprocessing(width=16, height=16)


def write_images(folder: Path, count: int) -> None:
    for n in range(count):
        pixels = np.random.default_rng(n).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{n:04}.png")


def wanted(folder: Path) -> list[Wanted]:
    return [
        Wanted(n, Location(os.fsencode(folder), os.fsencode(path.name), True, None, None), None)
        for n, path in enumerate(sorted(folder.iterdir()))
    ]


def run(
    folder: Path, engine: FakeEngine, *, recall: Recall | None = None, twins: Twins | None = None, threads: int = 3
) -> tuple[dict[int, NewResult], Pipeline]:
    preparer = Preparer(Reader(), SMALL, max_pixels=10**6, recall=recall, twins=twins)
    pipeline = Pipeline(engine, preparer, Answers(LABELS, 2), threads=threads)
    items = wanted(folder)
    chunks = (Chunk(str(n % 3), items[start : start + 5]) for n, start in enumerate(range(0, len(items), 5)))
    rows: list[Row] = []
    pipeline.run(chunks, rows.extend)
    assert len(rows) == len({row.idx for _, row in rows})
    return {row.idx: row for _, row in rows}, pipeline


def expected(folder: Path) -> dict[int, str | None]:
    """The label of each image when it is classified alone."""
    rows = {}
    for n, path in enumerate(sorted(folder.iterdir())):
        alone = folder.parent / f"alone-{n}"
        alone.mkdir()
        (alone / path.name).write_bytes(path.read_bytes())
        rows[n] = run(alone, FakeEngine(LABELS))[0][0].label
    return rows


def test_every_image_gets_the_answer_it_gets_alone(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    write_images(folder, 43)
    rows, _ = run(folder, FakeEngine(LABELS, batch_size=8))
    assert {idx: row.label for idx, row in rows.items()} == expected(folder)
    assert len({row.label for row in rows.values()}) == 3


def test_a_row_says_label_scores_hash_and_size(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    row = run(tmp_path, FakeEngine(LABELS))[0][0]
    assert (row.status, row.width, row.height, row.reused) == ("ok", 24, 20, False)
    assert row.topk is not None
    assert row.topk.startswith(f'[{{"label": "{row.label}", "score": {row.score}}}, {{"label": ')
    assert row.content_hash is not None
    assert len(row.content_hash) == 16


def test_broken_files_become_rows_between_good_ones(tmp_path: Path) -> None:
    write_images(tmp_path, 20)
    whole = (tmp_path / "0003.png").read_bytes()
    (tmp_path / "0003.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "0007.png").write_bytes(b"no picture at all")
    (tmp_path / "0011.png").write_bytes(b"")
    rows, _ = run(tmp_path, FakeEngine(LABELS, batch_size=4))
    codes = {idx: row.error_code for idx, row in rows.items() if row.status == "failed"}
    assert codes == {3: "truncated", 7: "not_image", 11: "empty"}
    assert len(rows) == 20


def test_out_of_memory_halves_the_batch_and_remembers(tmp_path: Path) -> None:
    write_images(tmp_path, 32)
    rows, pipeline = run(tmp_path, FakeEngine(LABELS, batch_size=16, parallel=1, out_of_memory_above=5))
    assert {row.status for row in rows.values()} == {"ok"}
    assert pipeline.batch_size == 4


def test_an_image_that_fits_no_batch_is_out_of_memory_alone(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    rows, _ = run(tmp_path, FakeEngine(LABELS, out_of_memory_above=0))
    assert {row.error_code for row in rows.values()} == {"out_of_memory"}


def test_an_image_on_which_the_model_fails_is_isolated(tmp_path: Path) -> None:
    write_images(tmp_path, 30)
    Image.new("RGB", (16, 16), (1, 2, 3)).save(tmp_path / "0013.png")

    def poisoned(batch: Batch) -> bool:
        return any((image == (1, 2, 3)).all() for image in batch)

    rows, _ = run(tmp_path, FakeEngine(LABELS, batch_size=16, fail_on=poisoned))
    assert {idx: row.error_code for idx, row in rows.items() if row.status == "failed"} == {13: "model_error"}


class Counting(FakeEngine):
    """A stand-in that counts its images."""

    images = 0

    def predict(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        Counting.images += len(batch)
        return super().predict(batch)


def test_identical_files_run_once_and_each_gets_its_row(tmp_path: Path) -> None:
    write_images(tmp_path, 4)
    for n in range(4, 40):
        (tmp_path / f"{n:04}.png").write_bytes((tmp_path / f"{n % 4:04}.png").read_bytes())
    Counting.images = 0
    rows, _ = run(tmp_path, Counting(LABELS, batch_size=4), twins=Twins())
    assert Counting.images == 4
    assert len(rows) == 40
    assert all(rows[n].label == rows[n % 4].label for n in range(40))
    assert sum(row.reused for row in rows.values()) == 36


def test_identical_broken_files_all_say_why(tmp_path: Path) -> None:
    for n in range(9):
        (tmp_path / f"{n}.png").write_bytes(b"the same text")
    rows, _ = run(tmp_path, FakeEngine(LABELS), twins=Twins())
    assert [row.error_code for row in rows.values()] == ["not_image"] * 9


def test_known_contents_are_neither_decoded_nor_classified(tmp_path: Path) -> None:
    write_images(tmp_path, 6)
    Counting.images = 0
    known = Known("owl", 0.5, "[]", b"x" * 16, 1, 2)
    rows, _ = run(tmp_path, Counting(LABELS), recall=lambda keys: dict.fromkeys(keys, known), twins=Twins())
    assert Counting.images == 0
    assert {(row.label, row.reused) for row in rows.values()} == {("owl", True)}


def test_an_error_of_the_sink_ends_the_run(tmp_path: Path) -> None:
    write_images(tmp_path, 20)
    preparer = Preparer(Reader(), SMALL, max_pixels=10**6)
    pipeline = Pipeline(FakeEngine(LABELS, batch_size=2), preparer, Answers(LABELS, 1), threads=2)

    def full(rows: list[Row]) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        pipeline.run(iter([Chunk("1", wanted(tmp_path))]), full)


def test_reading_ahead_is_bounded(tmp_path: Path) -> None:
    """Ten thousand chunks wait; only a handful are taken while the engine has not answered."""
    write_images(tmp_path, 1)
    item, taken = wanted(tmp_path)[0], 0

    def endless() -> Iterator[Chunk]:
        nonlocal taken
        for n in range(10_000):
            taken += 1
            yield Chunk("1", [Wanted(n, item.location, None)] * 4)

    most = 0

    def sink(rows: list[Row]) -> None:
        nonlocal most
        most = max(most, taken)
        if rows:
            raise OSError("enough")

    engine = FakeEngine(LABELS, batch_size=4, delay_s=0.2)
    pipeline = Pipeline(engine, Preparer(Reader(), SMALL, max_pixels=10**6), Answers(LABELS, 1), threads=2)
    with pytest.raises(OSError, match="enough"):
        pipeline.run(endless(), sink)
    assert most < 40
