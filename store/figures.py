"""Figures of the whole service, for /metrics and for limits, each in a cheap query."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select

from store.clock import db_now
from store.counters import FENCED_COMMITS, LEASE_EXPIRIES, images_name, read_counters
from store.database import Database
from store.states import CLAIMABLE, UNFINISHED, JobState, ShardState
from store.tables import jobs, models, results, shards, workers
from store.waiting import waiting_items

RATE_S = 60.0
BEGUN = (JobState.RUNNING, JobState.PAUSED, JobState.CANCELLING)


@dataclass(frozen=True, slots=True)
class ImagesFigure:
    """How many images a model has ended so, ever: with those of removed jobs. `status`: ok or failed."""

    model: str  # birds@3
    status: str
    images: int


@dataclass(frozen=True, slots=True)
class QueueFigure:
    """What waits in a queue: shards, their items, and for how long the oldest job in it does."""

    queue: str
    shards: int
    items: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class WorkerFigure:
    """A worker, and how long ago it was heard of."""

    id: str
    device: str
    state: str  # idle, busy, stopped
    model: str | None  # warm models, most recent first
    images: int  # since it started
    seen_ago_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that /metrics tells of the database."""

    images: list[ImagesFigure]
    queues: list[QueueFigure]
    jobs: dict[str, int]  # by state; every state is there
    workers: list[WorkerFigure]
    lease_expiries: int
    fenced_commits: int
    images_per_s: float  # of the last RATE_S seconds


@dataclass(frozen=True, slots=True)
class Crew:
    """The classify workers that were heard of lately, and whether images wait for them."""

    warm: int  # with a model loaded
    cold: int  # without
    has_work: bool


def figures(database: Database) -> Figures:
    """All of them, of nearly the same moment."""
    with database.read() as connection:
        counted = read_counters(connection)
        return Figures(
            images=_images(connection, counted),
            queues=_queues(connection),
            jobs=_jobs(connection),
            workers=_workers(connection),
            lease_expiries=counted.get(LEASE_EXPIRIES, 0),
            fenced_commits=counted.get(FENCED_COMMITS, 0),
            images_per_s=_rate(connection),
        )


def _images(connection: Connection, counted: Mapping[str, int]) -> list[ImagesFigure]:
    """Sums over shards, a thousandth of the results, and the counters of what is gone: they never fall."""
    sums = (
        select(jobs.c.model_id, func.sum(shards.c.ok), func.sum(shards.c.failed))
        .join(shards, shards.c.job_id == jobs.c.id)
        .where(jobs.c.model_id.is_not(None))
        .group_by(jobs.c.model_id)
    )
    now: dict[int, tuple[int, int]] = {
        model_id: (int(ok), int(failed)) for model_id, ok, failed in connection.execute(sums)
    }
    totals: Counter[tuple[str, str]] = Counter()
    for model_id, name, version in connection.execute(select(*models.c["id", "name", "version"])):
        for status, present in zip(("ok", "failed"), now.get(model_id, (0, 0)), strict=True):
            totals[f"{name}@{version}", status] += present + counted.get(images_name(model_id, status), 0)
    return [ImagesFigure(model, status, n) for (model, status), n in sorted(totals.items())]


def _queues(connection: Connection) -> list[QueueFigure]:
    oldest = func.min(jobs.c.created_at)
    query = (
        select(shards.c.queue, func.count(), func.sum(shards.c.hi - shards.c.lo), db_now() - oldest)
        .join(jobs, jobs.c.id == shards.c.job_id)
        .where(jobs.c.state.in_(CLAIMABLE), shards.c.state == ShardState.READY)
        .group_by(shards.c.queue)
        .order_by(shards.c.queue)
    )
    return [
        QueueFigure(queue, count, int(items), max(0.0, float(oldest_s)))
        for queue, count, items, oldest_s in connection.execute(query)
    ]


def _jobs(connection: Connection) -> dict[str, int]:
    found = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)).all()
    return {state.value: 0 for state in JobState} | {str(state): int(n) for state, n in found}


def _workers(connection: Connection) -> list[WorkerFigure]:
    w = workers.c
    query = select(w.id, w.device, w.state, w.model, w.images, db_now() - w.seen_at).order_by(w.id)
    return [
        WorkerFigure(worker_id, device, state, model, images, max(0.0, float(ago)))
        for worker_id, device, state, model, images, ago in connection.execute(query)
    ]


def _rate(connection: Connection) -> float:
    """Rows written lately, counted by the index on their time in the few jobs that can have any."""
    # A number, not an expression: PostgreSQL uses no index for a clock that may change while it reads.
    since = float(connection.scalar(select(db_now())) or 0.0) - RATE_S
    recent = or_(jobs.c.state.in_(BEGUN), jobs.c.finished_at > since)
    ids = connection.execute(select(jobs.c.id).where(recent)).scalars().all()
    written = select(func.count()).where(results.c.created_at > since)
    return round(sum(int(connection.scalar(written.where(results.c.job_id == one)) or 0) for one in ids) / RATE_S, 3)


def crew(database: Database, lately_s: float) -> Crew:
    """The workers that can classify now. Trainings are none of theirs: a trainer's name ends with its queue."""
    w = workers.c
    here = (w.state != "stopped") & (w.seen_at >= db_now() - lately_s) & w.id.not_like("%/train")
    work = (
        select(shards.c.id)
        .join(jobs, jobs.c.id == shards.c.job_id)
        .where(jobs.c.state.in_(CLAIMABLE), shards.c.queue == "classify", shards.c.state.in_(UNFINISHED))
    )
    with database.read() as connection:
        held = [bool(model) for model in connection.execute(select(w.model).where(here)).scalars()]
        return Crew(held.count(True), held.count(False), bool(connection.scalar(select(work.exists()))))


def queued_items(database: Database, owner: str) -> int:
    """How many images of an owner wait."""
    with database.read() as connection:
        return waiting_items(connection, owner)
