"""What a job would hold and how long it would take, from a short look and from past jobs."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from sqlalchemy import exists, func, select

from store.database import Database
from store.states import JobState
from store.tables import events, jobs, models, shards
from worker.sources.entry import Entry, Source, pass_over, printable

LOOK_S, LOOK_FILES = 5.0, 200_000
PAST_JOBS = 20  # that the speed is taken from
LEAST_ITEMS = 50  # of a past job that tells a speed: smaller ones measure the start


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a source. sizes: in bytes, of the files whose size is known, sorted. complete: to its end."""

    items: int
    labelled: int
    formats: dict[str, int]
    sizes: list[int]
    ignored: dict[str, int]
    complete: bool


def look(
    source: Source,
    seconds: float = LOOK_S,
    files: int = LOOK_FILES,
    clock: Callable[[], float] = time.monotonic,
) -> Look:
    """Go through a source for so long, or so many files. Formats are told by the names. Raises SourceError."""
    formats: Counter[str] = Counter()
    sizes: list[int] = []
    items, labelled, until, complete = 0, 0, clock() + seconds, True
    for entry in source:
        items += 1
        labelled += bool(entry.label)
        pass_over(formats, _format(entry))
        if entry.size is not None:
            sizes.append(entry.size)
        if items >= files or clock() > until:
            complete = False
            break
    return Look(items, labelled, dict(formats.most_common()), sorted(sizes), dict(source.ignored), complete)


def middle(sizes: list[int]) -> int | None:
    """The median size in bytes."""
    return int(median(sizes)) if sizes else None


def speed(database: Database, reference: tuple[str, int]) -> float | None:
    """Images per second of the newest finished jobs of a model (name, version), their median; None without any."""
    name, version = reference
    took = jobs.c.finished_at - jobs.c.started_at
    # Answers that were known cost nothing, and of a job that rested or ran again the time is only that of its end.
    reused = select(func.sum(shards.c.reused)).where(shards.c.job_id == jobs.c.id).scalar_subquery()
    interrupted = exists().where(events.c.job_id == jobs.c.id, events.c.kind.in_(("paused", "retried")))
    query = (
        select(jobs.c.n_items - reused, took)
        .join(models, models.c.id == jobs.c.model_id)
        .where(
            models.c.name == name,
            models.c.version == version,
            jobs.c.state.in_((JobState.DONE, JobState.DONE_WITH_ERRORS)),
            jobs.c.n_items - reused >= LEAST_ITEMS,
            took > 0,
            ~interrupted,
        )
        .order_by(jobs.c.id.desc())
        .limit(PAST_JOBS)
    )
    with database.read() as connection:
        # PostgreSQL's sum of whole numbers is a Decimal, which is not divided by a float.
        speeds = [int(count) / seconds for count, seconds in connection.execute(query)]
    return median(speeds) if speeds else None


def _format(entry: Entry) -> str:
    """The extension, of the member where it lies in an archive."""
    name = os.fsencode(entry.member) if entry.member is not None else entry.path
    stem, dot, extension = name.rpartition(b".")
    return printable(b"." + extension.lower()) if dot and stem and len(extension) <= 8 else "no extension"
