"""Measurements: what the database counts is what counting every row by hand gives."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from sqlalchemy import text

from store import jobs
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.measurements import _ALL, _UNKNOWN, _rows, answers
from store.rows import NewItem, NewJob, NewResult

LABELS = ("robin", "wren", "finch")
COUNT = 120


def mixed(database: Database, model_id: int, *, unknown: bool) -> int:
    """A job with right, wrong and failed images, scores in all tenths, 1.0 among them; some without a true label."""

    def true(n: int) -> str | None:
        return None if unknown and n % 7 == 0 else LABELS[n % 3]

    found = [NewItem(b"%d.jpg" % n, label=true(n)) for n in range(COUNT)]
    job_id = jobs.accept(database, NewJob(model_id, root=b"/photos", reuse=False), found)
    lease = claim(database, Claimer("w"))
    assert lease
    rows = []
    for n in range(COUNT):
        if n % 11 == 0:
            rows.append(NewResult(n, "failed", error_code="truncated", error="the file ends early"))
            continue
        label, score = LABELS[n % 3 if n % 4 else n % 2], (n % 21) / 20
        said = [label, "a", LABELS[n % 3], "b", "c"] if n % 5 else [label, "a", "b", "c", "d", LABELS[n % 3]]
        topk = json.dumps([{"label": name, "score": score} for name in said])
        rows.append(NewResult(n, "ok", label=label, score=score, topk=topk))
    commit_slice(database, lease, rows, last=True)
    return job_id


@pytest.mark.parametrize("unknown", [False, True], ids=["all labelled", "some labelled"])
def test_the_counts_are_those_of_every_row(database: Database, model_id: int, unknown: bool) -> None:
    job_id = mixed(database, model_id, unknown=unknown)
    images, scores, top5 = Counter[object](), Counter[object](), Counter[object]()
    query = """SELECT i.label AS truth, r.label, r.score, r.topk FROM results r
        JOIN items i ON i.job_id = r.job_id AND i.idx = r.idx WHERE r.status = 'ok' AND i.label IS NOT NULL"""
    with database.read() as connection:
        for row in connection.execute(text(query)):
            key = (row.truth, row.label, min(9, int(row.score * 10)))
            images[key] += 1
            scores[key] += row.score
            top5[key] += row.truth in [one["label"] for one in json.loads(row.topk)][:5]
    found = answers(database, job_id)
    assert len(found) == len(images)
    assert {row[:3]: row.images for row in found} == images
    assert {row[:3]: row.top5 for row in found} == top5
    assert {row[:3]: pytest.approx(row.scores) for row in found} == scores
    assert sum(images.values()) < COUNT


def test_a_job_without_true_labels_says_nothing(database: Database, model_id: int) -> None:
    job_id = jobs.accept(database, NewJob(model_id, root=b"/photos", reuse=False), [NewItem(b"0.jpg")])
    assert answers(database, job_id) == []
    lease = claim(database, Claimer("w"))
    assert lease
    commit_slice(database, lease, [NewResult(0, "ok", label="robin", score=0.5, topk="[]")], last=True)
    assert answers(database, job_id) == []


def test_sqlite_counts_along_an_index_and_reads_what_is_unknown_in_order(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL decides by its statistics")
    with database.read() as connection:
        everything = _rows(connection, 1, f"EXPLAIN QUERY PLAN {_ALL}")
        unknown = _rows(connection, 1, f"EXPLAIN QUERY PLAN {_UNKNOWN}")
    assert "COVERING INDEX ix_results_job_id_label_score_idx" in everything[0][-1]
    assert "USING PRIMARY KEY" in unknown[0][-1]
