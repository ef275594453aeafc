"""A job that PostgreSQL's statistics do not know yet, beside one that they do: its indexes are used all the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import pytest

from store import jobs
from store import query as module
from store.claims import Claimer, claim
from store.database import Database
from store.insights import items_left
from store.item_query import ItemFilter, items_page
from store.measurements import answers
from store.query import page
from store.results import Filter, stream
from store.rows import NewItem, NewJob
from tests.mixed_results import mixed_job
from tests.servers import new_postgres_database
from tests.store.test_query_plans import plan


@pytest.fixture(scope="module")
def unknown(postgres: str) -> Iterator[tuple[Database, int]]:
    """A database, and a job in it that came after the last ANALYZE: classified in part."""
    database = Database(new_postgres_database(postgres))
    mixed_job(database, 3000)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    yield database, mixed_job(database, 600)
    database.close()


def conditions(found: str, index: str) -> list[str]:
    """What each scan of an index looks up in it; a column of the job alone reads all of the job."""
    lines = found.splitlines()
    return [after.strip() for line, after in pairwise(lines) if re.search(rf"using {index} ", line)]


def test_a_worker_reads_its_shard_and_not_the_job(unknown: tuple[Database, int]) -> None:
    database, _ = unknown
    jobs.accept(database, NewJob(1, root=b"/more", max_shard=16), (NewItem(b"%d.jpg" % n) for n in range(600)))
    lease = claim(database, Claimer("w"))
    assert lease
    found = plan(database, lambda: items_left(database, lease))
    for index in ("pk_items", "pk_results"):
        (condition,) = conditions(found, index)
        assert "idx >=" in condition
        assert "idx <" in condition


def test_a_page_finds_its_rows_by_the_index_of_its_filter_and_their_items_by_the_key(
    unknown: tuple[Database, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, job = unknown
    monkeypatch.setattr(module, "FEW_NUMBERS", 100_000)
    found = plan(database, lambda: page(database, job, Filter(label="wren"), "item", 50))
    assert all("label =" in one for one in conditions(found, "ix_results_job_id_label_score_idx"))
    for index in ("pk_items", "pk_results"):
        assert conditions(found, index)
        assert all("idx =" in one for one in conditions(found, index))


def test_a_window_of_names_has_two_ends_that_the_planner_can_count_between(
    unknown: tuple[Database, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, job = unknown
    monkeypatch.setattr(module, "WINDOW", 10)
    monkeypatch.setattr(module, "FEW_NUMBERS", 0)
    monkeypatch.setattr(module, "FEW", 0)
    found = plan(database, lambda: page(database, job, Filter(glob="a/*1.jpg"), "item", 50))
    assert [one for one in conditions(found, "ix_items_job_id_path_idx") if "(path <=" in one]


def test_an_export_reads_each_row_once(unknown: tuple[Database, int]) -> None:
    database, job = unknown
    found = plan(database, lambda: list(stream(database, job)))
    assert all("idx =" in one for one in conditions(found, "pk_items"))
    assert conditions(found, "pk_items")


def test_a_list_of_items_looks_each_result_up(unknown: tuple[Database, int]) -> None:
    database, job = unknown
    found = conditions(plan(database, lambda: items_page(database, job, ItemFilter())), "pk_results")
    assert found
    assert all("idx =" in one for one in found)


def test_the_views_look_each_item_up(unknown: tuple[Database, int]) -> None:
    database, job = unknown
    for view in ("v_results", "v_confusion", "v_calibration", "v_mistakes", "v_evaluations"):
        found = plan(database, lambda view=view: query_view(database, view, job))  # type: ignore[misc]  # bound now
        assert all("idx =" in one for one in conditions(found, "pk_items")), view
        assert "Join Filter: (r.idx = i.idx)" not in found


def query_view(database: Database, view: str, job: int) -> None:
    with database.read() as connection:
        connection.exec_driver_sql(f"SELECT COUNT(*) FROM {view} WHERE job_id = {job}")


def test_a_measurement_looks_up_what_is_wrong(unknown: tuple[Database, int]) -> None:
    database, job = unknown
    found = conditions(plan(database, lambda: answers(database, job)), "pk_items")
    assert found
    assert all("idx =" in one for one in found)
