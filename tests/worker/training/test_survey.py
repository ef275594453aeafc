"""The first look at a run's pictures: what is read, what fails by name, what is found, and how it is kept."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.errors import InvalidRecipe
from models.manifest import Preprocessing
from tests.worker.training.conftest import items_of
from worker.training import survey as surveys
from worker.training.request import Request, TrainingItem, read_items, write_items
from worker.training.survey import Book, Survey, read_all

SMALL = Preprocessing(width=16, height=16, crop="squash")


def look(request: Request, items: list[TrainingItem]) -> tuple[Survey, dict[int, np.ndarray]]:
    book = Book.empty(len(items))
    pixels = dict(read_all(request, items, SMALL, book, lambda _: None))
    return surveys.conclude(request, items, book), pixels


def test_every_readable_picture_is_split_and_every_other_one_named(request_of_run: Request, dataset: Path) -> None:
    (dataset / "train" / "apple" / "empty.png").touch()
    (dataset / "test" / "brick" / "text.png").write_text("no picture")
    items = items_of(dataset)
    survey, pixels = look(request_of_run, items)
    assert len(survey.rows) == len(pixels) == 36
    named = {(Path(os.fsdecode(items[f.row].path)).name, f.code) for f in survey.failures}
    assert named == {("empty.png", "empty"), ("text.png", "not_image")}
    splits = {split: len(survey.of(split)) for split in ("train", "val", "test")}
    assert splits["test"] == 12
    assert splits["train"] + splits["val"] == 24
    assert splits["val"] >= 3
    assert survey.census.leaks == 0


def test_a_copy_across_the_splits_is_a_finding_with_both_its_places(request_of_run: Request, dataset: Path) -> None:
    shutil.copyfile(dataset / "train/cloud/0001.png", dataset / "test/cloud/copy.png")
    items = items_of(dataset)
    survey, _ = look(request_of_run, items)
    (leak,) = [finding for finding in survey.findings if finding["kind"] == "leak"]
    names = {item.idx: item.name for item in items}
    assert names[leak["idx"]] == "test/cloud/copy.png"
    assert names[leak["other_idx"]] == "train/cloud/0001.png"
    assert survey.census.leaks == 1


def test_a_group_on_two_sides_of_a_given_split_is_a_leak(request_of_run: Request, dataset: Path) -> None:
    items = [replace(item, group=f"camera {item.idx % 5}") for item in items_of(dataset)]
    survey, _ = look(request_of_run, items)
    torn = [finding for finding in survey.findings if finding["kind"] == "leak"]
    assert len(torn) == survey.census.leaks == 12
    assert "camera" in torn[0]["detail"]
    alone = [replace(item, group=f"{item.split} {item.idx % 5}") for item in items_of(dataset)]
    assert look(request_of_run, alone)[0].census.leaks == 0


def test_a_survey_that_was_saved_is_the_same_when_it_is_loaded(request_of_run: Request, dataset: Path) -> None:
    (dataset / "train" / "apple" / "empty.png").touch()
    items = items_of(dataset)
    survey, _ = look(request_of_run, items)
    path = Path(request_of_run.folder) / "survey.json"
    surveys.save(survey, items, path)
    again = surveys.load(path, items)
    assert (again.labels, again.splits, again.digests) == (survey.labels, survey.splits, survey.digests)
    assert again.rows.tolist() == survey.rows.tolist()
    assert (again.failures, again.findings) == (survey.failures, survey.findings)
    assert again.census == survey.census


def test_the_fingerprint_is_that_of_the_data_and_not_of_their_order(request_of_run: Request, dataset: Path) -> None:
    items = items_of(dataset)
    survey, _ = look(request_of_run, items)
    turned = items[::-1]
    backwards, _ = look(request_of_run, turned)
    before = surveys.fingerprint(survey, items)
    assert surveys.fingerprint(backwards, turned) == before
    shutil.copyfile(dataset / "train/apple/0000.png", dataset / "train/apple/0001.png")
    changed, _ = look(request_of_run, items_of(dataset))
    assert surveys.fingerprint(changed, items_of(dataset)) != before


def test_too_few_readable_pictures_of_a_class_are_refused_with_its_name(request_of_run: Request, dataset: Path) -> None:
    for file in (dataset / "train" / "brick").iterdir():
        file.write_bytes(b"")
    items = items_of(dataset)
    survey, _ = look(request_of_run, items)  # what was found can be told all the same
    assert len(survey.failures) == 8
    with pytest.raises(InvalidRecipe, match="brick"):
        surveys.check(survey, items, request_of_run.recipe)


def test_items_keep_names_that_are_not_text(tmp_path: Path) -> None:
    item = TrainingItem(3, b"caf\xe9/\xff.png", 7, 8, None, None, "x", "train", "g1")
    write_items(tmp_path / "items.jsonl", iter([item]))
    assert list(read_items(tmp_path / "items.jsonl")) == [item]


def test_a_request_comes_through_json_as_it_was(request_of_run: Request) -> None:
    assert Request.from_json(json.loads(json.dumps(request_of_run.to_json()))) == request_of_run


def test_reading_stays_only_so_far_ahead(request_of_run: Request, dataset: Path) -> None:
    """A consumer that takes one picture has not made the reader read them all: memory stays flat."""
    items = items_of(dataset) * 40
    done: list[int] = []
    stream: Iterator[object] = read_all(request_of_run, items, SMALL, Book.empty(len(items)), done.append)
    next(stream)
    read = sum(1 for digest in _digests(stream) if digest)
    assert 0 < read < len(items) / 2


def _digests(stream: Iterator[object]) -> list[bytes]:
    book: Book = stream.gi_frame.f_locals["book"]  # type: ignore[attr-defined]  # what the generator has noted so far
    return list(book.digests)
