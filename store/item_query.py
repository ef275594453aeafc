"""Items of a job, with what became of them so far: pages by number or by name, and one of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, select

from store.database import Database
from store.errors import UnknownItem
from store.joining import InOrder
from store.paths import from_columns
from store.query import PORTION, WINDOW, Page
from store.results import Head, ResultRow, check_there, correction_of, head_of, rows_query, to_row
from store.tables import items, results
from store.way import Key, Way, along_names


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Which items: every given condition must hold. `pending`: without a result."""

    path_prefix: str | None = None
    true_label: str | None = None
    pending: bool = False


@dataclass(frozen=True, slots=True)
class ItemDetail:
    """One item. `status` is "pending" until there is a result; `path` the full path as bytes."""

    job_id: int
    idx: int
    path: bytes
    file_name: str
    member: str | None
    size: int | None
    mtime_ns: int | None
    true_label: str | None
    split: str | None
    external_id: str | None
    extra: dict[str, str]
    status: str
    label: str | None
    score: float | None
    error_code: str | None
    correction: str | None


def _joined() -> Select[Any]:
    """Every item with what its row and its result say."""
    i, r = items.c, results.c
    return select(
        *i["job_id", "idx", "path", "path_raw", "member", "size", "mtime_ns", "split", "external_id", "extra"],
        i.label.label("true_label"),
        *r["status", "label", "score", "error_code"],
        correction_of(i.job_id, i.idx).label("correction"),
    ).select_from(InOrder(items, results, and_(r.job_id == i.job_id, r.idx == i.idx), isouter=True))


_QUERY = _joined()  # built once


def items_page(
    database: Database, job: int | Head, chosen: ItemFilter, limit: int = 100, after: Key | None = None
) -> Page[ItemDetail]:
    """The next items of a job by number; with a path prefix by name. Raises UnknownJob."""
    way, left = item_way(chosen), _left(chosen)
    with database.read() as connection:
        head = head_of(connection, job)
        mine = items.c.job_id == head.job_id
        keys: Select[Any] = select(*way.keys).where(mine, *way.part(after)).order_by(*way.order)
        end: Key | None = None
        if left:
            last = connection.execute(keys.offset(WINDOW - 1).limit(1)).first()
            end = None if last is None else tuple(last)
        part = way.part(after, end)
        if database.is_sqlite and way.where:
            # Asked for whole rows in the order of their numbers, it would read all of the job by its key.
            part = [items.c.idx.in_(keys.limit(WINDOW if left else limit + 1).correlate(None))]
        rows = connection.execute(_QUERY.where(mine, *left, *part).order_by(*way.order).limit(limit + 1)).all()
        check_there(connection, job, rows)
    if len(rows) > limit:
        rows = rows[:limit]
        end = tuple(getattr(rows[-1], key.name) for key in way.keys)
    return Page([_detail(row, head) for row in rows], end)


def walk_items(database: Database, job_id: int, chosen: ItemFilter) -> Iterator[ItemDetail]:
    """Every item that a filter chooses, page by page in flat memory. Raises UnknownJob before the first one."""
    after: Key | None = None
    while True:
        found = items_page(database, job_id, chosen, PORTION, after)
        yield from found.rows
        if found.after is None:
            return
        after = found.after


def item_way(chosen: ItemFilter) -> Way:
    """The index that a listing of items goes along."""
    if chosen.path_prefix:
        return along_names(chosen.path_prefix)
    way = Way(items, (items.c.idx,))
    return way if chosen.true_label is None else replace(way, where=(items.c.label == chosen.true_label,))


def _left(chosen: ItemFilter) -> list[ColumnElement[bool]]:
    """What that index does not say: it is looked for in a window of it at a time."""
    left: list[ColumnElement[bool]] = [results.c.idx.is_(None)] if chosen.pending else []
    if chosen.path_prefix and chosen.true_label is not None:
        left.append(items.c.label == chosen.true_label)
    return left


def item(database: Database, job: int | Head, idx: int) -> tuple[ItemDetail, ResultRow | None]:
    """One item, and its result if it has one. Raises UnknownJob, UnknownItem."""
    with database.read() as connection:
        head = head_of(connection, job)
        row = connection.execute(_QUERY.where(items.c.job_id == head.job_id, items.c.idx == idx)).first()
        if row is None:
            raise UnknownItem(head.job_id, idx)
        result = connection.execute(rows_query(head.job_id).where(results.c.idx == idx)).first()
    return _detail(row, head), None if result is None else to_row(result, head)


def _detail(row: Any, head: Head) -> ItemDetail:
    return ItemDetail(
        job_id=row.job_id,
        idx=row.idx,
        path=os.path.join(head.root, from_columns(row.path, row.path_raw)),  # noqa: PTH118  a name is bytes
        file_name=row.path,
        member=row.member,
        size=row.size,
        mtime_ns=row.mtime_ns,
        true_label=row.true_label,
        split=row.split,
        external_id=row.external_id,
        extra=json.loads(row.extra) if row.extra else {},
        status=row.status or "pending",
        label=row.label,
        score=row.score,
        error_code=row.error_code,
        correction=row.correction,
    )
