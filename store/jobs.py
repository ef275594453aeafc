"""Write side of jobs: accept one, and move it as a person asks: pause, resume, cancel, retry, another priority."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, ScalarSelect, case, delete, func, literal_column, select, update

from store import removal, tallies
from store.claims import fence_off, kind_of, lock_job
from store.clock import db_now
from store.columns import all_of
from store.counters import count_up, images_name
from store.database import Database
from store.errors import IllegalMove, NothingToDo, StoreError, UnknownJob
from store.events import record
from store.failure_limits import NONE, judge
from store.following import follow
from store.rows import NewItem, NewJob
from store.run_moves import ask_for_the_best, is_leased, reopen
from store.scanning import discard, fill, open_job
from store.states import (
    CANCELLABLE,
    CLAIMABLE,
    FINAL,
    PAUSABLE,
    RESUMABLE,
    RETRYABLE,
    UNFINISHED,
    JobKind,
    JobState,
    ShardState,
)
from store.tables import jobs, results, shards
from store.waiting import check_room, line_up

What = Literal["both", "left"]  # to run again: what failed and what was never run, or that alone

FAILED = results.c.status == literal_column("'failed'")  # as their index says it


def accept(database: Database, job: NewJob, found: Iterable[NewItem], ignored: dict[str, int] | None = None) -> int:
    """Write a job with its items and shards; it is accepted, whole, when this returns its id.

    Items arrive in chunks while the job is `scanning`, invisible to workers; the last transaction adds the shards and
    makes it `accepted`. A crash before that leaves a scanning job, which the sweeper removes. `ignored` is read at the
    end, so that a scan can fill it on the way. Whatever `found` raises is passed on after the half-written job is gone.
    """
    job_id = open_job(database, job)
    try:
        fill(database, job_id, job, found, ignored)
    except BaseException:
        with suppress(StoreError):  # the sweeper removes it later; what went wrong first is what counts
            discard(database, job_id)
        raise
    return job_id


def _move(connection: Connection, job_id: int, allowed: Iterable[JobState], asked: str, **values: Any) -> None:
    """Change a job's state if it is in one of `allowed`. Raises UnknownJob, IllegalMove."""
    done = connection.execute(
        update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(tuple(allowed))).values(**values)
    )
    if done.rowcount:
        follow(connection, job_id)
        return
    state = connection.scalar(select(jobs.c.state).where(jobs.c.id == job_id))
    raise UnknownJob(job_id) if state is None else IllegalMove(job_id, state, asked)


def pause(database: Database, job_id: int) -> None:
    """Hand out no shard; workers give back theirs after the current batch. Raises UnknownJob, IllegalMove."""
    with database.write() as connection:
        _move(connection, job_id, PAUSABLE, "paused", state=JobState.PAUSED)
        record(connection, job_id, "paused", {})


def resume(database: Database, job_id: int, max_failures: str | None = None, *, most: int | None = None) -> None:
    """Let a paused job go on; or one that failed, with what was never run: what failed stays as it is.

    `max_failures`, as store.failure_limits has it: so many may fail, also of one that runs. Without it a job that has
    stopped for its failures goes on whatever fails. `most`: images of the job's owner that may wait. Raises UnknownJob,
    IllegalMove, QueueFull, NothingToDo.
    """
    with database.write() as connection:
        owner = _line_up_for(connection, job_id)
        state, kind = lock_job(connection, job_id), kind_of(connection, job_id)
        if kind is JobKind.FINETUNE and max_failures is not None:
            raise IllegalMove(job_id, "a training", "resumed up to some failures")
        stopped = kind is JobKind.CLASSIFY and state == JobState.FAILED
        if stopped:
            _take_up_again(connection, job_id, {JobState.FAILED}, "resumed")
            left, _ = _reopen_items(connection, job_id, (), "left")
            _check_reopened(connection, job_id, left, owner, most)
        elif state not in CLAIMABLE or max_failures is None:  # of one that runs, the limit may be changed
            _move(connection, job_id, RESUMABLE, "resumed", state=_taken_up(job_id))
        limits = _set_limit(connection, job_id, max_failures) if stopped or max_failures is not None else {}
        record(connection, job_id, "resumed", limits)


def _line_up_for(connection: Connection, job_id: int) -> str:
    """The owner of a job whose images are to wait again; before it is locked."""
    owner = connection.scalar(select(jobs.c.owner).where(jobs.c.id == job_id)) or ""
    line_up(connection, owner)
    return owner


def _take_up_again(connection: Connection, job_id: int, allowed: Collection[JobState], asked: str) -> None:
    """Make a job that has ended accepted, as if it had not begun; nobody holds a shard of it any more."""
    if lock_job(connection, job_id) in allowed:
        fence_off(connection, job_id, ShardState.READY)  # before the run of a training is locked, as its worker does
    again = {"state": JobState.ACCEPTED, "started_at": None, "finished_at": None, "error": None}
    _move(connection, job_id, allowed, asked, **again)


def _check_reopened(
    connection: Connection, job_id: int, left: int, owner: str, most: int | None, codes: Sequence[str] = ()
) -> None:
    if left == 0:
        raise NothingToDo(job_id, codes)  # and the transaction is as if it had never been
    if most is not None:
        check_room(connection, owner, most)


def _set_limit(connection: Connection, job_id: int, wanted: str | None) -> dict[str, str]:
    """Set how many may fail. Where nobody says, and the job would stop at once again: any number.

    Returns what there is to tell of that.
    """
    if wanted is None and judge(connection, job_id) is not None:
        wanted = NONE
    if wanted is None:
        return {}
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(max_failures=wanted))
    return {"max_failures": wanted}


def set_priority(database: Database, job_id: int, priority: int) -> None:
    """Say how urgent a job is, from 0 (first) to 9 (last). Raises UnknownJob, IllegalMove for one that has ended."""
    if not 0 <= priority <= 9:
        raise ValueError(f"expected a priority from 0 (first) to 9 (last), got {priority}")
    with database.write() as connection:
        _move(connection, job_id, set(JobState) - FINAL, "given another priority", priority=priority)
        record(connection, job_id, "priority", {"priority": priority})


def _taken_up(job_id: int) -> ColumnElement[str]:
    """The state of a job that may go on: running where a worker has not let go of it yet."""
    return case((is_leased(job_id), JobState.RUNNING), else_=JobState.ACCEPTED)


def cancel(database: Database, job_id: int, keep_best: bool = False) -> None:
    """End a job; results that are there stay. Raises UnknownJob, IllegalMove.

    `keep_best`, of a training: its worker ends it early, makes a model of the best epoch, and calls it cancelled then;
    another worker does where that one dies. Where nothing is there to keep, it is cancelled at once.

    A scan ends, and its job is cancelled without images, at once: whoever looks for them finds that out when he writes.
    Ready shards are cancelled at once. Leased ones are given back by their workers at the next batch, or by the sweeper
    when their lease ends; then the job is `cancelled`.
    """
    with database.write() as connection:
        if keep_best and _end_early(connection, job_id):
            return
        if not (was_scanning := _end_scan(connection, job_id)):
            _move(connection, job_id, CANCELLABLE, "cancelled", state=JobState.CANCELLING)
            ready = (shards.c.job_id == job_id) & (shards.c.state == ShardState.READY)
            connection.execute(update(shards).where(ready).values(state=ShardState.CANCELLED))
            record(connection, job_id, "cancelling", {})
            close_cancelled(connection, job_id)
    if was_scanning:
        removal.clear_items(database, job_id)


def _end_scan(connection: Connection, job_id: int) -> bool:
    """Cancel a job whose images are still looked for; False where they are not."""
    state = lock_job(connection, job_id)
    if state != JobState.SCANNING:
        return False
    if connection.scalar(select(jobs.c.options).where(jobs.c.id == job_id)) == "{}":  # see removal.mark
        raise IllegalMove(job_id, state, "cancelled: it is being removed")
    ended: dict[str, Any] = {"state": JobState.CANCELLED, "finished_at": db_now()}
    ended |= {"options": "{}", "claimed_at": None, "n_items": 0}
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(ended))
    record(connection, job_id, "cancelled", {})
    return True


def _end_early(connection: Connection, job_id: int) -> bool:
    """Ask a training to end with its best; False where it has none. It stays open, so that any worker can do it."""
    state = lock_job(connection, job_id)
    if state is not None and kind_of(connection, job_id) is not JobKind.FINETUNE:
        raise IllegalMove(job_id, state, "cancelled with its best kept: it is no training")
    if state not in CLAIMABLE | RESUMABLE or not ask_for_the_best(connection, job_id):
        if state == JobState.CANCELLING:
            raise IllegalMove(job_id, state, "cancelled with its best kept any more")
        return False
    goes_on = state if state in CLAIMABLE else _taken_up(job_id)
    _move(connection, job_id, CLAIMABLE | RESUMABLE, "cancelled", state=goes_on)
    record(connection, job_id, "ending_early", {})
    return True


def fail(database: Database, job_id: int, error: str) -> None:
    """End a job that cannot go on at all, with the reason; results that are there stay."""
    with database.write() as connection:
        end_as_failed(connection, job_id, error)


def end_as_failed(connection: Connection, job_id: int, error: str) -> bool:
    """End an open job with a reason; whether it was open. What is leased is given back, and not handed out again."""
    values = {"state": JobState.FAILED, "error": error, "finished_at": db_now()}
    if not connection.execute(
        update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(CLAIMABLE)).values(**values)
    ).rowcount:
        return False
    mine = (shards.c.job_id == job_id) & (shards.c.state == ShardState.READY)
    connection.execute(update(shards).where(mine).values(state=ShardState.CANCELLED))
    follow(connection, job_id)
    record(connection, job_id, "failed", {"error": error})
    return True


def close_cancelled(connection: Connection, job_id: int) -> None:
    """Make a cancelling job `cancelled` once no shard of it is leased."""
    leased = select(shards.c.id).where(shards.c.job_id == job_id, shards.c.state.in_(UNFINISHED)).exists()
    closed = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == JobState.CANCELLING, ~leased)
        .values(state=JobState.CANCELLED, finished_at=db_now())
    )
    if closed.rowcount:
        follow(connection, job_id)
        record(connection, job_id, "cancelled", {})


def retry(
    database: Database,
    job_id: int,
    codes: Sequence[str] = (),
    *,
    what: What = "both",
    max_failures: str | None = None,
    most: int | None = None,
) -> int:
    """Run again what failed (only those error `codes`, if given) and what was never run, in the same job.

    `what` "left" leaves alone what failed. A training goes on from its checkpoint. `max_failures` and `most` as of
    `resume`. Returns how many items will run. Raises UnknownJob, IllegalMove, QueueFull, NothingToDo (of a training: it
    has its model).
    """
    if codes and what == "left":
        raise ValueError("expected error codes, or only what was never run; got both")
    forgotten: dict[str, int] = {}
    limits: dict[str, str] = {}
    with database.write() as connection:
        owner = _line_up_for(connection, job_id)
        _take_up_again(connection, job_id, RETRYABLE, "retried")
        if kind_of(connection, job_id) is JobKind.FINETUNE:
            if codes or max_failures is not None:
                raise IllegalMove(job_id, "a training", "retried for some error codes only, or up to some failures")
            left = reopen(connection, job_id)
        else:
            left, forgotten = _reopen_items(connection, job_id, codes, what)
            limits = _set_limit(connection, job_id, max_failures)
        _check_reopened(connection, job_id, left, owner, most, codes)
        record(connection, job_id, "retried", {"items": left, "codes": list(codes), **limits})
        count_up(connection, forgotten)
        return left


def _reopen_items(connection: Connection, job_id: int, codes: Sequence[str], what: What) -> tuple[int, dict[str, int]]:
    """Forget what failed (as `codes`), if that is wanted, and hand out again the shards where items are left.

    Returns how many those are, and the counter of failed images with what is forgotten: they stay counted there.
    """
    forgotten = _forget_failed(connection, job_id, codes) if what == "both" else Counter[str]()
    _reopen_shards(connection, job_id)
    done = select(func.count()).select_from(results).where(results.c.job_id == all_of(job_id))
    counted = update(jobs).where(jobs.c.id == job_id).values(done_before=done.scalar_subquery())
    left = int(connection.scalar(counted.returning(jobs.c.n_items - jobs.c.done_before)) or 0)
    tallies.add(connection, job_id, {("error_code", code): -n for code, n in forgotten.items()})
    model_id = connection.scalar(select(jobs.c.model_id).where(jobs.c.id == job_id))
    return left, {images_name(model_id, "failed"): sum(forgotten.values())}


def _forget_failed(connection: Connection, job_id: int, codes: Sequence[str]) -> Counter[str]:
    wrong = (results.c.job_id == all_of(job_id)) & FAILED
    if codes:
        wrong &= results.c.error_code.in_(codes)
    counted = select(results.c.error_code, func.count()).where(wrong).group_by(results.c.error_code)
    forgotten = Counter({str(code): int(n) for code, n in connection.execute(counted)})
    connection.execute(delete(results).where(wrong))
    return forgotten


def _reopen_shards(connection: Connection, job_id: int) -> None:
    """Count again what every shard has, and make those with items left ready; whoever still holds one is fenced off."""
    inside = (results.c.job_id == shards.c.job_id) & (results.c.idx >= shards.c.lo) & (results.c.idx < shards.c.hi)

    def counted(condition: ColumnElement[bool]) -> ScalarSelect[int]:
        return select(func.count()).select_from(results).where(inside, condition).scalar_subquery()

    mine = (shards.c.job_id == job_id) & (shards.c.state != ShardState.SPLIT)
    connection.execute(
        update(shards)
        .where(mine)
        .values(
            ok=counted(results.c.status == "ok"),
            failed=counted(results.c.status == "failed"),
            reused=counted(results.c.reused),
        )
    )
    fresh = {"attempt": 0, "not_before": 0, "token": None, "done_token": None, "lease_until": None}
    connection.execute(
        update(shards)
        .where(mine, shards.c.ok + shards.c.failed < shards.c.hi - shards.c.lo)
        .values(state=ShardState.READY, **fresh)
    )
