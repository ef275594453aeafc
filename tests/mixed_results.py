"""A job with results of every kind, and what a filter and an order mean, said again in plain Python."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import text

from store import corrections, jobs
from store.catalog import register_model
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.results import Filter, ResultRow
from store.rows import NewItem, NewJob, NewResult

LABELS = ("robin", "wren", "tit", "owl")
CODES = ("truncated", "too_large", "empty")
FILTERS = {
    "all": Filter(),
    "label": Filter(label="wren"),
    "no such label": Filter(label="emu"),
    "ok": Filter(status="ok"),
    "failed": Filter(status="failed"),
    "code": Filter(error_code="truncated"),
    "scores": Filter(min_score=0.3, max_score=0.6),
    "wrong": Filter(wrong=True),
    "true label": Filter(true_label="robin"),
    "prefix": Filter(path_prefix="b_%/"),
    "glob": Filter(glob="*[1]?.jpg"),
    "glob with a beginning": Filter(glob="a/*.jpg"),
    "corrected": Filter(corrected=True),
    "not corrected": Filter(corrected=False),
    "right": Filter(wrong=False),
    "right with a label": Filter(wrong=False, label="wren"),
    "correction": Filter(correction="owl"),
    "another correction": Filter(correction="tit", corrected=True),
    "no such correction": Filter(correction="emu"),
    "label and wrong": Filter(label="robin", wrong=True),
    "label and scores": Filter(label="robin", min_score=0.5),
    "true label and wrong": Filter(true_label="owl", wrong=True),
    "prefix and label": Filter(path_prefix="a", label="tit"),
    "prefix and failed": Filter(path_prefix="a/", status="failed"),
    "many": Filter(label="wren", min_score=0.1, wrong=True, path_prefix="a", corrected=False),
}


def mixed_job(
    database: Database, count: int = 120, *, owner: str = "", version: int = 1, done: int | None = None
) -> int:
    """Accept and classify `count` items (of them `done`) in three folders; an eighth fails, half have a true label."""
    model = register_model(database, ("birds", version), str(version) * 64, list(LABELS), "{}", "/models/birds")
    job = jobs.accept(
        database, NewJob(model, root=b"/photos", owner=owner, top_k=2, max_shard=16), (_item(n) for n in range(count))
    )
    left = count if done is None else done
    while left > 0 and (lease := claim(database, Claimer("w"))):
        rows = [_result(n) for n in range(lease.lo, lease.hi)][:left]
        left -= len(rows)
        commit_slice(database, lease, rows, last=len(rows) == lease.hi - lease.lo)
    for n in range(3, min(count, done if done is not None else count), 20):
        corrections.correct(database, job, n, "owl", "anna")
    if count > 23:
        corrections.withdraw(database, job, 23, "ben")
    if count > 43:
        corrections.correct(database, job, 43, "tit", "ben")
    return job


def _item(n: int) -> NewItem:
    folder = ("a", "b_%", "B")[n * 7 % 3]
    name = f"{folder}/[{n % 3}]{n}.jpg" if n % 2 else f"{folder}/é{n}.jpg"
    label = LABELS[n // 2 % 4] if n % 2 else None
    return NewItem(
        name.encode(), size=n, mtime_ns=10**18 + n, label=label, extra={"camera": "x"} if n % 5 == 0 else None
    )


def _result(n: int) -> NewResult:
    if n % 8 == 5:
        return NewResult(n, "failed", error_code=CODES[n % 3], error=f"why {n}")
    score = (n * 37 % 101) / 100 if n % 4 else 0.5  # many are alike: the order must still be one
    label = LABELS[n // 3 % 4]
    topk = json.dumps([{"label": label, "score": score}, {"label": "emu", "score": 0.01}])
    return NewResult(
        n, "ok", label=label, score=score, topk=topk, width=4, height=3, content_hash=bytes([n % 256]) * 16
    )


def expected(rows: Iterable[ResultRow], chosen: Filter, order: str = "item") -> list[int]:
    """The numbers of the rows that a filter chooses, in an order."""
    found = [row for row in rows if all(check(row) for check in _checks(chosen))]
    if order in ("least_sure", "most_sure", "most_wrong"):
        found = [row for row in found if row.status == "ok" and (order != "most_wrong" or row.agrees is False)]
    keys: dict[str, Callable[[ResultRow], Any]] = {
        "item": lambda row: (row.file_name.encode(), row.idx) if chosen.path_prefix or _begins(chosen) else row.idx,
        "newest": lambda row: (row.created_at, row.idx),
    }
    key = keys.get(order, lambda row: (row.score, row.idx))
    return [row.idx for row in sorted(found, key=key, reverse=order not in ("item", "least_sure"))]


def _begins(chosen: Filter) -> bool:
    return chosen.glob is not None and chosen.glob[0] not in "*?"


def _checks(chosen: Filter) -> Iterable[Callable[[ResultRow], bool]]:
    yield lambda row: chosen.label in (None, row.label)
    yield lambda row: chosen.status in (None, row.status)
    yield lambda row: chosen.error_code in (None, row.error_code)
    yield lambda row: chosen.min_score is None or (row.score is not None and row.score >= chosen.min_score)
    yield lambda row: chosen.max_score is None or (row.score is not None and row.score <= chosen.max_score)
    yield lambda row: chosen.wrong is None or row.agrees is (not chosen.wrong)
    yield lambda row: chosen.correction in (None, row.correction)
    yield lambda row: chosen.true_label in (None, row.true_label)
    yield lambda row: row.file_name.startswith(chosen.path_prefix or "")
    glob = (chosen.glob or "*").replace("[", "[[]")
    yield lambda row: fnmatch.fnmatchcase(row.file_name, glob)
    yield lambda row: chosen.corrected is None or (row.correction is not None) is chosen.corrected


def add_runs(url: str, job: int) -> None:
    """Two finished runs that a job evaluated."""
    database = Database(url)
    query = """INSERT INTO runs (name, state, recipe, created_at, started_at, finished_at, evaluation_job_id)
        VALUES (:name, 'done', '{}', 1.7e9, 1.7e9, 1.700002e9, :job)"""
    with database.write() as connection:
        connection.execute(text(query), [{"name": name, "job": job} for name in ("one", "other")])
    database.close()
