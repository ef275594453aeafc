"""Pages of results: whatever the order, the filter and the way there, all rows come once and in order."""

import pytest

from store import query
from store.database import Database
from store.errors import UnknownJob
from store.query import key_kinds, page
from store.results import Filter, stream
from store.way import Key, Order
from tests.mixed_results import FILTERS, expected, mixed_job

ORDERS: tuple[Order, ...] = ("item", "least_sure", "most_sure", "most_wrong", "newest")
# Every way to a page: all parts small enough to be read whole; none; and windows that end in the middle of a page.
WAYS = {"few": (50, 1000, 1000), "windows": (7, 0, 0), "numbers": (7, 0, 1000)}


def all_pages(database: Database, job: int, chosen: Filter, order: Order, limit: int) -> list[int]:
    found: list[int] = []
    after: Key | None = None
    for _ in range(1000):
        part = page(database, job, chosen, order, limit, after)
        assert len(part.rows) <= limit
        found += [row.idx for row in part.rows]
        after = part.after
        if after is None:
            return found
        assert tuple(map(type, after)) == key_kinds(chosen, order)
    raise AssertionError("the pages do not end")


@pytest.fixture(params=sorted(WAYS))
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    window, few, numbers = WAYS[request.param]
    monkeypatch.setattr(query, "WINDOW", window)
    monkeypatch.setattr(query, "FEW", few)
    monkeypatch.setattr(query, "FEW_NUMBERS", numbers)


@pytest.mark.usefixtures("_way")
def test_every_order_and_filter_gives_each_row_once_and_in_order(database: Database) -> None:
    mixed_job(database, 20)  # another job's rows must never show
    job = mixed_job(database)
    rows = list(stream(database, job))
    for name, chosen in FILTERS.items():
        for order in ORDERS:
            wanted = expected(rows, chosen, order)
            assert all_pages(database, job, chosen, order, 9) == wanted, (name, order)
    assert expected(rows, FILTERS["many"])


def test_an_export_chooses_the_same_rows_as_the_pages(database: Database) -> None:
    job = mixed_job(database)
    rows = list(stream(database, job))
    assert len(rows) == 120
    for name, chosen in FILTERS.items():
        numbers = [row.idx for row in stream(database, job, chosen)]
        assert numbers == sorted(expected(rows, chosen)), name


def test_a_page_without_patience_is_short_and_says_where_to_go_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "WINDOW", 10)
    monkeypatch.setattr(query, "FEW_NUMBERS", 0)
    monkeypatch.setattr(query, "PATIENCE_S", -1.0)
    job = mixed_job(database)
    found = page(database, job, Filter(glob="*.gif"), "item", 100)
    assert found.rows == []
    assert found.after == (9,)


def test_a_row_tells_its_correction_and_whether_it_agrees(database: Database) -> None:
    job = mixed_job(database)
    rows = {row.idx: row for row in page(database, job, Filter(), limit=120).rows}
    assert (rows[3].correction, rows[23].correction, rows[4].correction) == ("owl", None, None)
    assert (rows[1].agrees, rows[1].true_label, rows[1].label) == (True, "robin", "robin")
    assert (rows[9].agrees, rows[9].true_label, rows[9].label) == (False, "robin", "owl")
    assert rows[2].agrees is None
    assert rows[5].agrees is None


def test_pages_of_an_unknown_job_are_refused(database: Database) -> None:
    with pytest.raises(UnknownJob):
        page(database, 99, Filter())
