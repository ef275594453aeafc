"""A job that PostgreSQL's statistics do not know yet, beside one that they do: its indexes are used all the same.

The plans are those of the product's own statements under its own settings (docs/decisions/0009).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from store import jobs
from store import query as module
from store.catalog import register_model
from store.claims import Claimer, claim
from store.database import Database
from store.evaluations import flips
from store.insights import items_left
from store.item_query import ItemFilter, items_page
from store.measurements import answers
from store.query import page
from store.results import Filter, stream
from store.rows import NewItem, NewJob
from store.sweep import finish_jobs
from tests.mixed_results import mixed_job
from tests.servers import new_postgres_database
from tests.store.statements import noted

VIEWS = ("v_results", "v_failures", "v_corrections", "v_confusion", "v_calibration", "v_mistakes", "v_evaluations")


def new_database(postgres: str) -> Database:
    """Without a helper that would analyze a new job behind a test's back."""
    database = Database(new_postgres_database(postgres))
    with database.write() as connection:
        for table in ("items", "results"):
            connection.exec_driver_sql(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    return database


def analyze(database: Database) -> None:
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


@pytest.fixture(scope="module")
def unknown(postgres: str) -> Iterator[tuple[Database, int]]:
    """A database, and a job in it that came after the last ANALYZE: classified in part."""
    database = new_database(postgres)
    mixed_job(database, 3000)
    analyze(database)
    yield database, mixed_job(database, 600, done=500)
    database.close()


def plan(database: Database, action: Callable[[], object]) -> str:
    """The plans of all that an action asks of items and results, with the settings that it has made itself."""
    seen = noted(database, action)
    with database.read("SET TRANSACTION READ ONLY") as connection:
        return "\n".join(line for said, values in seen for line in _explain(connection, said, values))


def _explain(connection: Any, said: str, values: Any) -> Iterator[str]:
    if said.startswith("SET LOCAL"):
        connection.exec_driver_sql(said)
    elif re.search(r"\b(items|results|v_\w+)\b", said) and said.split(maxsplit=1)[0] in {
        "SELECT",
        "WITH",
        "UPDATE",
        "DELETE",
    }:
        yield from (row[0] for row in connection.exec_driver_sql(f"EXPLAIN {said}", values))


def conditions(found: str, index: str) -> list[str]:
    """What each scan of an index looks up in it; a column of the job alone reads all of the job. At least one."""
    lines = found.splitlines()
    there = [after.strip() for line, after in pairwise(lines) if re.search(rf"using {index} ", line)]
    assert there, found
    return there


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
    found = plan(database, lambda: page(database, job, Filter(label="wren"), "most_sure", 50))
    assert all("label =" in one for one in conditions(found, "ix_results_job_id_label_score_idx"))
    assert all("idx =" in one for one in conditions(found, "pk_items"))


def test_a_window_of_names_has_two_ends_that_the_planner_can_count_between(
    unknown: tuple[Database, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, job = unknown
    monkeypatch.setattr(module, "WINDOW", 10)
    monkeypatch.setattr(module, "FEW_NUMBERS", 0)
    monkeypatch.setattr(module, "FEW", 0)
    found = plan(database, lambda: page(database, job, Filter(glob="a/*1.jpg"), "item", 50))
    assert re.search(r"Index Cond: .*\(path >=.*\(path <=", found), found


def test_an_export_and_a_list_of_items_look_each_row_up(unknown: tuple[Database, int]) -> None:
    database, job = unknown
    found = plan(database, lambda: list(stream(database, job)))
    assert all("idx =" in one for one in conditions(found, "pk_items"))
    found = plan(database, lambda: items_page(database, job, ItemFilter()))
    assert all("idx =" in one for one in conditions(found, "pk_results"))


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_looks_each_item_up(unknown: tuple[Database, int], view: str) -> None:
    database, job = unknown
    found = plan(database, lambda: query(database, f"SELECT COUNT(*) FROM {view} WHERE job_id = {job}"))
    assert all("idx =" in one for one in conditions(found, "pk_items"))


def query(database: Database, said: str) -> None:
    with database.read() as connection:
        connection.exec_driver_sql(said)


def test_a_measurement_looks_up_what_is_wrong(unknown: tuple[Database, int]) -> None:
    database, job = unknown
    found = conditions(plan(database, lambda: answers(database, job)), "pk_items")
    assert all("idx =" in one for one in found)


def test_what_counts_a_whole_job_lets_the_planner_see_which(postgres: str) -> None:
    database = new_database(postgres)
    mixed_job(database, 3000)
    analyze(database)
    job = mixed_job(database, 100)
    for action, count in ((lambda: finish_jobs(database), 1), (lambda: jobs.retry(database, job), 3)):
        found = plan(database, action)
        assert len(re.findall(r" on results.*\n +Index Cond: \(job_id = '?\d", found)) == count, found
        assert "Index Cond: (job_id = (InitPlan" not in found
    database.close()


def test_no_small_job_is_looked_for_in_the_whole_table(postgres: str) -> None:
    database = new_database(postgres)
    model = register_model(database, ("birds", 1), "1" * 64, ["a"], "{}", "/models/birds")
    for count in (3000, 60):  # of one label, as where nobody sorted the folders
        found = (NewItem(b"%d.jpg" % n, label="a") for n in range(count))
        job = jobs.accept(database, NewJob(model, root=b"/more"), found)
        if count == 3000:
            analyze(database)
    plans = plan(database, lambda: page(database, job, Filter(true_label="a"), "item", 50))
    assert not [line for line in plans.splitlines() if "Seq Scan on items" in line]
    database.close()


def test_two_small_jobs_are_compared_without_the_rows_of_the_others(postgres: str) -> None:
    database = new_database(postgres)
    mixed_job(database, 3000)
    first, second = mixed_job(database, 60), mixed_job(database, 60)
    analyze(database)
    found = plan(database, lambda: flips(database, first, second))
    scans = [after for line, after in pairwise(found.splitlines()) if re.search(r"Scan.* on (items|results)", line)]
    assert scans
    assert all("job_id = " in one for one in scans), found
    assert not re.search(r"Seq Scan on (items|results)", found), found
    database.close()
