"""Leases: one owner at a time, a fair order, and a fence that holds."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import func, select, update

from store import jobs as write
from store.claims import Claimer, claim, give_up, release, release_dead, renew
from store.commits import commit_slice
from store.database import Database
from store.errors import IncompleteShard, LeaseLost, StoreError
from store.insights import items_left, job
from store.rows import Lease
from store.states import JobState
from store.sweep import sweep
from store.tables import attempts, jobs, results, shards
from tests.store.conftest import AcceptJob, ok_results


def take(database: Database, worker: str = "w", **options: object) -> Lease:
    lease = claim(database, Claimer(worker, **options))  # type: ignore[arg-type]  # by name
    assert lease is not None
    return lease


def expire(database: Database, lease: Lease) -> None:
    """Let a lease's time run out."""
    with database.write() as connection:
        connection.execute(update(shards).where(shards.c.id == lease.shard_id).values(lease_until=1.0))


def rows(database: Database) -> int:
    with database.read() as connection:
        return int(connection.scalar(select(func.count()).select_from(results)) or 0)


def test_every_item_is_claimed_once_by_many_workers_at_once(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(640)
    barrier = threading.Barrier(4)

    def drain(n: int) -> list[tuple[int, int]]:
        barrier.wait()
        taken = []
        while lease := claim(database, Claimer(f"w{n}")):
            taken.append((lease.lo, lease.hi))
            commit_slice(database, lease, ok_results(lease), last=True)
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = sorted(pair for pairs in pool.map(drain, range(4)) for pair in pairs)
    assert taken == [(lo, lo + 64) for lo in range(0, 640, 64)]
    sweep(database)
    assert job(database, job_id).state is JobState.DONE


def test_a_busy_worker_takes_no_shard_that_was_tried_before(database: Database, accept_job: AcceptJob) -> None:
    """What ends the work on the shards that it has in hand would cost that one another attempt."""
    accept_job(192)
    tried = take(database)
    give_up(database, tried, "the model died")
    sweep(database)
    assert claim(database, Claimer("w", is_busy=True)) is None
    again = take(database)
    assert (again.shard_id, again.attempt) == (tried.shard_id, 2)
    fresh = take(database, is_busy=True)
    release(database, fresh)  # uncounted: as good as never tried
    assert take(database, is_busy=True).shard_id == fresh.shard_id


def test_a_paused_worker_cannot_commit_after_its_lease_was_taken(database: Database, accept_job: AcceptJob) -> None:
    accept_job(3)
    zombie = take(database, "zombie")
    expire(database, zombie)
    assert sweep(database).expired == 1
    heir = take(database, "heir")
    with pytest.raises(LeaseLost):
        commit_slice(database, zombie, ok_results(zombie), last=True)
    assert rows(database) == 0
    commit_slice(database, heir, ok_results(heir), last=True)
    assert rows(database) == 3
    assert renew(database, [zombie]) == {zombie.token: None}
    assert release(database, zombie) is False


def test_where_the_fence_is_forged_the_unique_key_raises_the_alarm(database: Database, accept_job: AcceptJob) -> None:
    """The second line of defence: a zombie that writes under its heir's token doubles no row either."""
    accept_job(3)
    zombie = take(database, "zombie")
    expire(database, zombie)
    sweep(database)
    heir = take(database, "heir")
    forged = replace(zombie, token=heir.token)
    commit_slice(database, forged, ok_results(forged)[:1], last=False)
    with pytest.raises(StoreError, match="refused"):
        commit_slice(database, heir, ok_results(heir), last=True)
    assert rows(database) == 1


def test_a_long_shard_commits_in_slices_and_a_new_claim_skips_what_is_there(
    database: Database, accept_job: AcceptJob
) -> None:
    job_id = accept_job(10)
    first = take(database)
    commit_slice(database, first, ok_results(first)[:4], last=False)
    assert job(database, job_id).classified == 4
    expire(database, first)
    sweep(database)
    second = take(database)
    left = items_left(database, second)
    assert [item.idx for item in left] == [4, 5, 6, 7, 8, 9]
    commit_slice(database, second, ok_results(second, left), last=True)
    sweep(database)
    assert job(database, job_id).state is JobState.DONE
    assert rows(database) == 10


def test_a_shard_cannot_be_closed_with_items_missing(database: Database, accept_job: AcceptJob) -> None:
    accept_job(3)
    lease = take(database)
    with pytest.raises(IncompleteShard, match="expected 3 results before closing it, found 2"):
        commit_slice(database, lease, ok_results(lease)[:2], last=True)
    assert rows(database) == 0


def test_a_lease_that_is_renewed_does_not_expire(database: Database, accept_job: AcceptJob) -> None:
    accept_job(3)
    lease = take(database, lease_s=0.0)
    assert renew(database, [lease]) == {lease.token: JobState.RUNNING}
    assert sweep(database).expired == 0


def test_a_restarted_supervisor_frees_the_shards_of_its_dead_worker_at_once(
    database: Database, accept_job: AcceptJob
) -> None:
    accept_job(3)
    take(database, "host/0")
    assert release_dead(database, "host/1") == 0
    assert release_dead(database, "host/0") == 1
    assert sweep(database).expired == 1
    assert claim(database, Claimer("host/0")) is not None


def test_a_released_shard_is_ready_again_and_the_attempt_does_not_count(
    database: Database, accept_job: AcceptJob
) -> None:
    accept_job(3)
    assert release(database, take(database))
    assert take(database).attempt == 1


def test_a_small_job_overtakes_a_big_one_that_came_first(database: Database, accept_job: AcceptJob) -> None:
    big, model = accept_job(1000), 1
    first = take(database, warm=[model])
    small = accept_job(2)
    assert first.job_id == big
    order = [take(database, warm=[model]).job_id for _ in range(3)]
    assert small in order[:2]


def test_a_higher_priority_goes_first_and_waiting_raises_it(database: Database, accept_job: AcceptJob) -> None:
    later, urgent = accept_job(2, priority=5), accept_job(2, priority=1)
    assert take(database).job_id == urgent
    urgent = accept_job(2, priority=1)
    with database.write() as connection:  # the first job has waited for an hour
        connection.execute(update(jobs).where(jobs.c.id == later).values(created_at=jobs.c.created_at - 3600))
    assert take(database).job_id == later


def test_a_warm_model_is_preferred_between_equals(database: Database, accept_job: AcceptJob) -> None:
    from store.catalog import register_model

    other = register_model(database, ("fish", 1), "e" * 64, ["cod", "eel"], "{}", "/models/fish/1")
    accept_job(2)
    warm = accept_job(2, model_id=other)
    assert take(database, warm=[other]).job_id == warm


def test_a_paused_job_hands_out_nothing_until_it_is_resumed(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3)
    lease = take(database)
    write.pause(database, job_id)
    assert renew(database, [lease]) == {lease.token: JobState.PAUSED}
    release(database, lease)
    assert claim(database, Claimer("w")) is None
    write.resume(database, job_id)
    assert take(database).job_id == job_id


def test_each_attempt_is_recorded_with_its_outcome(database: Database, accept_job: AcceptJob) -> None:
    accept_job(3)
    give_up(database, take(database), "boom")
    sweep(database)
    lease = take(database)
    commit_slice(database, lease, ok_results(lease), last=True)
    with database.read() as connection:
        outcomes = connection.execute(select(attempts.c.n, attempts.c.outcome).order_by(attempts.c.n)).all()
    assert [tuple(row) for row in outcomes] == [(1, "failed"), (2, "done")]
