"""The statements of one question about a job's results, each built once: a page differs from the last by its key only.

To put such a statement together, and to find its SQL again, takes longer than its answer. Whoever reads page after
page, or looks again and again at the first, asks the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache, partial, wraps
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import BindParameter, ColumnElement, Connection, Integer, Select, and_, bindparam, literal, select

from store.joining import InOrder
from store.narrowing import Part, counts_of, narrowest, parts_of
from store.results import OF_ITEMS, Filter, named_conditions, rows_query
from store.tables import results
from store.way import Key, Order, way_of

REMEMBERED = 128  # questions, a hundred kilobytes each, half as much again with their counts

P = ParamSpec("P")
T = TypeVar("T")

_ROWS = bindparam("rows", type_=Integer)
_WINDOW = bindparam("window", type_=Integer)
_BEFORE_LAST = bindparam("before_last", type_=Integer)


def _once(build: Callable[P, T]) -> Callable[P, T]:
    """Remember what a method of a Question builds."""

    @wraps(build)
    def built(*arguments: P.args, **named: P.kwargs) -> T:
        question: Any = arguments[0]
        key = (build.__name__, *arguments[1:], *named.items())
        found: T = question.once(key, partial(build, *arguments, **named))
        return found

    return built


class Question:
    """A filter and an order. Statements take `rows`, `window`, and keys as `keyed` gives them. Thread-safe."""

    def __init__(self, job_id: int, chosen: Filter, order: Order, *, by_label: bool) -> None:
        self.job_id, self.chosen = job_id, chosen
        self.way = way_of(chosen, order, by_label=by_label)
        self._built: dict[Any, Any] = {}
        self._after, self._end = self._places("after"), self._places("end")

    def _places(self, name: str) -> tuple[BindParameter[Any], ...]:
        return tuple(bindparam(f"{name}_{n}", type_=key.type) for n, key in enumerate(self.way.keys))

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Every part of the job that an index knows, and that holds all that the filter chooses."""
        return parts_of(self.job_id, self.chosen)

    @cached_property
    def others(self) -> tuple[Part, ...]:
        """Those of them that say something of the filter that the way does not."""
        return tuple(part for part in self.parts if not part.says or not part.says <= self.way.says)

    def narrowest(self, connection: Connection, parts: tuple[Part, ...], most: int) -> Part | None:
        """The smallest of some of its parts; None where each has more than `most` rows."""
        return narrowest(connection, parts, self._counts(parts), most) if parts else None

    @_once
    def _counts(self, parts: tuple[Part, ...]) -> Select[Any]:
        return counts_of(parts)

    def once(self, key: object, build: Callable[[], T]) -> T:
        """What was built by this name before, or is now. Two threads at once may both build it."""
        if key not in self._built:
            self._built[key] = build()
        found: T = self._built[key]
        return found

    def _asks_items(self, said: frozenset[str]) -> bool:
        """Whether something of an item has to be checked."""
        return any(name in OF_ITEMS and name not in said for name, _ in named_conditions(self.chosen))

    @_once
    def left(self, said: frozenset[str]) -> list[ColumnElement[bool]]:
        """What of the filter has to be checked row by row."""
        return [condition for name, condition in named_conditions(self.chosen) if name not in said]

    @_once
    def along(self, *, after: bool, end: bool) -> Select[Any]:
        """The rows behind `after` and up to `end` in the order of the index."""
        way = self.way
        part = way.part(self._after if after else None, self._end if end else None)
        query = rows_query(self.job_id, way.table).where(*part, *self.left(way.says))
        return query.order_by(*way.order).limit(_ROWS)

    @_once
    def keys(self) -> Select[Any]:
        """The numbers of all rows in the order of the index."""
        table = self.way.table.c
        query = select(table.job_id, table.idx).where(table.job_id == self.job_id, *self.way.part())
        return query.order_by(*self.way.order)

    @_once
    def last_of_window(self, *, after: bool) -> Select[Any]:
        """The key of the last row to look at; no row where the index ends before."""
        keys: Select[Any] = select(*self.way.keys).where(self.way.table.c.job_id == self.job_id)
        part = self.way.part(self._after if after else None)
        return keys.where(*part).order_by(*self.way.order).offset(_BEFORE_LAST).limit(1)

    @_once
    def numbers(self, part: Part, *, after: bool) -> Select[Any]:
        """Of a part of the job the next numbers: the part's index has them, no row is read.

        The `+ 0` keeps SQLite from reading the whole job in the order of its key instead of the part in its index.
        Nothing but the number is sorted: PostgreSQL makes a row of its own for each that has two columns.
        """
        inside = part.query.subquery()
        number = (inside.c.idx + 0).label("idx")
        keys = select(number).order_by(number)
        return keys.where(number.element > self._after[0]) if after else keys

    @_once
    def last_number(self, part: Part, *, after: bool) -> Select[Any]:
        """The last number of a window of them."""
        return self.numbers(part, after=after).offset(_BEFORE_LAST).limit(1)

    @_once
    def of_numbers(self, part: Part, *, after: bool) -> Select[Any]:
        """The rows of the next `window` numbers that fit."""
        numbers = self.numbers(part, after=after).limit(_WINDOW).subquery("numbers")
        of_job = literal(self.job_id, results.c.job_id.type).label("job_id")
        few = select(of_job, numbers.c.idx).cte("few").prefix_with("MATERIALIZED")
        query = rows_query(self.job_id, few).where(*self.left(part.says))
        return query.order_by(few.c.idx).limit(_ROWS)

    @_once
    def sorted(self, part: Part, *, after: bool) -> Select[Any]:
        """A small part of the job, read whole and sorted.

        Where nothing is asked of the items, theirs are looked up after that, for the page only.
        """
        few = part.query.cte("few").prefix_with("MATERIALIZED")
        fit = (*self.way.part(self._after if after else None), *self.left(part.says))
        if self.way.table is not results or self._asks_items(part.says):
            return rows_query(self.job_id, few).where(*fit).order_by(*self.way.order).limit(_ROWS)
        joined = InOrder(few, results, and_(results.c.job_id == few.c.job_id, results.c.idx == few.c.idx))
        chosen = select(results.c.job_id, results.c.idx).select_from(joined).where(*fit)
        first = chosen.order_by(*self.way.order).limit(_ROWS).cte("page").prefix_with("MATERIALIZED")
        return rows_query(self.job_id, first).order_by(*self.way.order)


@lru_cache(maxsize=REMEMBERED)
def _question(job_id: int, chosen: Filter, order: Order, *, by_label: bool) -> Question:
    return Question(job_id, chosen, order, by_label=by_label)


def question(connection: Connection, job_id: int, chosen: Filter, order: Order) -> Question:
    """The statements of a question, those of last time where there are some."""
    return _question(job_id, chosen, order, by_label=connection.dialect.name == "postgresql")


def keyed(name: str, key: Key | None) -> dict[str, Any]:
    """A key as the statements take it: `after` or `end`."""
    return {} if key is None else {f"{name}_{n}": value for n, value in enumerate(key)}
