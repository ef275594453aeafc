"""What a job's moves do to its run: opened with the job, ended early with its best kept, tried again."""

import json
from typing import Any

from sqlalchemy import Connection, ScalarSelect, func, insert, literal, or_, select, update

from store.clock import db_now
from store.errors import UnknownRun
from store.rows import NewRun
from store.states import ShardState
from store.tables import epochs, jobs, runs, shards

ATTEMPTS = 5  # without progress, before a training is given up

# What a continued run takes from the one before it.
_INHERITED = ("best_epoch", "best_value", "checkpoint", "checkpoint_epoch", "checkpoint_step")


def open_run(connection: Connection, job_id: int, new: NewRun) -> None:
    """Write the run of a job that is being accepted. Raises UnknownRun for a run to continue that is not there."""
    values: dict[str, Any] = {
        "job_id": job_id,
        "owner": select(jobs.c.owner).where(jobs.c.id == job_id).scalar_subquery(),
        "uid": new.uid,
        "name": new.name,
        "state": "queued",
        "recipe": json.dumps(dict(new.recipe), ensure_ascii=False),
        "options": json.dumps(dict(new.options), ensure_ascii=False),
        "seed": new.seed,
        "monitor": new.monitor,
        "epochs_planned": new.epochs_planned,
        "base_model_id": new.base_model_id,
        "continued_from": new.continued_from,
        "created_at": db_now(),
    }
    if new.continued_from is not None:
        parent = connection.execute(select(*runs.c[_INHERITED]).where(runs.c.id == new.continued_from)).first()
        if parent is None:
            raise UnknownRun(str(new.continued_from))
        values |= parent._mapping
    run_id = connection.execute(insert(runs).values(values).returning(runs.c.id)).scalar_one()
    if new.continued_from is not None:
        _copy_epochs(connection, new.continued_from, run_id)
        _count_attempts_on(connection, job_id, run_id)


def _copy_epochs(connection: Connection, parent_id: int, run_id: int) -> None:
    copied = [column for column in epochs.c if column is not epochs.c.run_id]
    rows = select(literal(run_id), *copied).where(epochs.c.run_id == parent_id)
    connection.execute(insert(epochs).from_select(["run_id", *(column.name for column in copied)], rows))


def _count_attempts_on(connection: Connection, job_id: int, run_id: int) -> None:
    """Number the attempts after those in the history, so that the continuation is marked as a restart."""
    last = select(func.coalesce(func.max(epochs.c.attempt), 0)).where(epochs.c.run_id == run_id).scalar_subquery()
    connection.execute(
        update(shards).where(shards.c.job_id == job_id).values(attempt=last, max_attempts=last + ATTEMPTS)
    )


def is_leased(job_id: int) -> ScalarSelect[bool]:
    """Whether a worker holds a shard of a job, as an expression."""
    held = select(shards.c.id).where(shards.c.job_id == job_id, shards.c.state == ShardState.LEASED).exists()
    return select(held).scalar_subquery()


def ask_for_the_best(connection: Connection, job_id: int) -> bool:
    """Note that a run shall end early and keep its best; False where there is nothing to keep, nor will be."""
    worth = or_(runs.c.checkpoint.is_not(None), runs.c.model_id.is_not(None), is_leased(job_id))
    asked = connection.execute(update(runs).where(runs.c.job_id == job_id, worth).values(keep_best=True))
    return bool(asked.rowcount)


def is_without_best(connection: Connection, job_id: int) -> bool:
    """Whether a run that shall end early has nothing to keep."""
    nothing = (runs.c.checkpoint.is_(None)) & (runs.c.model_id.is_(None))
    query = select(runs.c.id).where(runs.c.job_id == job_id, runs.c.keep_best, nothing)
    return connection.scalar(query) is not None


def reopen(connection: Connection, job_id: int) -> int:
    """Make a training ready for another attempt from its checkpoint; returns its images, 0 where it has its model.

    What the survey found stays, and attempts are numbered on: it is the same history.
    """
    again = connection.execute(
        update(shards)
        .where(shards.c.job_id == job_id, shards.c.state != ShardState.DONE)
        .values(
            state=ShardState.READY,
            max_attempts=shards.c.attempt + ATTEMPTS,
            not_before=0,
            token=None,
            done_token=None,
            lease_until=None,
        )
        .returning(shards.c.hi)
    ).first()
    connection.execute(update(runs).where(runs.c.job_id == job_id).values(keep_best=False))
    return int(again.hi) if again else 0
