"""Which index a listing goes along: its order, what it says of a filter, and how a part of it begins and ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import ge, gt, le, lt
from typing import Any, Literal

from sqlalchemy import BindParameter, ColumnElement, FromClause, and_, literal, tuple_

from store.patterns import before_end, literal_prefix
from store.results import OK, WRONG, Filter, score_range
from store.tables import items, results

Order = Literal["item", "least_sure", "most_sure", "most_wrong", "newest"]
Key = tuple[Any, ...]
_Compare = Callable[[Any, Any], ColumnElement[bool]]


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
        there = [_bound(value, column) for value, column in zip(key, self.keys, strict=True)]
        compared = how(tuple_(*self.keys), tuple_(*there))
        return compared if len(there) == 1 else and_(compared, first(self.keys[0], there[0]))


def way_of(chosen: Filter, order: Order, *, by_label: bool = False) -> Way:
    """The index that has an order, and says the most of a filter.

    `by_label`: the database goes along an index of labels in the order of their items where that is asked. SQLite reads
    the whole job in the order of its key instead.
    """
    if order == "newest":
        return Way(results, (results.c.created_at, results.c.idx), descending=True)
    if order != "item":
        return _along_scores(chosen, descending=order != "least_sure")
    return _along_items(chosen, by_label=by_label)


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


def _along_items(chosen: Filter, *, by_label: bool) -> Way:
    prefix = chosen.path_prefix or literal_prefix(chosen.glob or "")
    if prefix:
        return along_names(prefix, says=bool(chosen.path_prefix))
    if by_label and chosen.true_label is not None:
        said = (items.c.label == chosen.true_label,)
        return Way(items, (items.c.idx,), says=frozenset({"true_label"}), where=said)
    return Way(results, (results.c.idx,))


def along_names(prefix: str, *, says: bool = True) -> Way:
    """The index of the names that begin so."""
    path, said = items.c.path, frozenset({"path_prefix"} if says else ())
    return Way(items, (path, items.c.idx), says=said, begin=(path >= prefix,), finish=before_end(path, prefix))


def _bound(value: Any, column: ColumnElement[Any]) -> BindParameter[Any]:
    """A value of a key, or the place of one."""
    return value if isinstance(value, BindParameter) else literal(value, column.type)
