"""The sweeper: expiry, poison, completeness."""

from sqlalchemy import select, text, update

from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.insights import job
from store.results import stream
from store.rows import Lease
from store.states import JobState
from store.sweep import SPLIT_ATTEMPTS, finish_jobs, sweep
from store.tables import results, shards
from tests.store.conftest import AcceptJob, ok_results


def die(database: Database) -> None:
    """A worker claimed and died: its time runs out, and the back-off is over."""
    with database.write() as connection:
        connection.execute(update(shards).where(shards.c.state == "leased").values(lease_until=1.0))
    sweep(database)
    with database.write() as connection:
        connection.execute(update(shards).where(shards.c.state == "ready").values(not_before=0))


def test_an_expired_shard_waits_longer_after_each_attempt(database: Database, accept_job: AcceptJob) -> None:
    accept_job(3)
    claim(database, Claimer("w"))
    die(database)
    claim(database, Claimer("w"))
    with database.write() as connection:
        connection.execute(update(shards).values(lease_until=1.0))
    sweep(database)
    assert claim(database, Claimer("w")) is None  # attempt 3 comes five seconds later


def test_an_image_that_kills_its_worker_is_found_and_costs_no_neighbour(
    database: Database, accept_job: AcceptJob
) -> None:
    """Workers die on item 21 of 64: halving finds it, every other item gets its result, the bound holds."""
    job_id, deaths = accept_job(64), 0
    while lease := claim(database, Claimer("w")):
        if lease.lo <= 21 < lease.hi:
            deaths += 1
            die(database)
        else:
            commit_slice(database, lease, ok_results(lease), last=True)
    sweep(database)
    row = job(database, job_id)
    assert (row.state, row.classified, row.failed) == (JobState.DONE_WITH_ERRORS, 63, 1)
    (bad,) = (result for result in stream(database, job_id) if result.status == "failed")
    assert (bad.idx, bad.error_code) == (21, "worker_died")
    assert deaths <= 5 + SPLIT_ATTEMPTS * 6  # max_attempts + 2 log2(64)


def test_a_split_keeps_the_slices_that_were_committed(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(8)
    lease = claim(database, Claimer("w"))
    assert lease
    commit_slice(database, lease, ok_results(lease)[:4], last=False)
    die(database)
    for _ in range(4):
        claim(database, Claimer("w"))
        die(database)
    assert job(database, job_id).classified == 4
    rest = claim(database, Claimer("w"))
    assert rest
    assert (rest.lo, rest.hi) == (4, 8)
    commit_slice(database, rest, ok_results(rest), last=True)
    sweep(database)
    assert job(database, job_id).state is JobState.DONE


def test_a_job_with_a_row_missing_is_never_called_done(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3)
    lease = claim(database, Claimer("w"))
    assert isinstance(lease, Lease)
    commit_slice(database, lease, ok_results(lease), last=True)
    with database.write() as connection:
        connection.execute(results.delete().where(results.c.idx == 1))
    assert finish_jobs(database) == 0
    assert job(database, job_id).state is JobState.RUNNING


def test_an_abandoned_scan_is_removed(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3)
    with database.write() as connection:
        connection.execute(text("UPDATE jobs SET state = 'scanning', claimed_at = 1"))
    sweep(database)
    with database.read() as connection:
        assert connection.execute(select(shards.c.id).where(shards.c.job_id == job_id)).all() == []


def test_many_sweepers_at_once_do_no_harm(database: Database, accept_job: AcceptJob) -> None:
    from concurrent.futures import ThreadPoolExecutor

    accept_job(640)
    while claim(database, Claimer("w")):
        pass
    with database.write() as connection:
        connection.execute(update(shards).values(lease_until=1.0))
    with ThreadPoolExecutor(4) as pool:
        swept = list(pool.map(lambda _: sweep(database), range(4)))
    assert sum(s.expired for s in swept) == 10
