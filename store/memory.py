"""Answers that are already known: by a file's unchanged path, size and time, or by its content."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, or_, select

from store.database import Database
from store.tables import jobs, memo, results

IN_LIST = 500  # keys per query: below every database's limit on parameters


@dataclass(frozen=True, slots=True)
class Known:
    """A result of an earlier item that answers for this one."""

    label: str
    score: float
    topk: str
    content_hash: bytes | None
    width: int | None
    height: int | None


def recall(database: Database, model_id: int, top_k: int, keys: Collection[bytes]) -> dict[bytes, Known]:
    """Look up content hashes or file keys. Only answers of the same model with at least `top_k` entries count."""
    known: dict[bytes, Known] = {}
    with database.read() as connection:
        for portion in _portions(list(keys)):
            known.update(_recall(connection, model_id, top_k, portion))
    return known


def _recall(connection: Connection, model_id: int, top_k: int, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Known]]:
    r = results.c
    query = (
        select(memo.c.key, r.label, r.score, r.topk, r.content_hash, r.width, r.height, jobs.c.top_k)
        .join(results, (r.job_id == memo.c.job_id) & (r.idx == memo.c.idx))
        .join(jobs, jobs.c.id == memo.c.job_id)
        .where(memo.c.model_id == model_id, memo.c.key.in_(keys), r.status == "ok", jobs.c.model_id == model_id)
        # What the row says of its content must agree with the key; a wrong answer would be worse than none.
        .where(jobs.c.top_k >= top_k, or_(memo.c.kind == "file", r.content_hash == memo.c.key))
    )
    for row in connection.execute(query):
        topk = row.topk if row.top_k == top_k else json.dumps(json.loads(row.topk)[:top_k])
        yield bytes(row.key), Known(row.label, row.score, topk, row.content_hash, row.width, row.height)


def _portions(keys: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(keys), IN_LIST):
        yield keys[start : start + IN_LIST]
