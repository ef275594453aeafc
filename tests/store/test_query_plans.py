"""Every listing goes along its index, asserted by EXPLAIN on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection

from store import query as module
from store.database import Database
from store.facets import facets, summary
from store.item_query import ItemFilter, items_page
from store.query import page
from store.results import Filter, stream
from store.way import Order
from tests.databases import ready
from tests.mixed_results import mixed_job
from tests.servers import new_postgres_database
from tests.store.statements import noted

JOB = 1


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Enough rows that PostgreSQL has a choice. Made once: no test here writes."""
    if request.param == "sqlite":
        url = ready(f"sqlite:///{tmp_path_factory.mktemp('rows')}/pixmill.db")
    else:
        url = new_postgres_database(request.getfixturevalue("postgres"))
    database = Database(url)
    assert mixed_job(database, 3000) == JOB
    if not database.is_sqlite:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")
    yield database
    database.close()


@pytest.fixture
def big(rows: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Those rows; small parts are not looked for unless a test says so."""
    monkeypatch.setattr(module, "FEW", 0)
    monkeypatch.setattr(module, "FEW_NUMBERS", 0)
    return rows


def plan(database: Database, action: Callable[[], object]) -> str:
    """The plans of every query that an action runs on results or items."""
    seen = noted(database, action)
    # 3,000 rows are few: what is asked is what it can.
    with database.read(*(f"SET LOCAL enable_{way} = off" for way in ("seqscan", "bitmapscan", "sort"))) as connection:
        return "\n".join(line for statement, parameters in seen for line in _explain(connection, statement, parameters))


def _explain(connection: Connection, statement: str, parameters: Any) -> Iterator[str]:
    if not any(f"FROM {name}" in statement for name in ("results", "items", "few", "seen")):
        return
    if connection.dialect.name == "sqlite":
        for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
            yield row[-1]
    else:
        for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters):
            yield row[0]


BY_INDEX: list[tuple[Order, Filter, str]] = [
    ("least_sure", Filter(), "ix_results_ok_score"),
    ("most_sure", Filter(min_score=0.2, max_score=0.9), "ix_results_ok_score"),
    ("least_sure", Filter(label="wren"), "ix_results_job_id_label_score_idx"),
    ("most_sure", Filter(label="wren", min_score=0.2), "ix_results_job_id_label_score_idx"),
    ("most_wrong", Filter(), "ix_results_wrong_score"),
    ("least_sure", Filter(wrong=True), "ix_results_wrong_score"),
    ("newest", Filter(), "ix_results_job_id_created_at_idx"),
    ("item", Filter(path_prefix="a/"), "ix_items_job_id_path_idx"),
    ("item", Filter(glob="a/*1.jpg"), "ix_items_job_id_path_idx"),
    # What is left to check is checked along the same index, never by another.
    ("least_sure", Filter(true_label="wren"), "ix_results_ok_score"),
    ("most_sure", Filter(corrected=True), "ix_results_ok_score"),
    ("newest", Filter(label="wren", path_prefix="a"), "ix_results_job_id_created_at_idx"),
    ("item", Filter(path_prefix="a/", label="wren", true_label="wren"), "ix_items_job_id_path_idx"),
]


@pytest.mark.parametrize(("order", "chosen", "index"), BY_INDEX)
def test_a_listing_goes_along_its_index_and_sorts_nothing(
    big: Database, order: Order, chosen: Filter, index: str
) -> None:
    found = plan(big, lambda: page(big, JOB, chosen, order, 50))
    assert index in found
    assert "FOR ORDER BY" not in found
    assert {line.split(": ")[1] for line in found.splitlines() if "Sort Key" in line} <= {"corrections.id DESC"}
    assert "SCAN results" not in found
    assert "SCAN items" not in found
    assert "Seq Scan on results" not in found
    assert "Seq Scan on items" not in found


@pytest.mark.parametrize("chosen", [Filter(), Filter(status="ok"), Filter(glob="*1.jpg"), Filter(corrected=False)])
def test_a_listing_by_number_goes_along_the_key(big: Database, chosen: Filter) -> None:
    found = plan(big, lambda: page(big, JOB, chosen, "item", 50))
    assert "results USING PRIMARY KEY" in found or "using pk_results on results" in found
    assert "FOR ORDER BY" not in found


FEW: list[tuple[Filter, str]] = [
    (Filter(label="wren"), "ix_results_job_id_label_score_idx"),
    (Filter(error_code="empty"), "ix_results_failed_error_code"),
    (Filter(status="failed"), "ix_results_failed_error_code"),
    (Filter(wrong=True), "ix_results_wrong_score"),
    (Filter(true_label="wren"), "ix_items_job_id_label_idx"),
    (Filter(min_score=0.5, max_score=0.55), "ix_results_ok_score"),
    (Filter(corrected=True), "ix_corrections_job_id_idx_id"),
    (Filter(correction="owl"), "ix_corrections_job_id_idx_id"),
]


@pytest.mark.parametrize(("chosen", "index"), FEW)
def test_a_small_part_is_found_by_its_index_and_read_by_its_keys(
    big: Database, monkeypatch: pytest.MonkeyPatch, chosen: Filter, index: str
) -> None:
    monkeypatch.setattr(module, "FEW_NUMBERS", 100_000)
    found = plan(big, lambda: page(big, JOB, chosen, "item", 50))
    assert index in found
    assert "SCAN results" not in found
    assert "SCAN items" not in found
    if big.is_sqlite:
        assert "SEARCH results USING PRIMARY KEY (job_id=? AND idx=?)" in found
        assert "SEARCH results USING PRIMARY KEY (job_id=?)" not in found


def test_counts_read_rows_by_their_keys(big: Database) -> None:
    for chosen in (Filter(label="wren"), Filter(true_label="wren", wrong=True), Filter(path_prefix="a/")):
        found = plan(big, lambda chosen=chosen: facets(big, JOB, chosen))  # type: ignore[misc]  # bound now
        assert "SCAN results" not in found
        assert "Seq Scan on results" not in found
        assert "AUTOMATIC" not in found


@pytest.mark.parametrize(
    ("chosen", "late"), [(Filter(label="wren"), True), (Filter(label="wren", glob="*1.jpg"), False)]
)
def test_of_a_small_part_the_items_of_one_page_are_read_unless_they_are_asked_for(
    rows: Database, monkeypatch: pytest.MonkeyPatch, chosen: Filter, late: bool
) -> None:
    monkeypatch.setattr(module, "FEW", 100_000)
    *_, (statement, _) = noted(rows, lambda: page(rows, JOB, chosen, "newest", 5))
    chosen_first, _, shown = statement.partition("page AS MATERIALIZED")
    assert bool(shown) is late
    assert ("items" in chosen_first) is not late
    every = page(rows, JOB, chosen, "newest", 1_000).rows
    assert every == sorted(every, key=lambda row: (row.created_at, row.idx), reverse=True)
    assert page(rows, JOB, chosen, "newest", 5).rows == every[:5]


def test_counts_read_no_result_of_an_item_that_does_not_fit(big: Database) -> None:
    said = noted(big, lambda: facets(big, JOB, Filter(glob="*1.jpg", wrong=True)))
    (fit,) = (statement.partition("fit AS")[2] for statement, _ in said if "fit AS" in statement)
    assert fit.index("items.idx = seen.idx") < fit.index("results.idx = seen.idx")


def test_results_of_a_true_label_are_neither_counted_nor_sorted_in_postgresql(rows: Database) -> None:
    """Its index has them by number. SQLite would take the key of the whole job for that, so it sorts the numbers."""
    said = [statement for statement, _ in noted(rows, lambda: page(rows, JOB, Filter(true_label="wren"), "item", 50))]
    sorted_first = any("few" in statement for statement in said)
    assert sorted_first is rows.is_sqlite
    if not rows.is_sqlite:
        assert len(said) == 2  # the job and the page


def test_of_a_part_by_number_nothing_but_the_number_is_sorted(rows: Database) -> None:
    """PostgreSQL sorts one number as it is, and makes a row in memory of two."""
    if rows.is_sqlite:
        pytest.skip("SQLite sorts rows only")
    chosen = Filter(label="wren", min_score=0.1)
    (asked,) = (said for said in noted(rows, lambda: page(rows, JOB, chosen, "item", 50)) if "few AS" in said[0])
    with rows.read() as connection:
        lines = [line for (line,) in connection.exec_driver_sql(f"EXPLAIN (VERBOSE) {asked[0]}", asked[1])]
    part = lines[next(n for n, line in enumerate(lines) if "CTE few" in line) :]
    output = next(line for n, line in enumerate(part) if "->  Sort" in part[n - 1])
    assert output.strip().startswith("Output: ((results")
    assert "," not in output


def test_a_summary_looks_at_no_result_but_the_examples(big: Database) -> None:
    found = plan(big, lambda: summary(big, JOB))
    assert "ix_results_failed_error_code" in found or big.is_sqlite
    assert "Seq Scan" not in found
    assert "SCAN results" not in found


def test_an_export_goes_along_the_key_whatever_its_filter(big: Database) -> None:
    for chosen in (Filter(), Filter(label="wren"), Filter(wrong=True, min_score=0.5), Filter(path_prefix="a/")):
        found = plan(big, lambda chosen=chosen: list(stream(big, JOB, chosen)))  # type: ignore[misc]  # bound now
        assert "results USING PRIMARY KEY" in found or "using pk_results on results" in found
        assert "ix_results_job_id_label_score_idx" not in found


def test_items_are_listed_along_their_keys(big: Database) -> None:
    assert "pk_items" in (found := plan(big, lambda: items_page(big, JOB, ItemFilter()))) or "PRIMARY KEY" in found
    assert "ix_items_job_id_path_idx" in plan(big, lambda: items_page(big, JOB, ItemFilter(path_prefix="a/")))
