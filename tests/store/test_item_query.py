"""Items with what became of them, and results across jobs."""

import pytest

from store import across, item_query
from store.across import Scope, page_across
from store.database import Database
from store.errors import UnknownItem
from store.item_query import ItemFilter, item, items_page
from store.results import Filter
from store.way import Key
from tests.mixed_results import mixed_job


def numbers(database: Database, job: int, chosen: ItemFilter) -> list[int]:
    found: list[int] = []
    after: Key | None = None
    while True:
        part = items_page(database, job, chosen, 7, after)
        found += [row.idx for row in part.rows]
        if (after := part.after) is None:
            return found


def test_items_are_listed_with_and_without_a_result(database: Database) -> None:
    job = mixed_job(database, 48, done=20)
    rows = items_page(database, job, ItemFilter(), 100).rows
    assert [row.idx for row in rows] == list(range(48))
    assert [row.status for row in rows[18:22]] == ["ok", "ok", "pending", "pending"]
    assert rows[3].correction == "owl"
    assert rows[0].extra == {"camera": "x"}
    assert numbers(database, job, ItemFilter()) == list(range(48))
    assert numbers(database, job, ItemFilter(pending=True)) == list(range(20, 48))
    assert numbers(database, job, ItemFilter(true_label="wren")) == [
        row.idx for row in rows if row.true_label == "wren"
    ]
    of_folder = sorted((row.file_name.encode(), row.idx) for row in rows if row.file_name.startswith("b_%/"))
    assert numbers(database, job, ItemFilter(path_prefix="b_%/")) == [idx for _, idx in of_folder]


def test_items_of_a_true_label_come_alone_in_a_folder_and_without_a_result(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_query, "WINDOW", 5)
    job = mixed_job(database, 96, done=40)
    every = items_page(database, job, ItemFilter(), 100).rows
    wrens = [row for row in every if row.true_label == "wren"]
    in_folder = sorted((row.file_name.encode(), row.idx) for row in wrens if row.file_name.startswith("a/"))
    assert len(in_folder) > 3
    assert numbers(database, job, ItemFilter(true_label="wren")) == [row.idx for row in wrens]
    assert numbers(database, job, ItemFilter(true_label="wren", path_prefix="a/")) == [idx for _, idx in in_folder]
    pending = ItemFilter(true_label="wren", pending=True)
    assert numbers(database, job, pending) == [row.idx for row in wrens if row.idx >= 40]
    pending = ItemFilter(true_label="wren", pending=True, path_prefix="a/")
    assert numbers(database, job, pending) == [idx for _, idx in in_folder if idx >= 40]


def test_one_item_comes_with_its_result(database: Database) -> None:
    job = mixed_job(database, 48, done=20)
    found, result = item(database, job, 5)
    assert result is not None
    assert (found.status, found.error_code, result.error) == ("failed", "empty", "why 5")
    assert item(database, job, 30)[1] is None
    with pytest.raises(UnknownItem):
        item(database, job, 48)


def test_results_across_jobs_come_from_the_newest_job_on_and_only_from_the_callers(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(across, "JOBS", 2)
    monkeypatch.setattr(across, "PARTS", 1)
    first, second = mixed_job(database, 16, owner="anna"), mixed_job(database, 24, owner="ben")
    third, fourth = mixed_job(database, 8, owner="anna", version=2), mixed_job(database, 8, owner="anna")
    assert pages(database, Scope("anna"), Filter()) == [
        *((fourth, n) for n in range(8)),
        *((third, n) for n in range(8)),
        *((first, n) for n in range(16)),
    ]
    assert {job for job, _ in pages(database, Scope("anna", "birds@2"), Filter())} == {third}
    assert {job for job, _ in pages(database, Scope(None, "birds"), Filter())} == {first, second, third, fourth}
    wrens = pages(database, Scope(None), Filter(label="wren"))
    assert wrens[0] == (fourth, 3)
    assert {job for job, _ in wrens} == {first, second, third, fourth}
    assert not pages(database, Scope("eve"), Filter())


def pages(database: Database, scope: Scope, chosen: Filter) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    after: Key | None = None
    while True:
        part = page_across(database, scope, chosen, "item", 5, after)
        found += [(row.job_id, row.idx) for row in part.rows]
        if (after := part.after) is None:
            return found
