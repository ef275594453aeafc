"""A question's statements are put together once, whichever page is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
from sqlalchemy import Select

from store import facets, query, question
from store.database import Database
from store.question import REMEMBERED
from store.results import Filter, rows_query
from store.way import Order
from tests.databases import ready
from tests.mixed_results import mixed_job
from tests.store.statements import noted

QUESTIONS: list[tuple[Filter, Order]] = [
    (Filter(), "newest"),
    (Filter(label="wren"), "item"),
    (Filter(status="ok", true_label="wren"), "most_sure"),
    (Filter(min_score=0.2, max_score=0.4), "newest"),
    (Filter(glob="*1.jpg"), "least_sure"),
]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(ready(database_url))
    assert mixed_job(made, 600) == 1
    yield made
    made.close()


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The jobs for which a statement that reads rows was put together, from nothing."""
    noted: list[int] = []

    def counted(job: int, *first: Any) -> Select[Any]:
        noted.append(job)
        return rows_query(job, *first)

    monkeypatch.setattr(question, "rows_query", counted)
    question._question.cache_clear()
    return noted


def _pages(database: Database, chosen: Filter, order: Order, limit: int) -> list[list[int]]:
    found, after = list[list[int]](), None
    while not found or after is not None:
        page = query.page(database, 1, chosen, order, limit, after)
        found.append([row.idx for row in page.rows])
        after = page.after
    return found


@pytest.mark.parametrize(("chosen", "order"), QUESTIONS)
def test_page_after_page_is_asked_with_the_same_statements(
    database: Database, built: list[int], chosen: Filter, order: Order
) -> None:
    pages = _pages(database, chosen, order, 3)
    assert len(pages) > 10
    # With a key and without one, up to the end of a window and to that of the index.
    assert 0 < len(built) <= 4
    assert [*chain(*pages)] == [*chain(*_pages(database, chosen, order, 1_000))]


def test_counts_too(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[str] = []
    real = facets._row

    def counted(what: str, *rest: Any) -> Select[Any]:
        noted.append(what)
        return real(what, *rest)

    monkeypatch.setattr(facets, "_row", counted)
    question._question.cache_clear()
    chosen = Filter(label="wren", status="ok")
    assert facets.facets(database, 1, chosen) == facets.facets(database, 1, chosen)
    assert noted == ["label", "seen", "rest"]


def test_every_part_is_counted_by_one_statement(database: Database) -> None:
    chosen = Filter(label="wren", wrong=True, path_prefix="a/")
    said = [statement for statement, _ in noted(database, lambda: query.page(database, 1, chosen, "newest", 5))]
    (counts,) = (statement for statement in said if statement.startswith("SELECT (SELECT"))
    assert (counts.count("FROM tallies"), counts.count("FROM items")) == (2, 1)
    # The same numbers as one after the other: a part is chosen by them.
    with database.read() as connection:
        asked = question.question(connection, 1, chosen, "newest")
        sizes = [len(connection.execute(part.query).all()) for part in asked.parts]
        part = asked.narrowest(connection, asked.parts, max(sizes))
        assert asked.narrowest(connection, asked.parts, min(sizes) - 1) is None
    assert part is asked.parts[sizes.index(min(sizes))]
    assert min(sizes) < max(sizes)


def test_no_more_are_remembered_than_fit(database: Database) -> None:
    for n in range(REMEMBERED + 10):
        query.page(database, 1, Filter(min_score=n / 1000), "newest", 1)
    assert question._question.cache_info().currsize == REMEMBERED
