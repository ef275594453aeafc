"""Streaming reader of results: any number of rows in flat memory, filtered in SQL."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, select

from store.database import Database
from store.errors import UnknownJob
from store.paths import from_columns
from store.tables import items, jobs, models, results

PAGE = 2_000  # rows per query: keyset pages instead of one long transaction that would hold up a checkpoint


@dataclass(frozen=True, slots=True)
class Filter:
    """Which results: every given condition must hold."""

    label: str | None = None
    status: str | None = None
    error_code: str | None = None
    min_score: float | None = None
    max_score: float | None = None
    wrong: bool = False  # only items whose true label is known and differs from the prediction


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One item with its result. `path` is the full path as bytes; `member` the name inside an archive."""

    job_id: int
    idx: int
    path: bytes
    file_name: str
    member: str | None
    status: str
    label: str | None
    score: float | None
    topk: list[dict[str, Any]]
    true_label: str | None
    error_code: str | None
    error: str | None
    model: str | None
    external_id: str | None
    extra: dict[str, str]
    width: int | None
    height: int | None
    content_hash: str | None
    reused: bool


def stream(database: Database, job_id: int, chosen: Filter | None = None) -> Iterator[ResultRow]:
    """Every matching result of a job in the order of its items. Raises UnknownJob before the first row."""
    with database.read() as connection:
        head = _head(connection, job_id)
    query = _query(job_id, chosen or Filter())
    last = -1
    while True:
        with database.read() as connection:
            page = connection.execute(query.where(results.c.idx > last)).all()
        for row in page:
            yield _row(row, head)
        if len(page) < PAGE:
            return
        last = page[-1].idx


def _head(connection: Connection, job_id: int) -> tuple[bytes, str | None]:
    query = (
        select(jobs.c.root, jobs.c.root_raw, models.c.name, models.c.version)
        .outerjoin(models, models.c.id == jobs.c.model_id)
        .where(jobs.c.id == job_id)
    )
    row = connection.execute(query).first()
    if row is None:
        raise UnknownJob(job_id)
    return from_columns(row.root, row.root_raw), f"{row.name}@{row.version}" if row.name else None


def _query(job_id: int, chosen: Filter) -> Select[Any]:
    r, i = results.c, items.c
    return (
        select(
            *(r["idx", "status", "label", "score", "topk", "error_code", "error", "width", "height", "content_hash"]),
            *(r.reused, r.job_id, i.path, i.path_raw, i.member, i.label.label("true_label"), i.external_id, i.extra),
        )
        .join(items, and_(i.job_id == r.job_id, i.idx == r.idx))
        .where(r.job_id == job_id, *_conditions(chosen))
        .order_by(r.idx)
        .limit(PAGE)
    )


def _conditions(chosen: Filter) -> Iterator[ColumnElement[bool]]:
    if chosen.label is not None:
        yield results.c.label == chosen.label
    if chosen.status is not None:
        yield results.c.status == chosen.status
    if chosen.error_code is not None:
        yield results.c.error_code == chosen.error_code
    if chosen.min_score is not None:
        yield results.c.score >= chosen.min_score
    if chosen.max_score is not None:
        yield results.c.score <= chosen.max_score
    if chosen.wrong:
        yield and_(items.c.label.is_not(None), items.c.label != results.c.label)


def _row(row: Any, head: tuple[bytes, str | None]) -> ResultRow:
    root, model = head
    return ResultRow(
        job_id=row.job_id,
        idx=row.idx,
        path=os.path.join(root, from_columns(row.path, row.path_raw)),  # noqa: PTH118  a name is bytes
        file_name=row.path,
        member=row.member,
        status=row.status,
        label=row.label,
        score=row.score,
        topk=json.loads(row.topk) if row.topk else [],
        true_label=row.true_label,
        error_code=row.error_code,
        error=row.error,
        model=model,
        external_id=row.external_id,
        extra=json.loads(row.extra) if row.extra else {},
        width=row.width,
        height=row.height,
        content_hash=bytes(row.content_hash).hex() if row.content_hash else None,
        reused=row.reused,
    )
