"""A job that PostgreSQL's statistics do not know yet, beside one that they do: its indexes are used all the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import delete, event, func, select

from store import jobs
from store import query as module
from store.catalog import register_model
from store.claims import Claimer, claim
from store.columns import all_of
from store.database import Database
from store.insights import items_left
from store.item_query import ItemFilter, items_page
from store.measurements import answers
from store.query import page
from store.results import Filter, stream
from store.rows import NewItem, NewJob
from store.tables import results
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


def test_what_counts_a_whole_job_lets_the_planner_see_which(unknown: tuple[Database, int]) -> None:
    database, _ = unknown
    with database.read() as connection:
        for statement in (
            select(func.count()).select_from(results).where(results.c.job_id == all_of(7)),
            delete(results).where(results.c.job_id == all_of(7)),
        ):
            said = str(statement.compile(connection, compile_kwargs={"literal_binds": True}))
            found = "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {said}"))
            assert "InitPlan" not in found
            assert "Seq Scan" not in found


def test_no_small_job_is_looked_for_in_the_whole_table(postgres: str) -> None:
    database = Database(new_postgres_database(postgres))
    model = register_model(database, ("birds", 1), "1" * 64, ["a"], "{}", "/models/birds")
    for count in (3000, 60):  # of one label, as where nobody sorted the folders
        found = (NewItem(b"%d.jpg" % n, label="a") for n in range(count))
        job = jobs.accept(database, NewJob(model, root=b"/more"), found)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE items" if count == 3000 else "SELECT 1")
    seen: list[tuple[str, Any]] = []
    with note_statements(database, seen):
        page(database, job, Filter(true_label="a"), "item", 50)
    with database.read() as connection:
        plans = [row[0] for said, values in seen for row in connection.exec_driver_sql(f"EXPLAIN {said}", values)]
    assert not [line for line in plans if "Seq Scan on items" in line]
    database.close()


@contextmanager
def note_statements(database: Database, seen: list[tuple[str, Any]]) -> Iterator[None]:
    def note(_c: object, _cur: object, statement: str, parameters: object, _ctx: object, _many: bool) -> None:
        seen.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    yield
    event.remove(database.engine, "before_cursor_execute", note)
