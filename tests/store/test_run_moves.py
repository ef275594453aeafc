"""What people and the sweeper do to a training: pause, resume, cancel, retry, give up."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from store import jobs as write
from store import runs
from store.claims import Claimer, claim, release, renew
from store.database import Database
from store.errors import IllegalMove, LeaseLost, NothingToDo
from store.insights import job
from store.run_rows import RunRow
from store.states import JobState
from store.sweep import sweep
from store.tables import shards
from tests.store.conftest import AcceptJob, epoch, train
from tests.store.test_runs import begin, expire

STATES = {
    JobState.ACCEPTED: "queued",
    JobState.RUNNING: "running",
    JobState.PAUSED: "paused",
    JobState.CANCELLED: "cancelled",
    JobState.FAILED: "failed",
    JobState.DONE: "done",
    JobState.DONE_WITH_ERRORS: "done",
}


def check(database: Database, job_id: int, state: JobState) -> RunRow:
    """The job is in this state, and its run says the same."""
    row, run = job(database, job_id), runs.run_of_job(database, job_id)
    assert row.state is state
    assert run.state == STATES.get(state, run.state)
    assert (run.started_at, run.finished_at, run.error) == (row.started_at, row.finished_at, row.error)
    assert (run.finished_at is not None) == row.state.is_final
    return run


def test_pausing_and_resuming_a_training_without_a_worker(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    check(database, job_id, JobState.ACCEPTED)
    write.pause(database, job_id)
    check(database, job_id, JobState.PAUSED)
    assert claim(database, Claimer("t", queue="train")) is None
    write.resume(database, job_id)
    check(database, job_id, JobState.ACCEPTED)
    train(database)
    check(database, job_id, JobState.RUNNING)


def test_a_paused_training_is_given_back_after_its_checkpoint(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    lease = train(database)
    write.pause(database, job_id)
    assert runs.wanted(database, lease) == "pause"
    assert renew(database, [lease]) == {lease.token: JobState.PAUSED}
    runs.move_checkpoint(database, lease, "/c", 0, 5)
    assert release(database, lease)
    check(database, job_id, JobState.PAUSED)
    assert claim(database, Claimer("t", queue="train")) is None
    write.resume(database, job_id)
    assert train(database).attempt == 2
    assert check(database, job_id, JobState.RUNNING).checkpoint == "/c"


def test_a_training_between_two_workers_that_shall_keep_its_best_stays_running(
    database: Database, accept_training: AcceptJob
) -> None:
    job_id = accept_training()
    runs.move_checkpoint(database, train(database), "/c", 1, 0)
    expire(database)
    write.cancel(database, job_id, keep_best=True)
    check(database, job_id, JobState.RUNNING)
    train(database)
    write.pause(database, job_id)
    expire(database)
    write.cancel(database, job_id, keep_best=True)  # it is taken up again, as soon as there is a worker
    check(database, job_id, JobState.ACCEPTED)


def test_a_training_resumed_before_its_worker_let_go_is_running(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    lease = train(database)
    write.pause(database, job_id)
    write.resume(database, job_id)
    check(database, job_id, JobState.RUNNING)
    assert runs.wanted(database, lease) == "go"


def test_a_training_paused_at_its_last_moment_is_done(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    lease = train(database)
    write.pause(database, job_id)
    runs.finish_run(database, lease, "done")
    check(database, job_id, JobState.DONE)


def test_cancelling_a_training_ends_it_when_its_worker_lets_go(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    lease = train(database)
    write.cancel(database, job_id)
    assert job(database, job_id).state is JobState.CANCELLING
    assert runs.run_of_job(database, job_id).state == "running"
    assert runs.wanted(database, lease) == "cancel"
    assert release(database, lease)
    sweep(database)
    check(database, job_id, JobState.CANCELLED)


@pytest.mark.parametrize("paused", [False, True])
def test_cancelling_a_training_that_nobody_works_on_ends_it_at_once(
    database: Database, accept_training: AcceptJob, paused: bool
) -> None:
    job_id = accept_training()
    if paused:
        write.pause(database, job_id)
    write.cancel(database, job_id)
    check(database, job_id, JobState.CANCELLED)


def test_cancelling_a_training_whose_worker_is_dead_ends_it_with_the_lease(
    database: Database, accept_training: AcceptJob
) -> None:
    job_id = accept_training()
    train(database)
    write.cancel(database, job_id)
    expire(database)
    check(database, job_id, JobState.CANCELLED)


def test_a_training_that_ends_while_it_is_cancelled_is_cancelled_and_keeps_its_model(
    database: Database, accept_training: AcceptJob, model_id: int
) -> None:
    job_id = accept_training()
    lease = train(database)
    runs.set_model(database, lease, model_id, 1, 0.5)
    write.cancel(database, job_id)
    runs.finish_run(database, lease, "done")
    assert check(database, job_id, JobState.CANCELLED).model == "birds@1"
    with pytest.raises(NothingToDo):
        write.retry(database, job_id)


def test_keeping_the_best_lets_the_worker_end_early(
    database: Database, accept_training: AcceptJob, model_id: int
) -> None:
    job_id = accept_training()
    lease = train(database)
    runs.move_checkpoint(database, lease, "/c", 1, 0)
    write.cancel(database, job_id, keep_best=True)
    assert runs.wanted(database, lease) == "stop"
    assert check(database, job_id, JobState.RUNNING).keep_best
    write.cancel(database, job_id, keep_best=True)  # asked twice is asked once
    runs.set_model(database, lease, model_id, 1, 0.5)
    runs.finish_run(database, lease, "done")
    assert check(database, job_id, JobState.CANCELLED).model == "birds@1"


@pytest.mark.parametrize("paused", [False, True])
def test_keeping_the_best_survives_the_death_of_the_worker(
    database: Database, accept_training: AcceptJob, paused: bool
) -> None:
    job_id = accept_training()
    lease = train(database)
    runs.move_checkpoint(database, lease, "/c", 1, 0)
    if paused:
        write.pause(database, job_id)
        release(database, lease)
    write.cancel(database, job_id, keep_best=True)
    expire(database)
    heir = train(database)
    assert runs.wanted(database, heir) == "stop"
    runs.finish_run(database, heir, "cancelled")
    check(database, job_id, JobState.CANCELLED)


def test_keeping_the_best_of_a_training_that_has_none_cancels_it(
    database: Database, accept_training: AcceptJob
) -> None:
    queued, held, lost = (accept_training() for _ in range(3))
    first, second = train(database), train(database)
    assert (first.job_id, second.job_id) == (queued, held)
    assert release(database, first)
    for job_id in (queued, held, lost):
        write.cancel(database, job_id, keep_best=True)
    check(database, queued, JobState.CANCELLED)
    check(database, lost, JobState.CANCELLED)
    assert runs.wanted(database, second) == "stop"
    assert release(database, second)  # the worker found nothing to keep
    sweep(database)
    check(database, held, JobState.CANCELLED)


def test_a_dead_worker_with_nothing_to_keep_leaves_a_cancelled_training(
    database: Database, accept_training: AcceptJob
) -> None:
    job_id = accept_training()
    train(database)
    write.cancel(database, job_id, keep_best=True)
    expire(database)
    check(database, job_id, JobState.CANCELLED)


def test_a_zombie_that_gives_back_what_it_lost_cancels_nothing(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    zombie = train(database, "zombie")
    expire(database)
    heir = train(database, "heir")
    write.cancel(database, job_id, keep_best=True)
    assert not release(database, zombie)
    check(database, job_id, JobState.RUNNING)
    assert runs.wanted(database, heir) == "stop"


def test_a_plain_cancel_goes_before_keeping_the_best_and_after_it(
    database: Database, accept_training: AcceptJob
) -> None:
    job_id = accept_training()
    lease = train(database)
    write.cancel(database, job_id, keep_best=True)
    write.cancel(database, job_id)
    assert runs.wanted(database, lease) == "cancel"
    with pytest.raises(IllegalMove, match="best kept any more"):
        write.cancel(database, job_id, keep_best=True)


def test_only_a_training_has_a_best_to_keep(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job()
    with pytest.raises(IllegalMove, match="no training"):
        write.cancel(database, job_id, keep_best=True)
    assert job(database, job_id).state is JobState.ACCEPTED


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_training_that_is_tried_again_goes_on_from_its_checkpoint(
    database: Database, accept_training: AcceptJob, end: str
) -> None:
    job_id = accept_training()
    lease = train(database)
    begin(database, lease)
    runs.add_epoch(database, lease, epoch(1))
    runs.move_checkpoint(database, lease, "/c", 1, 0)
    if end == "failed":
        runs.fail_run(database, lease, "the loss is not a number")
    else:
        write.cancel(database, job_id)
        release(database, lease)
        sweep(database)
    assert write.retry(database, job_id) == 6
    run = check(database, job_id, JobState.ACCEPTED)
    assert (run.checkpoint, run.epochs, run.keep_best) == ("/c", 1, False)
    heir = train(database)
    assert heir.attempt == 2  # one history: the restart is marked
    with pytest.raises(LeaseLost):
        runs.add_epoch(database, lease, epoch(2))
    with pytest.raises(LeaseLost):
        runs.finish_run(database, lease, "failed")
    check(database, job_id, JobState.RUNNING)


def test_an_early_end_without_a_model_can_be_tried_again(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    lease = train(database)
    write.cancel(database, job_id, keep_best=True)
    runs.finish_run(database, lease, "cancelled")
    assert write.retry(database, job_id) == 6
    assert not check(database, job_id, JobState.ACCEPTED).keep_best
    assert runs.wanted(database, train(database)) == "go"


def test_a_training_that_is_done_has_nothing_to_do_again(
    database: Database, accept_training: AcceptJob, model_id: int
) -> None:
    job_id = accept_training()
    lease = train(database)
    runs.set_model(database, lease, model_id, 1, 0.5)
    runs.finish_run(database, lease, "done")
    with pytest.raises(NothingToDo):
        write.retry(database, job_id)
    check(database, job_id, JobState.DONE)
    with pytest.raises(IllegalMove, match="error codes"):
        write.retry(database, job_id, ["truncated"])
    check(database, job_id, JobState.DONE)


def test_a_job_that_was_failed_from_outside_stays_so(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    lease = train(database)
    write.fail(database, job_id, "the model is gone")
    assert check(database, job_id, JobState.FAILED).error == "the model is gone"
    assert runs.wanted(database, lease) == "cancel"
    runs.finish_run(database, lease, "done")
    assert check(database, job_id, JobState.FAILED).error == "the model is gone"


def test_a_training_whose_shard_is_done_is_finished_by_the_sweeper_too(
    database: Database, accept_training: AcceptJob
) -> None:
    job_id = accept_training()
    train(database)
    with database.write() as connection:  # as an older worker might leave it
        connection.execute(update(shards).values(state="done", token=None))
    assert sweep(database).finished == 1
    check(database, job_id, JobState.DONE)


def work(database: Database, name: str, stop: threading.Event) -> None:
    """A worker that trains for an epoch and gives back, or ends, as it is wanted."""
    while not stop.is_set():
        lease = claim(database, Claimer(name, queue="train"))
        if lease is None:
            continue
        try:
            runs.add_epoch(database, lease, epoch(1))
            runs.move_checkpoint(database, lease, "/c", 1, lease.attempt)
            if runs.wanted(database, lease) in ("stop", "cancel"):
                runs.finish_run(database, lease, "cancelled")
            else:
                release(database, lease)
        except LeaseLost:
            continue


def test_moves_racing_with_workers_leave_job_and_run_agreeing(database: Database, accept_training: AcceptJob) -> None:
    ids = [accept_training() for _ in range(6)]
    stop = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work, database, f"t{n}", stop) for n in range(3)]
        for n, job_id in enumerate(ids):
            write.pause(database, job_id)
            write.resume(database, job_id)
            write.cancel(database, job_id, keep_best=n % 2 == 0)
        patience = 2000
        while not all(job(database, job_id).state.is_final for job_id in ids) and patience:
            sweep(database)
            patience -= 1
        stop.set()
        for worker in workers:
            worker.result()
    for job_id in ids:
        check(database, job_id, JobState.CANCELLED)
