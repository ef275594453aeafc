"""Leases that end in unusual ways: what tests/store/test_machine.py and test_races.py found, each made small."""

from sqlalchemy import select, update

from store import jobs as write
from store.claims import Claimer, claim, give_up, release, renew
from store.commits import commit_slice
from store.database import Database
from store.insights import job
from store.removal import remove
from store.rows import Lease
from store.states import JobState
from store.sweep import sweep
from store.tables import attempts, shards
from tests.store.conftest import AcceptJob, ok_results, train


def take(database: Database) -> Lease:
    lease = claim(database, Claimer("w"))
    assert lease is not None
    return lease


def outcomes(database: Database) -> list[str | None]:
    with database.read() as connection:
        return list(connection.execute(select(attempts.c.outcome)).scalars())


def test_an_attempt_has_ended_when_its_job_failed_and_is_tried_again(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3)
    held = take(database)
    write.fail(database, job_id, "no model")
    assert outcomes(database) == [None]  # its worker gives it back at the next beat
    write.retry(database, job_id)
    assert outcomes(database) == ["lost"]
    assert release(database, held) is False
    assert outcomes(database) == ["lost"]


def test_an_attempt_has_ended_when_its_failed_job_is_resumed(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3)
    take(database)
    write.fail(database, job_id, "no model")
    write.resume(database, job_id)
    assert outcomes(database) == ["lost"]


def test_an_attempt_has_ended_when_its_failed_training_is_tried_again(
    database: Database, accept_training: AcceptJob
) -> None:
    job_id = accept_training()
    held = train(database)
    write.fail(database, job_id, "no model")
    write.retry(database, job_id)
    assert outcomes(database) == ["lost"]
    assert renew(database, [held]) == {held.token: None}


def test_a_lease_that_was_given_up_is_not_revived_by_a_late_beat(database: Database, accept_job: AcceptJob) -> None:
    """Else the shard would wait a whole lease, and its attempt be over meanwhile."""
    accept_job(3)
    lease = take(database)
    give_up(database, lease, "boom")
    assert renew(database, [lease]) == {lease.token: None}
    assert sweep(database).expired == 1
    assert take(database).attempt == 2


def test_a_failed_job_is_removed_with_what_a_worker_still_holds(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3)
    held = take(database)
    write.fail(database, job_id, "no model")
    remove(database, job_id)
    assert renew(database, [held]) == {held.token: None}
    with database.read() as connection:
        assert connection.execute(select(shards)).first() is None
    assert outcomes(database) == []


def test_an_image_that_has_its_row_is_not_set_aside_when_its_shard_was_never_closed(
    database: Database, accept_job: AcceptJob
) -> None:
    """Else the sweep would fail on the row that is there, now and at every next time, for all jobs."""
    job_id = accept_job(1)
    with database.write() as connection:
        connection.execute(update(shards).values(max_attempts=1))
    lease = take(database)
    commit_slice(database, lease, ok_results(lease), last=False)
    give_up(database, lease, "boom")
    sweep(database)
    assert job(database, job_id).state is JobState.DONE
