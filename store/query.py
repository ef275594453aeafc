"""Pages of results in five orders: each query looks at a bounded number of rows of an index that fits.

Two ways lead to a page. Along an index that has the order and what it can of the filter, looking at WINDOW rows at the
most where something of the filter is left to check. Or, where the filter has a part that few rows fit, these few,
sorted. Never OFFSET from the start: a page begins behind the key of the last.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Select

from store.database import Database
from store.narrowing import Part
from store.question import Question, keyed, question
from store.results import Filter, Head, ResultRow, check_there, head_of, stream, to_row
from store.way import Key, Order, way_of

T = TypeVar("T")

WINDOW = 500  # rows of an index that are looked at in one query
PATIENCE_S = 0.005  # after which a page that is not full is answered as it is
PORTION = 1_000  # rows of a page where all are read
FEW = 500  # rows that are read whole and sorted
FEW_NUMBERS = 20_000  # rows of which only the numbers are read and sorted
BY_SCORE = frozenset({"least_sure", "most_sure", "most_wrong"})


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows, and the key to go on with; None at the end. A page may be empty and yet not the last."""

    rows: list[T]
    after: Key | None


def page(
    database: Database,
    job: int | Head,
    chosen: Filter,
    order: Order = "item",
    limit: int = 100,
    after: Key | None = None,
) -> Page[ResultRow]:
    """The next results of a job. Orders by score show classified images only. Raises UnknownJob.

    `after` is that of the page before, with the same filter and order; `key_kinds` says what it holds.
    """
    if order in BY_SCORE and (chosen.status == "failed" or (order == "most_wrong" and chosen.wrong is False)):
        return Page([], None)
    if order == "most_wrong":
        chosen = replace(chosen, wrong=True)
    patience = time.monotonic() + PATIENCE_S
    with database.read() as connection:
        head = head_of(connection, job)
        search = _Search(connection, question(connection, head.job_id, chosen, order))
        found = search.page(after, limit)
        while found.after is not None and len(found.rows) < limit and time.monotonic() < patience:
            more = search.page(found.after, limit - len(found.rows))
            found = Page(found.rows + more.rows, more.after)
        check_there(connection, job, found.rows)
    return Page([to_row(row, head) for row in found.rows], found.after)


def walk(database: Database, job_id: int, chosen: Filter | None = None, order: Order = "item") -> Iterator[ResultRow]:
    """Every matching result in an order, page by page in flat memory; `item` is by number, whatever the filter.

    No row comes twice, and none is left out that is there from the beginning. Raises UnknownJob before the first row.
    """
    if order == "item":
        yield from stream(database, job_id, chosen)
        return
    after: Key | None = None
    while True:
        found = page(database, job_id, chosen or Filter(), order, PORTION, after)
        yield from found.rows
        if found.after is None:
            return
        after = found.after


def key_kinds(chosen: Filter, order: Order) -> tuple[type, ...]:
    """The types of the values in a page's key."""
    return tuple(column.type.python_type for column in way_of(chosen, order).keys)


class _Search:
    """One page's queries, over the caller's connection."""

    def __init__(self, connection: Connection, asked: Question) -> None:
        self.connection, self.asked = connection, asked

    @cached_property
    def _few(self) -> Part | None:
        """The part of the job that fits, if it is small; it may be larger where only numbers are read of it.

        By number, the way itself is no such part: it is in order already.
        """
        asked = self.asked
        if not self._by_number:
            return asked.narrowest(self.connection, asked.parts, FEW)
        return asked.narrowest(self.connection, asked.others, FEW_NUMBERS)

    @property
    def _by_number(self) -> bool:
        return len(self.asked.way.keys) == 1

    def page(self, after: Key | None, limit: int) -> Page[Any]:
        """The rows that a page has, and the key to go on with; `limit` rows or those of one window."""
        asked, behind = self.asked, after is not None
        if not asked.left(asked.way.says):
            return self._cut(asked.along(after=behind, end=False), after, None, limit)
        if self._few is None:
            end = self._last(asked.last_of_window(after=behind), after)
            return self._cut(asked.along(after=behind, end=end is not None), after, end, limit)
        if self._by_number:
            return self._of_numbers(self._few, after, limit)
        return self._cut(asked.sorted(self._few, after=behind), after, None, limit)

    def _of_numbers(self, few: Part, after: Key | None, limit: int) -> Page[Any]:
        """Of a part of the job the next rows by number."""
        asked, behind = self.asked, after is not None
        left = bool(asked.left(few.says))
        end = self._last(asked.last_number(few, after=behind), after) if left else None
        return self._cut(asked.of_numbers(few, after=behind), after, end, limit, window=WINDOW if left else limit + 1)

    def _last(self, query: Select[Any], after: Key | None) -> Key | None:
        """The key at the end of a window; None where there are no more rows than that."""
        last = self.connection.execute(query, {**keyed("after", after), "before_last": WINDOW - 1}).first()
        return None if last is None else tuple(last)[-len(self.asked.way.keys) :]

    def _cut(self, query: Select[Any], after: Key | None, end: Key | None, limit: int, **more: int) -> Page[Any]:
        """The rows of a statement, up to `limit`; `end` is where it ends."""
        values = {**keyed("after", after), **keyed("end", end), "rows": limit + 1, **more}
        rows = self.connection.execute(query, values).all()
        if len(rows) > limit:
            return Page(list(rows[:limit]), tuple(getattr(rows[limit - 1], key.name) for key in self.asked.way.keys))
        return Page(list(rows), end)
