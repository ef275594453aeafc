"""What must hold in a database whatever happened: read from its tables alone, told as a list of what does not."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import Row, Table, func, select

from store.counters import read_counters
from store.database import Database
from store.states import FINAL, JobState
from store.tables import attempts, events, items, jobs, results, runs, shards, tallies

# Which state may follow which; `record` writes the state into every event.
FOLLOWS: dict[str, frozenset[str]] = {
    "scanning": frozenset({"accepted", "cancelled", "failed"}),  # told only where its priority was changed meanwhile
    "accepted": frozenset({"running", "paused", "cancelling", "failed", "done", "done_with_errors"}),
    "running": frozenset({"paused", "cancelling", "cancelled", "failed", "done", "done_with_errors"}),
    "paused": frozenset({"accepted", "running", "cancelling", "cancelled", "failed", "done", "done_with_errors"}),
    "cancelling": frozenset({"cancelled"}),
    "cancelled": frozenset({"accepted"}),
    "done": frozenset({"accepted"}),
    "done_with_errors": frozenset({"accepted"}),
    "failed": frozenset({"accepted"}),
}
RUN_OF = {
    "accepted": "queued",
    "running": "running",
    "paused": "paused",
    "cancelled": "cancelled",
    "done": "done",
    "done_with_errors": "done",
    "failed": "failed",
}

# What the shards of a job may be; one that was full when its job was cancelled stays so when the rest is done.
_CLOSED = frozenset({"done", "cancelled"})
SHARDS_OF: dict[str, frozenset[str]] = {
    "accepted": _CLOSED | {"ready"},
    "cancelling": _CLOSED | {"leased"},
    "cancelled": _CLOSED,
    "failed": _CLOSED | {"leased"},  # until it is given back
    "done": _CLOSED,
    "done_with_errors": _CLOSED,
}


@dataclass(frozen=True, slots=True)
class Seen:
    """All rows of the tables that a job is in, at one moment."""

    jobs: dict[int, Row[Any]]
    shards: dict[int, list[Row[Any]]]  # by job, in the order of their items, a split one before its halves
    attempts: list[Row[Any]]
    results: dict[int, list[Row[Any]]]  # by job, in order
    tallies: dict[int, dict[tuple[str, str], int]]
    events: dict[int, list[Row[Any]]]
    runs: dict[int, Row[Any]]  # by job
    items: dict[int, int]  # how many
    labels: dict[tuple[int, int], str | None]
    counters: dict[str, int]


def look(database: Database) -> Seen:
    """Everything, in one transaction."""
    with database.read() as connection:

        def rows(table: Table, *order: Any) -> list[Row[Any]]:
            return list(connection.execute(select(table).order_by(*order)).all())

        tallied: dict[int, dict[tuple[str, str], int]] = defaultdict(dict)
        for row in rows(tallies):
            tallied[row.job_id][row.kind, row.value] = row.n
        facts = select(*items.c["job_id", "idx", "label"]).order_by(items.c.job_id, items.c.idx)
        found = connection.execute(facts).all()
        counted = Counter(row.job_id for row in found)
        return Seen(
            jobs={row.id: row for row in rows(jobs)},
            shards=_by_job(rows(shards, shards.c.lo, shards.c.hi.desc(), shards.c.id)),
            attempts=rows(attempts),
            results=_by_job(rows(results, results.c.job_id, results.c.idx)),
            tallies=dict(tallied),
            events=_by_job(rows(events, events.c.id)),
            runs={row.job_id: row for row in rows(runs) if row.job_id is not None},
            items=dict(counted),
            labels={(row.job_id, row.idx): row.label for row in found},
            counters=read_counters(connection),
        )


def _by_job(rows: list[Row[Any]]) -> dict[int, list[Row[Any]]]:
    grouped: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        grouped[row.job_id].append(row)
    return dict(grouped)


def broken(seen: Seen) -> list[str]:
    """What does not hold; empty where everything does."""
    return [
        *(f"job {job.id}: {what}" for job in seen.jobs.values() for what in _of_job(seen, job)),
        *_of_attempts(seen),
        *(
            f"{name} of job {job_id}, which is not there"
            for name in ("shards", "results", "tallies", "events", "items")
            for job_id in getattr(seen, name)
            if job_id is not None and job_id not in seen.jobs
        ),
    ]


def assert_sound(database: Database) -> Seen:
    """Look, and fail where anything does not hold; what was seen."""
    seen = look(database)
    wrong = broken(seen)
    assert not wrong, "\n".join(wrong)
    return seen


def _of_job(seen: Seen, job: Row[Any]) -> Iterator[str]:
    if job.state == JobState.SCANNING:  # half written, or half removed
        return
    mine = [shard for shard in seen.shards.get(job.id, []) if shard.state != "split"]
    rows = seen.results.get(job.id, [])
    if seen.items.get(job.id, 0) != job.n_items:
        yield f"{seen.items.get(job.id, 0)} items of {job.n_items}"
    yield from _tiles(seen.shards.get(job.id, []), job.n_items)
    if [row.idx for row in rows if not 0 <= row.idx < job.n_items]:
        yield "a result of an item that it does not have"
    for shard in mine:
        yield from (f"shard {shard.id}: {what}" for what in _of_shard(job, shard, rows))
    yield from _of_tallies(seen, job, rows)
    yield from _of_state(job, mine, rows)
    yield from _of_events(job, seen.events.get(job.id, []))
    if (run := seen.runs.get(job.id)) is not None:
        if run.state != RUN_OF.get(job.state, run.state):
            yield f"its run is {run.state} while it is {job.state}"
        if job.state != JobState.CANCELLING and (run.started_at, run.finished_at, run.error) != (
            job.started_at,
            job.finished_at,
            job.error,
        ):
            yield "its run has other times, or another error"


def _tiles(mine: list[Row[Any]], count: int) -> Iterator[str]:
    """Every item is in one shard that counts; a split one has been replaced by its two halves."""
    end = 0
    for shard in mine:
        if shard.state == "split":
            continue
        if shard.lo != end:
            yield f"shard {shard.id} begins at {shard.lo}, not at {end}"
        end = shard.hi
    if end != count:
        yield f"its shards end at {end} of {count} items"
    ranges = Counter((shard.lo, shard.hi) for shard in mine)
    for shard in mine:
        middle = (shard.lo + shard.hi) // 2
        if shard.state == "split" and not (ranges[shard.lo, middle] == ranges[middle, shard.hi] == 1):
            yield f"split shard {shard.id} has not two halves"


def _of_shard(job: Row[Any], shard: Row[Any], rows: list[Row[Any]]) -> Iterator[str]:
    inside = [row for row in rows if shard.lo <= row.idx < shard.hi]
    if job.kind == "classify":
        statuses = Counter(row.status for row in inside)
        counted = (statuses["ok"], statuses["failed"], sum(bool(row.reused) for row in inside))
        if (shard.ok, shard.failed, shard.reused) != counted:
            yield f"counts {(shard.ok, shard.failed, shard.reused)}, its rows {counted}"
        if shard.state == "done" and len(inside) != shard.hi - shard.lo:
            yield f"done with {len(inside)} rows of {shard.hi - shard.lo}"
    if (shard.state == "leased") != (shard.token is not None) or (shard.state == "leased") != (
        shard.lease_until is not None
    ):
        yield f"is {shard.state} with token {shard.token} until {shard.lease_until}"


def _of_tallies(seen: Seen, job: Row[Any], rows: list[Row[Any]]) -> Iterator[str]:
    told = {name: n for name, n in seen.tallies.get(job.id, {}).items() if n}
    counted: Counter[tuple[str, str]] = Counter()
    for row in rows:
        true = seen.labels.get((job.id, row.idx))
        agrees = row.label == true if row.status == "ok" and true is not None else None
        if row.agrees != agrees:
            yield f"item {row.idx} agrees {row.agrees}, expected {agrees}"
        if row.status == "ok":
            counted["label", row.label] += 1
            counted["score", f"{min(19, int(row.score * 20)):02}"] += 1
        else:
            counted["error_code", row.error_code] += 1
        if agrees is not None:
            counted["agrees", str(int(agrees))] += 1
    if told != counted:
        yield f"tallies {told}, its rows {dict(counted)}"


def _of_state(job: Row[Any], mine: list[Row[Any]], rows: list[Row[Any]]) -> Iterator[str]:
    states = Counter(shard.state for shard in mine)
    final = JobState(job.state) in FINAL
    if final != (job.finished_at is not None):
        yield f"is {job.state} and finished at {job.finished_at}"
    if not states.keys() <= SHARDS_OF.get(job.state, states.keys()):
        yield f"is {job.state} with shards {dict(states)}"
    if job.state == JobState.RUNNING and job.started_at is None:
        yield "is running and never began"
    if job.kind == "classify" and job.state in (JobState.DONE, JobState.DONE_WITH_ERRORS):
        failed = any(row.status == "failed" for row in rows)
        if len(rows) != job.n_items or failed != (job.state == JobState.DONE_WITH_ERRORS):
            yield f"is {job.state} with {len(rows)} rows of {job.n_items}, some failed: {failed}"


def _of_events(job: Row[Any], history: list[Row[Any]]) -> Iterator[str]:
    told = [json.loads(event.data).get("state") for event in history]
    if told and told[-1] != job.state:
        yield f"is {job.state}, and its last event says {told[-1]}"
    for before, after in pairwise(told):
        if before != after and after not in FOLLOWS.get(before, ()):
            yield f"went from {before} to {after}"


def _of_attempts(seen: Seen) -> Iterator[str]:
    """An attempt is open as long as its token owns a shard, or until its worker says that it failed."""
    every = [shard for mine in seen.shards.values() for shard in mine]
    owned = {shard.token: shard for shard in every if shard.token is not None}
    if len(owned) != sum(shard.token is not None for shard in every):
        yield "two shards have the same token"
    known = {attempt.token: attempt for attempt in seen.attempts}
    for token, shard in owned.items():
        attempt = known.get(token)
        if attempt is None:
            yield f"shard {shard.id} is leased without an attempt"
        elif attempt.ended_at is not None and not (attempt.outcome == "failed" and shard.lease_until == 0):
            yield f"attempt {token} has ended ({attempt.outcome}), and its shard {shard.id} is still leased"
    for token, attempt in known.items():
        if (attempt.ended_at is None) != (attempt.outcome is None):
            yield f"attempt {token} has half an end"
        if attempt.ended_at is None and token not in owned:
            yield f"attempt {token} is open, and no shard is its"
    yield from _of_authors(seen, known, {shard.id: shard for shard in every})


def _of_authors(seen: Seen, known: dict[str, Row[Any]], places: dict[int, Row[Any]]) -> Iterator[str]:
    """Every row was written under a token that was given out for its item."""
    for job_id, rows in seen.results.items():
        for row in rows:
            attempt = known.get(row.token)
            shard = places.get(attempt.shard_id) if attempt is not None else None
            if shard is None or shard.job_id != job_id or not shard.lo <= row.idx < shard.hi:
                yield f"item {row.idx} of job {job_id} was written by nobody's token {row.token}"


def count_all(database: Database, table: Table) -> int:
    """How many rows a table has."""
    with database.read() as connection:
        return int(connection.scalar(select(func.count()).select_from(table)) or 0)
