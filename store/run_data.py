"""The data of a run: which image is in which split, and what the survey found about them."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, delete, text, update

from store import tallies
from store.claims import owned
from store.columns import all_of
from store.commits import write_rows
from store.database import Database
from store.rows import Lease, NewResult
from store.run_rows import Finding, FindingRow, RunItem, Survey
from store.runs import fence
from store.tables import findings, results, run_items, runs, shards
from store.writing import insert_rows

T = TypeVar("T")

PORTION = 20_000  # rows per transaction, so that the write lock is never held for long


def write_survey(database: Database, lease: Lease, survey: Survey) -> None:
    """Write the split, the findings and the unreadable images of a run, in place of any earlier survey.

    Large ones go in portions, each fenced; `fingerprint` is set by the last one, so that a survey that was cut off does
    not look whole. One with the fingerprint and the counts of what is there already writes nothing. Raises LeaseLost.
    """
    with database.write() as connection:
        run = fence(connection, lease)
        if (run.fingerprint, run.ok, run.failed) == (survey.fingerprint, len(survey.items), len(survey.failed)):
            return
        _forget(connection, lease, run.id)
    for items in _portions(survey.items):
        with database.write() as connection:
            run = fence(connection, lease)
            insert_rows(connection, run_items, [_item_values(run, item) for item in items])
    for failed in _portions(survey.failed):
        with database.write() as connection:
            fence(connection, lease)
            _write_failed(connection, lease, failed)
    for found in _portions(survey.findings):
        with database.write() as connection:
            run = fence(connection, lease)
            insert_rows(connection, findings, [_finding_values(run, finding) for finding in found])
    with database.write(durable=True) as connection:
        run = fence(connection, lease)
        _conclude(connection, lease, run.id, survey)


def _portions(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), PORTION):
        yield rows[start : start + PORTION]


def _forget(connection: Connection, lease: Lease, run_id: int) -> None:
    for table in (run_items, findings):
        connection.execute(delete(table).where(table.c.run_id == run_id))
    connection.execute(delete(results).where(results.c.job_id == all_of(lease.job_id)))
    connection.execute(update(shards).where(owned(lease)).values(ok=0, failed=0))
    connection.execute(update(runs).where(runs.c.id == run_id).values(fingerprint=None))
    tallies.clear(connection, lease.job_id)


def _item_values(run: Row[Any], item: RunItem) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "idx": item.idx,
        "split": item.split,
        "content_hash": item.content_hash,
        "group_key": item.group_key,
    }


def _finding_values(run: Row[Any], finding: Finding) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "kind": finding.kind,
        "idx": finding.idx,
        "other_idx": finding.other_idx,
        "distance": finding.distance,
        "detail": finding.detail,
    }


def _write_failed(connection: Connection, lease: Lease, rows: Sequence[NewResult]) -> None:
    agreed = write_rows(connection, lease, rows)
    tallies.add(connection, lease.job_id, tallies.count(rows, agreed))


def _conclude(connection: Connection, lease: Lease, run_id: int, survey: Survey) -> None:
    totals = {"ok": len(survey.items), "failed": len(survey.failed)}
    connection.execute(update(shards).where(owned(lease)).values(**totals))
    splits = Counter(item.split for item in survey.items)
    connection.execute(
        update(runs)
        .where(runs.c.id == run_id)
        .values(
            fingerprint=survey.fingerprint,
            census=json.dumps(dict(survey.census), ensure_ascii=False),
            images_train=splits["train"],
            images_val=splits["val"],
            images_test=splits["test"],
        )
    )


def findings_page(database: Database, run_id: int, limit: int, after: int = 0) -> list[tuple[int, FindingRow]]:
    """The next findings with their numbers, by which `after` goes on, in the order in which the survey said so."""
    # The `+ 0` keeps PostgreSQL from passing over the findings of all earlier runs; SQLite's index has this order.
    number = "id" if database.is_sqlite else "id + 0"
    query = text(
        "SELECT finding, kind, idx, path, split, other_idx, other_path, other_split, distance, detail"  # noqa: S608  two constants
        " FROM v_findings WHERE run_id = :run_id AND finding IN (SELECT id FROM findings WHERE run_id = :run_id"
        f" AND {number} > :after ORDER BY {number} LIMIT :limit) ORDER BY finding"
    )
    with database.read() as connection:
        found = connection.execute(query, {"run_id": run_id, "after": after, "limit": limit})
        return [(number, FindingRow(*rest)) for number, *rest in found]


def findings_of(database: Database, run_id: int) -> list[FindingRow]:
    """What the survey found, in the order in which it said so."""
    query = text(
        "SELECT kind, idx, path, split, other_idx, other_path, other_split, distance, detail"
        " FROM v_findings WHERE run_id = :run_id ORDER BY finding"
    )
    with database.read() as connection:
        return [FindingRow(**row._mapping) for row in connection.execute(query, {"run_id": run_id})]
