"""What listeners are told: the state's changes, the epochs of a training, progress, and the end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from fastapi.sse import format_sse_event

from api.following.position import Position
from store import runs
from store.database import ONE_MOMENT, Database
from store.errors import UnknownJob, UnknownRun
from store.events import EventRow, last_event, read_after
from store.insights import read_job
from store.moments import rfc3339
from store.records import epoch_record, json_text, progress_record
from store.rows import JobRow
from store.run_rows import EpochRow, RunRow
from store.states import JobKind

PAGE = 500  # events read at once
_NO_MOVES = frozenset({"priority", "shard_split", "poisoned"})  # they leave the job in its state


@dataclass(frozen=True, slots=True)
class Told:
    """Something that happened once and is told once: an event's id, or an epoch's attempt and number."""

    name: str
    data: dict[str, Any]
    event: int | None = None
    epoch: tuple[int, int] | None = None

    def is_known(self, position: Position) -> bool:
        """Whether a listener at this position has heard it."""
        if self.event is not None:
            return position.has_event(self.event)
        return self.epoch is not None and position.has_epoch(*self.epoch)

    def after(self, position: Position) -> Position:
        """The position of a listener who has heard it."""
        if self.event is not None:
            return position.at_event(self.event)
        return position.at_epoch(*self.epoch) if self.epoch is not None else position


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a job has found since a position. `end`: its last word, where there is nothing more to come.

    `begun` and `ended` (of time.monotonic): a look that began after another had ended has seen what came later.
    """

    told: tuple[Told, ...]
    progress: dict[str, Any] | None
    end: dict[str, Any] | None
    is_whole: bool = True  # False: there is more, look again
    begun: float = 0.0
    ended: float = 0.0


def look(database: Database, job_id: int, since: Position) -> Look:
    """What is new of a job; nothing stays open. Raises StoreError."""
    begun = time.monotonic()
    try:
        row, found = _read(database, job_id, since)
    except UnknownJob:
        return Look((), None, {"job": job_id, "state": "removed", "error": None}, begun=begun, ended=time.monotonic())
    run = _run(database, row)
    epochs = _epochs(database, run, since)
    whole = len(found) < PAGE
    end = {"job": job_id, "state": row.state.value, "error": row.error} if row.state.is_final and whole else None
    told = (*map(_event, found), *epochs)
    return Look(told, _progress(row, run), end, whole, begun=begun, ended=time.monotonic())


def _read(database: Database, job_id: int, since: Position) -> tuple[JobRow, list[EventRow]]:
    """The job and its events as of one moment: its state is that of the last event. Raises UnknownJob, StoreError."""
    with database.read(ONE_MOMENT) as connection:
        return read_job(connection, job_id), read_after(connection, job_id, since.event, PAGE)


def latest(database: Database, job_id: int) -> Position:
    """The position of a listener who has heard all that has happened so far. Raises StoreError."""
    event = last_event(database, job_id)
    try:
        run = runs.run_of_job(database, job_id)
    except UnknownRun:
        return Position(event)
    attempt, epoch = max(((row.attempt, row.epoch) for row in runs.epochs_of(database, run.id)), default=(0, 0))
    return Position(event, attempt, epoch)


def _run(database: Database, row: JobRow) -> RunRow | None:
    if row.kind != JobKind.FINETUNE:
        return None
    try:
        return runs.run_of_job(database, row.id)
    except UnknownRun:  # while its images are looked for
        return None


def _epochs(database: Database, run: RunRow | None, since: Position) -> list[Told]:
    if run is None or not run.epochs:
        return []
    new = [row for row in runs.epochs_of(database, run.id) if not since.has_epoch(row.attempt, row.epoch)]
    return [_epoch(row) for row in sorted(new, key=lambda row: (row.attempt, row.epoch))]


def _event(row: EventRow) -> Told:
    more = dict(row.data)
    data = {
        "job": row.job_id,
        "state": more.pop("state", None),
        "kind": row.kind,
        "at": rfc3339(row.at),
        "data": more,
    }
    return Told("log" if row.kind in _NO_MOVES else "state", data, event=row.id)


def _epoch(row: EpochRow) -> Told:
    return Told("epoch", epoch_record(row), epoch=(row.attempt, row.epoch))


def _progress(row: JobRow, run: RunRow | None) -> dict[str, Any]:
    """The figures of GET /jobs/{job}, and what a training does now."""
    stage = {"stage": run.stage, "progress": run.progress} if run is not None and run.state == "running" else None
    return {"job": row.id, "state": row.state.value, **progress_record(row, time.time()), "training": stage}


def encoded(name: str, data: dict[str, Any], position: Position) -> bytes:
    """An event as it goes over the wire, with the position of whoever has heard it."""
    return format_sse_event(data_str=json_text(data), event=name, id=str(position))
