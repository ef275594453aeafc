"""Runs: what is known of each training, and every write of the worker that trains, fenced by its token."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, Select, String, bindparam, cast, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from store.claims import close_attempt, lock_job, owned
from store.clock import db_now
from store.database import Database
from store.errors import DatabaseUnavailable, LeaseLost, UnknownJob, UnknownRun
from store.events import record
from store.following import follow
from store.rows import Lease
from store.run_moves import ATTEMPTS
from store.run_rows import EpochFacts, EpochRow, RunEnd, RunRow, Wanted
from store.states import CLAIMABLE, RESUMABLE, JobState, ShardState
from store.tables import attempts, epochs, evaluations, jobs, models, runs, shards

_JSON = ("progress", "recipe", "options", "census", "libraries")
_SHOWN = tuple(name for name in RunRow.__slots__ if name in runs.c and name not in _JSON)
_MEASURES = ("val_loss", "val_accuracy", "loss", "accuracy")  # that may be monitored
_OPEN = CLAIMABLE | RESUMABLE | {JobState.CANCELLING}


def find_run(database: Database, run_id: int) -> RunRow:
    """One run by its number. Raises UnknownRun."""
    return _first(database, _BY_NUMBER, str(run_id), wanted=run_id)


def run_of_job(database: Database, job_id: int) -> RunRow:
    """The run of a finetune job. Raises UnknownRun."""
    return _first(database, _BY_JOB, f"of job {job_id}", wanted=job_id)


def resolve_run(database: Database, text: str) -> RunRow:
    """The run that a person means: its number, its name (the newest), or the model it made, NAME@VERSION.

    Raises UnknownRun.
    """
    name, at, version = text.strip().rpartition("@")
    if at and version.isdecimal():
        made = select(models.c.id).where(models.c.name == name, models.c.version == int(version))
        return _first(database, _RUNS.where(runs.c.model_id.in_(made)).limit(1), text)
    if version.isdecimal() and int(version) < 2**63:
        try:
            return find_run(database, int(version))
        except UnknownRun:  # a name may be a number too
            pass
    return _first(database, _RUNS.where(runs.c.name == text.strip()).limit(1), text)


def list_runs(
    database: Database,
    limit: int = 50,
    before: int | None = None,
    *,
    owner: str | None = None,
    name: str | None = None,
) -> list[RunRow]:
    """The newest runs first; `before` continues below an id. `owner`, `name`: only theirs."""
    query = _RUNS.limit(limit)
    if owner is not None:
        query = query.where(runs.c.owner == owner)
    if name is not None:
        query = query.where(runs.c.name == name)
    if before is not None:
        query = query.where(runs.c.id < before)
    with database.read() as connection:
        return [_row(row) for row in connection.execute(query)]


def _first(database: Database, query: Select[Any], name: str, **values: int) -> RunRow:
    with database.read() as connection:
        row = connection.execute(query, values).first()
    if row is None:
        raise UnknownRun(name)
    return _row(row)


def _joined() -> Select[Any]:
    """Every run with its models, how many epochs it has, and how it did; the newest first."""
    base = models.alias("base")
    counted = select(func.count()).select_from(epochs).where(epochs.c.run_id == runs.c.id).scalar_subquery()
    added: list[Any] = [
        (models.c.name + "@" + cast(models.c.version, String)).label("model"),
        (base.c.name + "@" + cast(base.c.version, String)).label("base_model"),
        counted.label("epochs"),
        evaluations.c.accuracy,
        evaluations.c.top5,
    ]
    return (
        select(*(runs.c[name] for name in (*_SHOWN, *_JSON)), *added)
        .outerjoin(models, models.c.id == runs.c.model_id)
        .outerjoin(base, base.c.id == runs.c.base_model_id)
        .outerjoin(evaluations, evaluations.c.job_id == runs.c.evaluation_job_id)
        .order_by(runs.c.id.desc())
    )


# Built once.
_RUNS = _joined()
_BY_NUMBER = _RUNS.where(runs.c.id == bindparam("wanted"))
_BY_JOB = _RUNS.where(runs.c.job_id == bindparam("wanted")).limit(1)


def _row(row: Row[Any]) -> RunRow:
    values = dict(row._mapping)
    return RunRow(**{**values, **{name: json.loads(values[name]) for name in _JSON}})


def epochs_of(database: Database, run_id: int) -> list[EpochRow]:
    """The history of a run, in order, with its restarts and its best epoch marked."""
    query = select(epochs, runs.c.best_epoch).join(runs, runs.c.id == epochs.c.run_id)
    with database.read() as connection:
        found = connection.execute(query.where(epochs.c.run_id == run_id).order_by(epochs.c.epoch)).all()
    history: list[EpochRow] = []
    for row in found:
        values = dict(row._mapping)
        del values["improved"]
        best = values.pop("best_epoch")
        values["metrics"] = json.loads(values["metrics"])
        restarted = bool(history) and history[-1].attempt != row.attempt
        history.append(EpochRow(**values, restarted=restarted, is_best=row.epoch == best))
    return history


def fence(connection: Connection, lease: Lease) -> Row[Any]:
    """The run of a lease, and its shard locked: what every write of a training begins with. Raises LeaseLost."""
    found = connection.execute(
        select(*runs.c["id", "monitor", "model_id", "keep_best", "checkpoint_epoch", "checkpoint_step", "fingerprint"])
        .add_columns(shards.c.ok, shards.c.failed)
        .select_from(shards)
        .join(runs, runs.c.job_id == shards.c.job_id)
        .where(owned(lease))
        .with_for_update(of=shards)
    ).first()
    if found is None:
        raise LeaseLost(lease.shard_id)
    return found


def wanted(database: Database, lease: Lease) -> Wanted:
    """What a person wants of this run now; "lost" where the lease is. See Wanted."""
    query = select(jobs.c.state, runs.c.keep_best).select_from(shards).join(jobs, jobs.c.id == shards.c.job_id)
    with database.read() as connection:
        row = connection.execute(query.join(runs, runs.c.job_id == jobs.c.id).where(owned(lease))).first()
    if row is None:
        return "lost"
    if row.state == JobState.PAUSED:
        return "pause"
    if row.state not in CLAIMABLE:
        return "cancel"
    return "stop" if row.keep_best else "go"


def begin(
    database: Database,
    lease: Lease,
    *,
    device: str,
    libraries: Mapping[str, str],
    code_version: str,
    resume_epoch: int = 0,
) -> RunRow:
    """Say where and with what this attempt runs, and forget the epochs after `resume_epoch`, which will be run again.

    `resume_epoch`: the last whole epoch that the checkpoint holds, 0 to begin anew; a checkpoint that holds more is
    forgotten too. Raises LeaseLost.
    """
    with database.write() as connection:
        run = fence(connection, lease)
        mine = epochs.c.run_id == run.id
        connection.execute(delete(epochs).where(mine, epochs.c.epoch > resume_epoch))
        best = connection.execute(
            select(epochs).where(mine, epochs.c.improved).order_by(epochs.c.epoch.desc()).limit(1)
        ).first()
        values: dict[str, Any] = {
            "device": device,
            "libraries": json.dumps(dict(libraries)),
            "code_version": code_version,
            "best_epoch": best.epoch if best else None,
            "best_value": getattr(best, run.monitor, None) if best and run.monitor in _MEASURES else None,
        }
        if (run.checkpoint_epoch or 0) > resume_epoch:
            values |= {"checkpoint": None, "checkpoint_epoch": None, "checkpoint_step": None}
        _set(connection, run, **values)
    return run_of_job(database, lease.job_id)


def _set(connection: Connection, run: Row[Any], **values: Any) -> None:
    connection.execute(update(runs).where(runs.c.id == run.id).values(**values))


def set_stage(database: Database, lease: Lease, stage: str, progress: Mapping[str, Any]) -> None:
    """Say what the run does now: reading, features, training, finishing, evaluating, reporting. Raises LeaseLost."""
    with database.write() as connection:
        _set(connection, fence(connection, lease), stage=stage, progress=json.dumps(_finite(progress)))


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Neither JSON nor SQLite has a number that is none."""
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}


def add_epoch(database: Database, lease: Lease, facts: EpochFacts) -> None:
    """Write an epoch, over one of the same number from an attempt before. Raises LeaseLost."""
    values = _finite(asdict(facts))
    values["improved"] = values.pop("is_best")
    values["metrics"] = json.dumps(_finite(facts.metrics))
    with database.write() as connection:
        run = fence(connection, lease)
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        connection.execute(
            dialect.insert(epochs)
            .values(run_id=run.id, attempt=lease.attempt, **values)
            .on_conflict_do_update(index_elements=["run_id", "epoch"], set_={"attempt": lease.attempt, **values})
        )
        if facts.is_best:
            best = values.get(run.monitor) if run.monitor in _MEASURES else None
            _set(connection, run, best_epoch=facts.epoch, best_value=best)


def move_checkpoint(database: Database, lease: Lease, path: str, epoch: int, step: int) -> None:
    """Point to a checkpoint that is on the disk: `epoch` whole epochs and `step` steps of the next. Raises LeaseLost.

    Where that is further than before, the attempts without progress are counted from here. Survives a power cut once it
    returns: the checkpoint before may go.
    """
    with database.write(durable=True) as connection:
        run = fence(connection, lease)
        _set(connection, run, checkpoint=path, checkpoint_epoch=epoch, checkpoint_step=step)
        if run.checkpoint_epoch is None or (epoch, step) > (run.checkpoint_epoch, run.checkpoint_step):
            counted = update(shards).where(owned(lease))
            connection.execute(counted.values(max_attempts=shards.c.attempt + ATTEMPTS))


def set_model(
    database: Database, lease: Lease, model_id: int, best_epoch: int | None, best_value: float | None
) -> None:
    """Say which model version the run has made, from which epoch. Raises LeaseLost."""
    with database.write(durable=True) as connection:
        run = fence(connection, lease)
        _set(connection, run, model_id=model_id, best_epoch=best_epoch, best_value=best_value)


def set_evaluation(database: Database, lease: Lease, job_id: int, report_path: str | None) -> None:
    """Say which classify job evaluates the model, and where the report is. Raises LeaseLost, UnknownJob."""
    with database.write(durable=True) as connection:
        hold_job(connection, job_id)
        _set(connection, fence(connection, lease), evaluation_job_id=job_id, report_path=report_path)


def hold_job(connection: Connection, job_id: int) -> None:
    """Keep a job from being removed until this transaction ends; before any shard is locked. Raises UnknownJob."""
    held = select(jobs.c.id).where(jobs.c.id == job_id).with_for_update(read=True, key_share=True)
    if connection.scalar(held) is None:
        raise UnknownJob(job_id)


def previous_error(database: Database, lease: Lease) -> str | None:
    """How the attempt before this one failed; None where it did not, or there was none."""
    before = (attempts.c.shard_id == lease.shard_id) & (attempts.c.n == lease.attempt - 1)
    with database.read() as connection:
        error: str | None = connection.scalar(select(attempts.c.error).where(before, attempts.c.outcome == "failed"))
        return error


def finish_run(database: Database, lease: Lease, state: RunEnd, error: str | None = None) -> None:
    """End the run, its shard and its job, in one transaction.

    A job that a person is cancelling, with or without its best, ends as cancelled where `state` says done. May be
    called again with the same lease: what has happened is not done twice. Raises LeaseLost.
    """
    try:
        with database.write(durable=True) as connection:
            _end(connection, lease, state, error)
    except (DatabaseUnavailable, LeaseLost):
        with database.read() as connection:  # the answer to COMMIT may have been lost, now or the last time
            done = connection.scalar(select(shards.c.done_token).where(shards.c.id == lease.shard_id))
        if done != lease.token:
            raise


def fail_run(database: Database, lease: Lease, error: str) -> None:
    """End the run and its job as failed, for a reason that trying again would not mend. Raises LeaseLost."""
    finish_run(database, lease, "failed", error)


def _end(connection: Connection, lease: Lease, state: RunEnd, error: str | None) -> None:
    job_state = lock_job(connection, lease.job_id)
    run = fence(connection, lease)
    if job_state == JobState.CANCELLING or (run.keep_best and state == "done"):
        state = "cancelled"
    # What has no model yet can be tried again: see run_moves.reopen.
    whole = state == "done" or (state == "cancelled" and run.model_id is not None)
    connection.execute(
        update(shards)
        .where(owned(lease))
        .values(
            state=ShardState.DONE if whole else ShardState.CANCELLED,
            done_token=lease.token,
            token=None,
            lease_until=None,
        )
    )
    close_attempt(connection, lease.token, state, error)
    if job_state not in _OPEN:
        return  # it has ended otherwise, and stays so
    ends = {"cancelled": JobState.CANCELLED, "failed": JobState.FAILED}
    done = JobState.DONE_WITH_ERRORS if run.failed else JobState.DONE
    end = ends.get(state, done)
    values = {"state": end, "error": error if state == "failed" else None, "finished_at": db_now()}
    connection.execute(update(jobs).where(jobs.c.id == lease.job_id).values(**values))
    follow(connection, lease.job_id)
    record(connection, lease.job_id, end, {"error": error} if error else {})
