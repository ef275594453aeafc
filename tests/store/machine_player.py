"""A player does the same to the store and to the model of it, and compares the two. The rules are test_machine's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine
from sqlalchemy import Connection, event, select, update
from sqlalchemy.exc import OperationalError

from store import jobs as write
from store.catalog import register_model
from store.claims import Claimer, claim
from store.clock import db_now
from store.commits import commit_slice
from store.counters import FENCED_COMMITS, LEASE_EXPIRIES
from store.database import Database
from store.errors import DatabaseUnavailable, StoreError
from store.insights import items_left
from store.removal import remove
from store.rows import Lease, NewItem, NewJob, NewResult
from store.states import CLAIMABLE, JobState
from store.sweep import sweep
from store.tables import attempts, jobs, metadata, shards
from tests.store.invariants import Seen, broken, look
from tests.store.machine_facts import Claimed, Job, Shard
from tests.store.machine_model import Model

CODES = ("corrupt", "missing")
LEASE_S = 3600.0
NOBODYS = 15  # the pick that means a job that is not there


class Answers:
    """Loses the answer to a COMMIT: the `n`th of a writing transaction from now on, whether it happened or not."""

    def __init__(self, database: Database) -> None:
        self.armed = None
        self.lost: tuple[int, bool] | None = None  # of the last action: which of its transactions, and if it happened
        event.listen(database.engine, "commit", self._commit)

    @property
    def armed(self) -> tuple[int, bool] | None:
        """Which transaction of the next action it will be, and whether it happens."""
        return self._armed

    @armed.setter
    def armed(self, armed: tuple[int, bool] | None) -> None:
        self._armed, self._passed = armed, 0

    def close(self, database: Database) -> None:
        event.remove(database.engine, "commit", self._commit)

    def _commit(self, connection: Connection) -> None:
        if self.armed is None or connection.get_execution_options().get("pixmill") == "read":
            return
        n, happens = self.armed
        self._passed += 1
        if self._passed < n:
            return
        self.armed, self.lost = None, (n, happens)
        raw = connection.connection
        if happens:
            raw.commit()
        else:
            raw.rollback()
        raise OperationalError("COMMIT", {}, OSError("the answer was lost"))


def outcome(act: Callable[[], Any]) -> Any:
    """What an action returned, or the kind of error that it raised."""
    try:
        return act()
    except StoreError as error:
        return type(error)


class Player(RuleBasedStateMachine):
    """One database, one model of it, and what is done to both."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.answers = Answers(database)
        self.model = Model()
        self.leases: dict[str, Lease] = {}  # those whose worker knows of them
        self.is_sound = False
        with database.write() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
        self.model_id = register_model(database, ("birds", 1), "d" * 64, ["robin", "wren"], "{}", "/models/birds/1")

    def both(self, real: Callable[[], Any], modelled: Callable[[], Any], *, resolved: bool = False) -> Any:
        """Do it for real and in the model: the same comes of it. `resolved`: a lost answer is found out by itself."""
        before, self.answers.lost = self.model.copy(), None
        happened = outcome(real)
        self.answers.armed = None
        if self.answers.lost is None or self.answers.lost[1]:
            expected = outcome(modelled)
            if self.answers.lost is not None and not resolved:
                expected = DatabaseUnavailable
        else:
            self.model, expected = before, DatabaseUnavailable
        assert happened == expected, f"expected {expected}, got {happened}"
        return happened

    def lease(self, pick: int, *, live: bool, training: bool = False) -> tuple[Claimed, Lease] | None:
        """One of the leases there ever were, the newest first; a `live` one still owns its shard."""
        known = [
            lease
            for lease in self.model.leases
            if lease.token in self.leases
            and lease.is_training == training
            and (not live or self.model.owner(lease) is not None)
        ]
        if not known:
            return None
        chosen = known[-1 - pick % len(known)]
        return chosen, self.leases[chosen.token]

    def job(self, pick: int) -> int:
        """One of the jobs; once in a while one that is not there."""
        known = list(self.model.jobs)
        return known[pick % len(known)] if known and pick < NOBODYS else 10**6

    def _accept(self, count: int, largest: int, attempts_each: int, limit: int | None) -> None:
        """A classify job of a few small shards, given up after so many attempts; it stops after so many failures."""
        found = [NewItem(b"%d.jpg" % n, label=("robin", None)[n % 2]) for n in range(count)]
        made = self._made(
            NewJob(self.model_id, max_shard=largest, max_failures=None if limit is None else str(limit)), found
        )
        if made is None:
            return
        with self.database.write() as connection:
            connection.execute(update(shards).where(shards.c.job_id == made).values(max_attempts=attempts_each))
        ranges = [Shard(lo, min(lo + largest, count), max_attempts=attempts_each) for lo in range(0, count, largest)]
        self.model.accept(Job(made, count, ranges, limit=limit))

    def _made(self, job: NewJob, found: list[NewItem]) -> int | None:
        """Accept a job; its number, or None where an answer was lost before that was known to have happened."""
        made = outcome(lambda: write.accept(self.database, job, found))
        self.answers.armed = None
        if isinstance(made, int):
            return made
        assert made is DatabaseUnavailable
        assert self.answers.lost is not None
        return None

    def _claim(self, worker: str, queue: str) -> Lease | None:
        due = self._due(queue)
        self.answers.lost = None
        got = outcome(lambda: claim(self.database, Claimer(worker, queue, lease_s=LEASE_S)))
        self.answers.armed = None
        if self.answers.lost is not None:
            assert got is DatabaseUnavailable
            self._claim_unheard(worker)
        elif got is None:
            assert not due, f"nothing was handed out, and these are due: {due}"
        else:
            first = min(shard.lo for shard in self.model.jobs[got.job_id].shards if shard.state == "ready")
            assert (got.job_id, got.lo) in self._due_later(queue, due)
            assert got.lo == first or (got.job_id, first) not in due
            self.model.claim(got.token, got.job_id, got.lo, worker)
            self.leases[got.token] = got
            return got  # type: ignore[no-any-return]  # outcome knows no type
        return None

    def _claim_unheard(self, worker: str) -> None:
        """A claim whose answer was lost: where it happened, a shard is leased and nobody knows of it."""
        with self.database.read() as connection:
            query = select(attempts.c.token, shards.c.job_id, shards.c.lo).join(
                shards, shards.c.id == attempts.c.shard_id
            )
            found = connection.execute(query.where(attempts.c.token.not_in(list(self.model.attempts)))).all()
        assert len(found) <= int(self.answers.lost is not None and self.answers.lost[1])
        for token, job_id, lo in found:
            self.model.claim(token, job_id, lo, worker)

    def _due(self, queue: str) -> list[tuple[int, int]]:
        """Shards that may be handed out now, by job and first item, in order."""
        due = (shards.c.state == "ready") & (shards.c.queue == queue) & (shards.c.not_before <= db_now())
        query = select(shards.c.job_id, shards.c.lo).join(jobs, jobs.c.id == shards.c.job_id)
        with self.database.read() as connection:
            found = connection.execute(query.where(due, jobs.c.state.in_(CLAIMABLE)).order_by(shards.c.lo)).all()
        return [(job_id, lo) for job_id, lo in found]

    def _due_later(self, queue: str, due: list[tuple[int, int]]) -> set[tuple[int, int]]:
        """Those that were due, and those whose back-off ended meanwhile."""
        soon = (shards.c.queue == queue) & (shards.c.not_before <= db_now())
        with self.database.read() as connection:
            found = connection.execute(select(shards.c.job_id, shards.c.lo).where(soon)).all()
        return {*due, *((job_id, lo) for job_id, lo in found)}

    def _commit(self, pick: int, *, live: bool, few: int, failing: int, last: bool) -> None:
        if (found := self.lease(pick, live=live)) is not None:
            self._commit_of(found, few=few, failing=failing, last=last)

    def _commit_of(self, found: tuple[Claimed, Lease], *, few: int, failing: int, last: bool) -> None:
        """The rows of some of the items that are left; of all that it once had, where the lease is lost."""
        known, lease = found
        owned = self.model.owner(known) is not None
        if not owned:
            self.answers.armed = None  # only the counting of what was fenced off is committed
        left = [item.idx for item in items_left(self.database, lease)] if owned else list(range(lease.lo, lease.hi))
        new = [_result(idx, failing) for idx in left[:few]]
        resolved = last or bool(new)
        self.both(
            lambda: commit_slice(self.database, lease, new, last=last, lease_s=LEASE_S),
            lambda: self.model.commit(known, {row.idx: (row.status, row.error_code) for row in new}, last=last),
            resolved=resolved,
        )

    def _expire(self, token: str) -> None:
        self.answers.armed = None
        late = (shards.c.token == token) & (shards.c.lease_until > 0)
        with self.database.write() as connection:
            connection.execute(update(shards).where(late).values(lease_until=1.0))

    def _shift(self, seconds: float) -> None:
        """What is noted as a moment to come or gone is so many seconds nearer, or further back."""
        self.answers.armed = None
        with self.database.write() as connection:
            for column in (shards.c.lease_until, shards.c.not_before, jobs.c.claimed_at):
                moved = update(column.table).where(column > 1000)
                connection.execute(moved.values({column.name: column - seconds}))

    def _sweep(self) -> None:
        """A sweep; where an answer was lost in the middle of it, the next one does the rest."""
        with self.database.read() as connection:
            late = (shards.c.state == "leased") & (shards.c.lease_until < db_now())
            overdue = set(connection.execute(select(shards.c.token).where(late)).scalars())
        self.answers.lost = None
        swept = outcome(lambda: sweep(self.database))
        self.answers.armed = None
        if self.answers.lost is not None:
            assert swept is DatabaseUnavailable
            swept = outcome(lambda: sweep(self.database))
        assert not isinstance(swept, type), swept
        self.model.sweep(overdue)

    def _shards(self) -> Iterator[Shard]:
        return (shard for job in self.model.jobs.values() for shard in job.shards)

    def _end_backoff(self) -> None:
        with self.database.write() as connection:
            connection.execute(update(shards).values(not_before=0))

    def _retry(self, number: int, how: str) -> Any:
        codes, what = ([], how) if how in ("both", "left") else ([how], "both")
        return self.both(
            lambda: write.retry(self.database, number, codes, what=what),  # type: ignore[arg-type]  # two of the words
            lambda: self.model.retry(number, codes, what),
        )

    def _remove(self, number: int) -> None:
        """Several transactions; where one was cut off, the job is on its way out, and the next sweep ends that."""
        before, self.answers.lost = self.model.copy(), None
        happened = outcome(lambda: remove(self.database, number))
        self.answers.armed = None
        expected = outcome(lambda: self.model.remove(number))
        if self.answers.lost is None:
            assert happened == expected
            return
        assert happened is DatabaseUnavailable
        assert expected is None
        state = look(self.database).jobs.get(number)
        if state is not None:
            self.model = before
            if self.answers.lost != (1, False):
                self.model.mark_removed(number)

    def compare(self) -> None:
        self.is_sound = False
        armed, self.answers.armed = self.answers.armed, None
        seen = look(self.database)
        self.answers.armed = armed
        wrong = broken(seen)
        assert not wrong, "\n".join(wrong)
        known, there = set(self.model.facts()), set(_facts(seen, set(self.model.jobs)))
        assert known == there, f"only in the model: {known - there}\nonly in the database: {there - known}"
        assert seen.counters.get(LEASE_EXPIRIES, 0) == self.model.expiries
        assert seen.counters.get(FENCED_COMMITS, 0) == self.model.fenced
        for status in ("ok", "failed"):
            gone = seen.counters.get(f"images/{self.model_id}/{status}", 0)
            mine = [shard for number, job in seen.jobs.items() if job.model_id for shard in seen.shards.get(number, ())]
            still = sum(getattr(shard, status) for shard in mine)
            assert gone + still == self.model.written[status], f"images that were ever {status}"
        self.is_sound = True


def _result(idx: int, failing: int) -> NewResult:
    """A row; `failing` has a bit for each item that cannot be read."""
    if failing >> (idx % 4) & 1:
        return NewResult(idx, "failed", error_code=CODES[idx % 2], error="why")
    label = ("robin", "wren")[idx % 3 % 2]
    return NewResult(idx, "ok", label=label, score=(idx % 5) / 4, topk="[]", reused=idx % 4 == 3)


def _facts(seen: Seen, known: set[int]) -> Iterator[tuple[object, ...]]:
    """What the database says, in the model's words; scans that nobody knows of are left to the sweeper."""
    for number, job in seen.jobs.items():
        if job.state != JobState.SCANNING or number in known:
            yield "job", number, job.state
        if job.state != JobState.SCANNING:
            yield from _facts_of(seen, number)
    places = {shard.id: number for number, mine in seen.shards.items() for shard in mine}
    for attempt in seen.attempts:
        if seen.jobs[places[attempt.shard_id]].state != JobState.SCANNING:
            yield "attempt", attempt.token, attempt.outcome


def _facts_of(seen: Seen, number: int) -> Iterator[tuple[object, ...]]:
    for shard in seen.shards.get(number, ()):
        wanted = ("lo", "hi", "state", "attempt", "max_attempts", "token", "done_token")
        yield "shard", number, *(getattr(shard, name) for name in wanted)
    for row in seen.results.get(number, ()):
        yield "row", number, row.idx, row.status, row.error_code, row.token
    if (run := seen.runs.get(number)) is not None:
        at = None if run.checkpoint is None else (run.checkpoint_epoch, run.checkpoint_step)
        yield "run", number, at, bool(run.keep_best), run.model_id is not None
