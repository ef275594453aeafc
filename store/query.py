"""Pages of results in five orders: each query looks at a bounded number of rows of an index that fits.

Two ways lead to a page. Along an index that has the order and what it can of the filter, looking at WINDOW rows at the
most where something of the filter is left to check. Or, where the filter has a part that few rows fit, these few,
sorted. Never OFFSET from the start: a page begins behind the key of the last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from operator import ge, gt, le, lt
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, literal, select, tuple_

from store.database import Database
from store.narrowing import Narrow, narrowest
from store.patterns import before_end, literal_prefix
from store.results import (
    OK,
    WRONG,
    Filter,
    Head,
    ResultRow,
    head_of,
    named_conditions,
    rows_query,
    score_range,
    stream,
    to_row,
)
from store.tables import items, results

Order = Literal["item", "least_sure", "most_sure", "most_wrong", "newest"]
Key = tuple[Any, ...]
T = TypeVar("T")
_Compare = Callable[[Any, Any], ColumnElement[bool]]

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


@dataclass(frozen=True, slots=True)
class Way:
    """An index to go along: its table, the columns of its order, what it answers of a filter, and in which words.

    `begin` and `finish` bound the way as a whole. A key takes their place: SQLite starts at one bound only, and it
    must be the nearer one.
    """

    table: FromClause
    keys: tuple[ColumnElement[Any], ...]
    descending: bool = False
    says: frozenset[str] = frozenset()
    where: tuple[ColumnElement[bool], ...] = ()
    begin: tuple[ColumnElement[bool], ...] = ()
    finish: tuple[ColumnElement[bool], ...] = ()

    def part(self, after: Key | None = None, end: Key | None = None) -> list[ColumnElement[bool]]:
        """What comes behind one key and up to another; all of the way without them."""
        first = self.begin if after is None else (self.behind(after),)
        last = self.finish if end is None else (self.until(end),)
        return [*self.where, *first, *last]

    def behind(self, key: Key) -> ColumnElement[bool]:
        """What comes after a key."""
        return self._compared(key, *((lt, le) if self.descending else (gt, ge)))

    def until(self, key: Key) -> ColumnElement[bool]:
        """What comes before a key, and the key itself."""
        return self._compared(key, *((ge, ge) if self.descending else (le, le)))

    @property
    def order(self) -> list[ColumnElement[Any]]:
        """What to sort by."""
        return [key.desc() if self.descending else key for key in self.keys]

    def _compared(self, key: Key, how: _Compare, first: _Compare) -> ColumnElement[bool]:
        """As a tuple, and then by its first value again: PostgreSQL guesses how many rows are between two values only.

        In this order, because SQLite bounds its way by what comes first.
        """
        there = [literal(value, column.type) for value, column in zip(key, self.keys, strict=True)]
        compared = how(tuple_(*self.keys), tuple_(*there))
        return compared if len(there) == 1 else and_(compared, first(self.keys[0], there[0]))


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
    if order == "most_wrong":
        chosen = replace(chosen, wrong=True)
    if order in BY_SCORE and chosen.status == "failed":
        return Page([], None)
    patience = time.monotonic() + PATIENCE_S
    with database.read() as connection:
        head = head_of(connection, job)
        search = _Search(connection, head.job_id, chosen, order)
        found = search.page(after, limit)
        while found.after is not None and len(found.rows) < limit and time.monotonic() < patience:
            more = search.page(found.after, limit - len(found.rows))
            found = Page(found.rows + more.rows, more.after)
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


def way_of(chosen: Filter, order: Order) -> Way:
    """The index that has an order, and says the most of a filter."""
    if order == "newest":
        return Way(results, (results.c.created_at, results.c.idx), descending=True)
    return _along_items(chosen) if order == "item" else _along_scores(chosen, descending=order != "least_sure")


def _along_scores(chosen: Filter, *, descending: bool) -> Way:
    score, keys = results.c.score, (results.c.score, results.c.idx)
    low = score_range(replace(chosen, max_score=None), score)
    high = score_range(replace(chosen, min_score=None), score)
    begin, finish = (tuple(high), tuple(low)) if descending else (tuple(low), tuple(high))
    says, where = frozenset({"score", "status"}), (OK,)
    if chosen.label is not None:
        says, where = says | {"label"}, (and_(results.c.label == chosen.label, score.is_not(None)),)
    elif chosen.wrong:
        says, where = says | {"wrong"}, (WRONG,)
    return Way(results, keys, descending, says, where, begin, finish)


def _along_items(chosen: Filter) -> Way:
    prefix = chosen.path_prefix or literal_prefix(chosen.glob or "")
    return along_names(prefix, says=bool(chosen.path_prefix)) if prefix else Way(results, (results.c.idx,))


def along_names(prefix: str, *, says: bool = True) -> Way:
    """The index of the names that begin so."""
    path, said = items.c.path, frozenset({"path_prefix"} if says else ())
    return Way(items, (path, items.c.idx), says=said, begin=(path >= prefix,), finish=before_end(path, prefix))


class _Search:
    """One page's queries, in the caller's transaction."""

    def __init__(self, connection: Connection, job_id: int, chosen: Filter, order: Order) -> None:
        self.connection, self.job_id, self.chosen = connection, job_id, chosen
        self.way = way_of(chosen, order)

    @cached_property
    def _few(self) -> Narrow | None:
        """The part of the job that fits, if it is small; it may be larger where only numbers are read of it."""
        return narrowest(self.connection, self.job_id, self.chosen, FEW_NUMBERS if self._by_number else FEW)

    @property
    def _by_number(self) -> bool:
        return len(self.way.keys) == 1

    def page(self, after: Key | None, limit: int) -> Page[Any]:
        """The rows that a page has, and the key to go on with; `limit` rows or those of one window."""
        if not self._left(self.way.says):
            return self._along(after, None, limit)
        if self._few is None:
            return self._along(after, self._end(after), limit)
        if self._by_number:
            return self._of_numbers(self._few, after, limit)
        return self._sorted(self._few, after, limit)

    def _left(self, said: frozenset[str]) -> list[ColumnElement[bool]]:
        """What of the filter has to be checked row by row."""
        return [condition for name, condition in named_conditions(self.chosen) if name not in said]

    def _along(self, after: Key | None, end: Key | None, limit: int) -> Page[Any]:
        """The rows behind `after` and up to `end` in the order of the index."""
        way = self.way
        query = rows_query(self.job_id, way.table).where(*way.part(after, end), *self._left(way.says))
        return self._cut(query.order_by(*way.order), end, limit)

    def _end(self, after: Key | None) -> Key | None:
        """The key of the last row to look at; None where the index ends before."""
        keys: Select[Any] = select(*self.way.keys).where(self.way.table.c.job_id == self.job_id)
        query = keys.where(*self.way.part(after)).order_by(*self.way.order).offset(WINDOW - 1).limit(1)
        last = self.connection.execute(query).first()
        return None if last is None else tuple(last)

    def _of_numbers(self, few: Narrow, after: Key | None, limit: int) -> Page[Any]:
        """Of a part of the job the next rows by number: the part's index has the numbers, no row is read for them.

        The `+ 0` keeps SQLite from reading the whole job in the order of its key instead of the part in its index.
        """
        part = few.query.subquery()
        number = part.c.idx + 0
        keys = select(part.c.job_id, part.c.idx).order_by(number)
        if after is not None:
            keys = keys.where(number > after[0])
        left, end = self._left(few.says), None
        if left:
            last = self.connection.execute(keys.offset(WINDOW - 1).limit(1)).first()
            end = None if last is None else (last.idx,)
        first = keys.limit(WINDOW if left else limit + 1).cte("few").prefix_with("MATERIALIZED")
        return self._cut(rows_query(self.job_id, first).where(*left).order_by(first.c.idx), end, limit)

    def _sorted(self, few: Narrow, after: Key | None, limit: int) -> Page[Any]:
        """A small part of the job, read whole and sorted."""
        first = few.query.cte("few").prefix_with("MATERIALIZED")
        query = rows_query(self.job_id, first).where(*self.way.part(after), *self._left(few.says))
        return self._cut(query.order_by(*self.way.order), None, limit)

    def _cut(self, query: Select[Any], end: Key | None, limit: int) -> Page[Any]:
        rows = self.connection.execute(query.limit(limit + 1)).all()
        if len(rows) > limit:
            return Page(list(rows[:limit]), tuple(getattr(rows[limit - 1], key.name) for key in self.way.keys))
        return Page(list(rows), end)
