"""Evaluations: classify jobs over labelled items, and what they say of a model."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, Select, String, cast, select, text
from sqlalchemy.dialects import postgresql, sqlite

from store.clock import db_now
from store.database import SCANS, Database
from store.errors import UnknownJob
from store.joining import InOrder
from store.paths import from_columns
from store.rows import Lease, NewItem
from store.run_rows import EvaluationFacts, EvaluationRow, FlipRow, PredictionRow, Split
from store.runs import fence, hold_job
from store.tables import evaluations, items, jobs, models, results, run_items, runs
from store.views import results_as_tables

PAGE = 2_000  # rows per query: keyset pages instead of one long transaction
MOST_FLIPS = 10_000  # of each kind: more are counted, not listed


# Copies within one job have one answer: the first stands for all of them. Materialized, and joined by plain equality,
# so that SQLite makes an index for each join; without one, ten thousand images take minutes.
_FLIPS = """
WITH shown AS NOT MATERIALIZED ({shown}),
    a AS MATERIALIZED (SELECT path, content_hash, true_label, label, score,
        ROW_NUMBER() OVER (PARTITION BY content_hash, true_label ORDER BY idx) AS copy
        FROM shown WHERE job_id = :job_a AND status = 'ok' AND true_label IS NOT NULL),
    b AS MATERIALIZED (SELECT path, content_hash, true_label, label, score
        FROM shown WHERE job_id = :job_b AND status = 'ok' AND true_label IS NOT NULL),
    pairs AS (SELECT b.path, b.true_label, a.label AS label_a, a.score AS score_a,
            b.label AS label_b, b.score AS score_b
            FROM b JOIN a ON a.content_hash = b.content_hash AND a.true_label = b.true_label
            WHERE a.copy = 1
        UNION ALL SELECT b.path, b.true_label, a.label, a.score, b.label, b.score
            FROM b JOIN a ON a.path = b.path AND a.true_label = b.true_label
            WHERE a.content_hash IS NULL OR b.content_hash IS NULL),
    changed AS (SELECT path, true_label, label_a, score_a, label_b, score_b,
        CASE WHEN label_b = true_label THEN 1 ELSE 0 END AS gained FROM pairs
        WHERE label_a <> label_b AND (label_a = true_label OR label_b = true_label)),
    placed AS (SELECT path, true_label, label_a, score_a, label_b, score_b, gained,
        ROW_NUMBER() OVER (PARTITION BY gained ORDER BY path) AS place,
        COUNT(*) OVER (PARTITION BY gained) AS images FROM changed)
SELECT path, true_label, label_a, score_a, label_b, score_b, gained, images FROM placed
WHERE place <= :most ORDER BY gained, path
"""


def labelled_items(database: Database, finetune_job_id: int, split: Split) -> Iterator[NewItem]:
    """The usable images of one split of a training, as items for a classify job with the same root."""
    shown = items.c["idx", "path", "path_raw", "size", "mtime_ns", "label", "external_id", "extra", "member", "offset"]
    query = (
        select(*shown)
        .join(runs, runs.c.job_id == items.c.job_id)
        .join(run_items, (run_items.c.run_id == runs.c.id) & (run_items.c.idx == items.c.idx))
        .where(items.c.job_id == finetune_job_id, run_items.c.split == split, items.c.label.is_not(None))
    )
    for row in _pages(database, query, items.c.idx):
        yield NewItem(
            path=from_columns(row.path, row.path_raw),
            size=row.size,
            mtime_ns=row.mtime_ns,
            label=row.label,
            split=split,
            external_id=row.external_id,
            extra=json.loads(row.extra) if row.extra else None,
            member=row.member,
            offset=row.offset,
        )


def _pages(database: Database, query: Select[Any], key: Any) -> Iterator[Row[Any]]:
    last = -1
    while True:
        with database.read() as connection:
            page = connection.execute(query.where(key > last).order_by(key).limit(PAGE)).all()
        yield from page
        if len(page) < PAGE:
            return
        last = page[-1].idx


def predictions(database: Database, job_id: int) -> Iterator[PredictionRow]:
    """Every classified item that has a true label, in the order of the items. Raises UnknownJob at the first row."""
    with database.read() as connection:
        root = _root(connection, job_id)
    for row in _pages(database, _labelled(job_id), results.c.idx):
        yield _prediction(row, root)


def _root(connection: Connection, job_id: int) -> bytes:
    row = connection.execute(select(jobs.c.root, jobs.c.root_raw).where(jobs.c.id == job_id)).first()
    if row is None:
        raise UnknownJob(job_id)
    return from_columns(row.root, row.root_raw)


def _labelled(job_id: int) -> Select[Any]:
    return (
        select(*results.c["idx", "label", "score", "topk"])
        .add_columns(items.c.path, items.c.path_raw, items.c.member, items.c.label.label("true_label"))
        .select_from(InOrder(results, items, (items.c.job_id == results.c.job_id) & (items.c.idx == results.c.idx)))
        .where(results.c.job_id == job_id, results.c.status == "ok", items.c.label.is_not(None))
    )


def _prediction(row: Row[Any], root: bytes) -> PredictionRow:
    return PredictionRow(
        idx=row.idx,
        path=os.path.join(root, from_columns(row.path, row.path_raw)),  # noqa: PTH118  a name is bytes
        member=row.member,
        true_label=row.true_label,
        label=row.label,
        score=row.score,
        topk=tuple(entry["label"] for entry in json.loads(row.topk)),
    )


def record_evaluation(database: Database, job_id: int, facts: EvaluationFacts, lease: Lease | None = None) -> None:
    """Write the figures of an evaluation job, over earlier ones. Raises UnknownJob; LeaseLost where a lease is given.

    `lease`: of the training that asked for it.
    """
    values = {**asdict(facts), "created_at": db_now()}
    with database.write() as connection:
        hold_job(connection, job_id)
        if lease is not None:
            fence(connection, lease)
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        connection.execute(
            dialect.insert(evaluations)
            .values(job_id=job_id, **values)
            .on_conflict_do_update(index_elements=["job_id"], set_=values)
        )


def evaluation(database: Database, job_id: int) -> EvaluationRow | None:
    """The figures of an evaluation job, once they are there."""
    with database.read() as connection:
        row = connection.execute(_evaluations().where(evaluations.c.job_id == job_id)).first()
    return EvaluationRow(**row._mapping) if row else None


def _evaluations() -> Select[Any]:
    model = (models.c.name + "@" + cast(models.c.version, String)).label("model")
    return select(evaluations, model).join(models, models.c.id == evaluations.c.model_id)


@dataclass(slots=True)
class Flips:
    """Images that one of two jobs labelled right and the other wrong, by path: how many, and the first MOST_FLIPS."""

    lost: list[FlipRow] = field(default_factory=list)
    gained: list[FlipRow] = field(default_factory=list)
    lost_count: int = 0
    gained_count: int = 0


def flips(database: Database, job_a: int, job_b: int) -> Flips:
    """The images that changed sides between two jobs.

    Items are matched by content and true label, or by full path where a content is not known.
    """
    found = Flips()
    # PostgreSQL has no idea how many rows a job has, and would compare each with each.
    with database.read("SET LOCAL enable_nestloop = off", SCANS) as connection:
        # Not the view itself: PostgreSQL's looks each item up, which takes a million look-ups where a scan would do.
        query = _FLIPS.format(shown=results_as_tables(connection.dialect.name))
        rows = connection.execute(text(query), {"job_a": job_a, "job_b": job_b, "most": MOST_FLIPS}).all()
    for path, true_label, label_a, score_a, label_b, score_b, gained, images in rows:
        flip = FlipRow(path, true_label, label_a, score_a, label_b, score_b, gained=bool(gained))
        if flip.gained:
            found.gained_count = images
            found.gained.append(flip)
        else:
            found.lost_count = images
            found.lost.append(flip)
    return found
