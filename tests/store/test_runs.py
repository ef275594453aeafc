"""Runs: one history, written by the attempt that holds the lease and by nobody else."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import select, text, update

from store import jobs as write
from store import runs
from store.claims import Claimer, claim, release
from store.database import Database
from store.errors import DatabaseUnavailable, LeaseLost, StoreError, UnknownJob, UnknownRun
from store.evaluations import record_evaluation
from store.insights import job
from store.removal import remove
from store.rows import Lease, NewItem, NewJob, NewRun
from store.run_data import write_survey
from store.run_rows import EvaluationFacts, Survey
from store.states import JobState
from store.sweep import sweep
from store.tables import attempts, shards
from store.tables import runs as runs_table
from tests.store.conftest import AcceptJob, epoch, train


def begin(database: Database, lease: Lease, resume_epoch: int = 0) -> None:
    facts = {"device": "CPU", "libraries": {"keras": "3.15"}, "code_version": "0.1.0"}
    runs.begin(database, lease, resume_epoch=resume_epoch, **facts)  # type: ignore[arg-type]  # by name


def expire(database: Database) -> None:
    """Every leased shard's worker is dead, and the back-off is over."""
    with database.write() as connection:
        connection.execute(update(shards).where(shards.c.state == "leased").values(lease_until=1.0))
    sweep(database)
    with database.write() as connection:
        connection.execute(update(shards).values(not_before=0))


def test_a_training_is_accepted_as_one_shard_with_its_run(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training(3000, epochs_planned=4, options={"allow_leaks": True})
    run = runs.run_of_job(database, job_id)
    assert (run.name, run.state, run.recipe, run.seed) == ("finches", "queued", {"mode": "head"}, 7)
    assert (run.base_model, run.model, run.epochs_planned, run.options) == ("birds@1", None, 4, {"allow_leaks": True})
    assert len(run.uid) == 32
    lease = train(database)
    assert (lease.lo, lease.hi, lease.attempt) == (0, 3000, 1)
    assert claim(database, Claimer("c")) is None  # the classify queue has nothing


def test_a_history_is_written_and_read_back(database: Database, accept_training: AcceptJob, model_id: int) -> None:
    job_id = accept_training()
    lease = train(database)
    begin(database, lease)
    runs.set_stage(database, lease, "training", {"epoch": 1, "loss": math.nan})
    for n in (1, 2, 3):
        runs.add_epoch(database, lease, epoch(n, best=n < 3, val_loss=math.inf if n == 3 else 2 / n))
        runs.move_checkpoint(database, lease, f"/runs/1/{n}", n, 0)
    runs.set_model(database, lease, model_id, 2, 1.0)
    runs.finish_run(database, lease, "done")
    run = runs.run_of_job(database, job_id)
    assert (run.state, run.stage, run.progress) == ("done", "training", {"epoch": 1, "loss": None})
    assert (run.best_epoch, run.best_value, run.model, run.epochs) == (2, 1.0, "birds@1", 3)
    assert (run.device, run.libraries, run.code_version) == ("CPU", {"keras": "3.15"}, "0.1.0")
    assert (run.checkpoint, run.checkpoint_epoch, run.checkpoint_step) == ("/runs/1/3", 3, 0)
    history = runs.epochs_of(database, run.id)
    assert [(e.epoch, e.is_best, e.restarted, e.val_loss) for e in history] == [
        (1, False, False, 2.0),
        (2, True, False, 1.0),
        (3, False, False, None),
    ]
    row = job(database, job_id)
    assert (row.state, row.started_at, row.finished_at) == (JobState.DONE, run.started_at, run.finished_at)
    assert run.started_at is not None
    assert run.finished_at is not None


def test_an_attempt_that_was_killed_goes_on_from_its_checkpoint_as_one_history(
    database: Database, accept_training: AcceptJob
) -> None:
    job_id = accept_training()
    first = train(database)
    begin(database, first)
    runs.add_epoch(database, first, epoch(1))
    runs.move_checkpoint(database, first, "/c1", 1, 3)
    runs.add_epoch(database, first, epoch(2))  # and then the power is cut
    expire(database)
    second = train(database)
    begin(database, second, resume_epoch=1)
    run = runs.run_of_job(database, job_id)
    assert (run.best_epoch, run.best_value, run.checkpoint) == (1, 2.0, "/c1")
    for n in (2, 3):
        runs.add_epoch(database, second, epoch(n))
    runs.add_epoch(database, second, epoch(3))  # an answer was lost: told again
    history = runs.epochs_of(database, run.id)
    assert [(e.epoch, e.attempt, e.restarted, e.is_best) for e in history] == [
        (1, 1, False, False),
        (2, 2, True, False),
        (3, 2, False, True),
    ]


def test_a_run_that_begins_anew_forgets_epochs_best_and_checkpoint(
    database: Database, accept_training: AcceptJob
) -> None:
    job_id = accept_training()
    first = train(database)
    begin(database, first)
    runs.add_epoch(database, first, epoch(1))
    runs.move_checkpoint(database, first, "/c1", 1, 0)
    begin(database, first, resume_epoch=0)
    run = runs.run_of_job(database, job_id)
    assert (run.epochs, run.best_epoch, run.best_value, run.checkpoint) == (0, None, None, None)


WRITES: dict[str, Callable[[Database, Lease], object]] = {
    "begin": begin,
    "stage": lambda d, lease: runs.set_stage(d, lease, "zombie", {}),
    "epoch": lambda d, lease: runs.add_epoch(d, lease, epoch(1, loss=-1.0)),
    "checkpoint": lambda d, lease: runs.move_checkpoint(d, lease, "/zombie", 9, 9),
    "survey": lambda d, lease: write_survey(d, lease, Survey([], [], [], {"zombie": 1}, "zombie")),
    "model": lambda d, lease: runs.set_model(d, lease, 1, 1, 0.0),
    "evaluation": lambda d, lease: runs.set_evaluation(d, lease, lease.job_id, "/zombie"),
    "figures": lambda d, lease: record_evaluation(d, lease.job_id, EvaluationFacts(1, 1, 0.0), lease),
    "done": lambda d, lease: runs.finish_run(d, lease, "done"),
    "failed": lambda d, lease: runs.fail_run(d, lease, "zombie"),
}


def test_nothing_of_an_attempt_that_wakes_up_again_is_written(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    zombie = train(database, "zombie")
    begin(database, zombie)
    expire(database)
    heir = train(database, "heir")
    begin(database, heir)
    runs.add_epoch(database, heir, epoch(1))
    runs.move_checkpoint(database, heir, "/heir", 1, 0)
    before = (everything(database), job(database, job_id))
    for name, write_something in WRITES.items():
        with pytest.raises(LeaseLost):
            write_something(database, zombie)
        assert (everything(database), job(database, job_id)) == before, name
    assert runs.wanted(database, zombie) == "lost"
    assert runs.wanted(database, heir) == "go"


def everything(database: Database) -> list[list[tuple[object, ...]]]:
    tables = ("runs", "epochs", "shards", "attempts", "run_items", "findings", "evaluations", "events", "results")
    with database.read() as connection:
        return [[tuple(row) for row in connection.execute(text(f"SELECT * FROM {table}"))] for table in tables]


def test_a_forged_token_does_not_help_once_the_run_has_ended(database: Database, accept_training: AcceptJob) -> None:
    accept_training()
    lease = train(database)
    runs.finish_run(database, lease, "done")
    for name in ("epoch", "checkpoint", "model"):
        with pytest.raises(LeaseLost):
            WRITES[name](database, lease)


def test_an_end_whose_answer_was_lost_is_not_done_twice(
    database: Database, accept_training: AcceptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = accept_training()
    lease = train(database)
    real = database.write

    @contextmanager
    def cut_off(*, durable: bool = False) -> Iterator[object]:
        with real(durable=durable) as connection:
            yield connection
        raise DatabaseUnavailable("the connection was lost after COMMIT")

    monkeypatch.setattr(database, "write", cut_off)
    runs.finish_run(database, lease, "done")
    monkeypatch.undo()
    ended = (everything(database), job(database, job_id))
    runs.finish_run(database, lease, "done")
    runs.fail_run(database, lease, "told again")
    assert (everything(database), job(database, job_id)) == ended
    assert job(database, job_id).state is JobState.DONE


def test_an_end_that_did_not_reach_the_database_is_told(
    database: Database, accept_training: AcceptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = accept_training()
    lease = train(database)

    @contextmanager
    def away(*, durable: bool = False) -> Iterator[object]:
        raise DatabaseUnavailable("away")
        yield

    monkeypatch.setattr(database, "write", away)
    with pytest.raises(DatabaseUnavailable):
        runs.finish_run(database, lease, "done")
    monkeypatch.undo()
    assert job(database, job_id).state is JobState.RUNNING


def test_an_acceptance_whose_answer_was_lost_is_one_job_and_not_an_error(
    database: Database, model_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = database.write

    @contextmanager
    def cut_off(*, durable: bool = False) -> Iterator[object]:
        with real(durable=durable) as connection:
            yield connection
        if durable:
            raise DatabaseUnavailable("the connection was lost after COMMIT")

    monkeypatch.setattr(database, "write", cut_off)
    new = NewJob(None, kind="finetune", queue="train", run=NewRun("finches", {}, 7))
    job_id = write.accept(database, new, [NewItem(b"1.jpg", label="robin")])
    monkeypatch.undo()
    assert runs.run_of_job(database, job_id).state == "queued"


def test_a_failure_ends_run_and_job_with_the_reason(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    lease = train(database)
    runs.fail_run(database, lease, "12 images are in train and val")
    run, row = runs.run_of_job(database, job_id), job(database, job_id)
    assert (run.state, run.error, run.finished_at) == ("failed", "12 images are in train and val", row.finished_at)
    assert (row.state, row.error) == (JobState.FAILED, run.error)
    with database.read() as connection:
        assert tuple(connection.execute(select(attempts.c.outcome, attempts.c.error)).one()) == ("failed", run.error)


def test_a_run_is_found_by_number_name_and_model(database: Database, accept_training: AcceptJob, model_id: int) -> None:
    old, new = accept_training(), accept_training()
    lease = train(database)
    assert lease.job_id == old
    runs.set_model(database, lease, model_id, None, None)
    first, second = runs.run_of_job(database, old), runs.run_of_job(database, new)
    assert runs.resolve_run(database, str(first.id)).id == first.id
    assert runs.resolve_run(database, "finches").id == second.id
    assert runs.resolve_run(database, "birds@1").id == first.id
    assert [run.id for run in runs.list_runs(database)] == [second.id, first.id]
    assert [run.id for run in runs.list_runs(database, before=second.id)] == [first.id]
    for unknown in ("sparrows", "birds@2", "999", "9" * 30, "@", ""):
        with pytest.raises(UnknownRun, match="pixmill runs list"):
            runs.resolve_run(database, unknown)


def test_a_run_named_like_a_number_is_found_where_no_run_has_that_number(
    database: Database, accept_training: AcceptJob
) -> None:
    job_id = accept_training(name="2026")
    assert runs.resolve_run(database, "2026").job_id == job_id


def test_a_continued_run_takes_over_history_and_checkpoint_and_marks_where_it_went_on(
    database: Database, accept_training: AcceptJob
) -> None:
    parent = accept_training()
    first = train(database)
    begin(database, first)
    for n in (1, 2):
        runs.add_epoch(database, first, epoch(n))
    runs.move_checkpoint(database, first, "/c2", 2, 0)
    runs.finish_run(database, first, "done")
    parent_id = runs.run_of_job(database, parent).id
    child = accept_training(continued_from=parent_id, epochs_planned=4)
    run = runs.run_of_job(database, child)
    assert (run.continued_from, run.epochs, run.best_epoch, run.checkpoint) == (parent_id, 2, 2, "/c2")
    lease = train(database)
    begin(database, lease, resume_epoch=2)
    runs.add_epoch(database, lease, epoch(3))
    marks = [(e.epoch, e.restarted) for e in runs.epochs_of(database, run.id)]
    assert marks == [(1, False), (2, False), (3, True)]
    assert [e.epoch for e in runs.epochs_of(database, parent_id)] == [1, 2]


def test_a_run_that_is_not_there_cannot_be_continued(database: Database, accept_training: AcceptJob) -> None:
    with pytest.raises(UnknownRun):
        accept_training(continued_from=99)
    assert runs.list_runs(database) == []


def test_a_removed_job_leaves_its_run_with_its_history(
    database: Database, accept_training: AcceptJob, accept_job: AcceptJob, model_id: int
) -> None:
    job_id, evaluation_id = accept_training(), accept_job()
    lease = train(database)
    run_id = runs.run_of_job(database, job_id).id
    runs.add_epoch(database, lease, epoch(1))
    runs.set_evaluation(database, lease, evaluation_id, "/report")
    record_evaluation(database, evaluation_id, EvaluationFacts(model_id, 3, 0.9, 1.0, run_id=run_id), lease)
    runs.finish_run(database, lease, "done")
    assert runs.find_run(database, run_id).accuracy == 0.9
    remove(database, job_id)
    run = runs.find_run(database, run_id)
    assert (run.job_id, run.state, run.epochs, run.accuracy) == (None, "done", 1, 0.9)
    write.cancel(database, evaluation_id)
    remove(database, evaluation_id)
    run = runs.find_run(database, run_id)
    assert (run.evaluation_job_id, run.accuracy, run.report_path) == (None, None, "/report")


def test_an_evaluation_that_is_not_there_cannot_be_pointed_to(database: Database, accept_training: AcceptJob) -> None:
    accept_training()
    lease = train(database)
    with pytest.raises(UnknownJob):
        runs.set_evaluation(database, lease, 999, None)
    with pytest.raises(UnknownJob):
        record_evaluation(database, 999, EvaluationFacts(1, 1, 1.0))


def test_a_submission_that_died_while_scanning_leaves_no_run(database: Database) -> None:
    def broken() -> Iterator[NewItem]:
        yield NewItem(b"1.jpg", label="robin")
        assert runs.list_runs(database) == []  # nobody sees a run of a job that is not accepted
        raise OSError("the disk was pulled out")

    new = NewJob(None, kind="finetune", queue="train", run=NewRun("finches", {}, 7))
    with pytest.raises(OSError, match="pulled out"):
        write.accept(database, new, broken())
    assert runs.list_runs(database) == []


def test_a_name_for_a_folder_is_given_once(database: Database, accept_training: AcceptJob) -> None:
    accept_training(uid="a" * 32)
    with pytest.raises(StoreError):
        accept_training(uid="a" * 32)


def test_a_lease_of_another_job_does_not_write_into_this_run(database: Database, accept_training: AcceptJob) -> None:
    """The run is that of the shard which the token owns, whatever the lease says."""
    mine, other = accept_training(), accept_training()
    lease = replace(train(database), job_id=other)
    runs.add_epoch(database, lease, epoch(1))
    assert runs.run_of_job(database, mine).epochs == 1
    assert runs.run_of_job(database, other).epochs == 0


def test_leases_given_back_and_taken_again_mark_each_restart(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    for n in (1, 2, 3):
        lease = train(database)
        assert lease.attempt == n
        begin(database, lease, resume_epoch=n - 1)
        runs.add_epoch(database, lease, epoch(n))
        assert release(database, lease)
    run = runs.run_of_job(database, job_id)
    assert [e.restarted for e in runs.epochs_of(database, run.id)] == [False, True, True]
    with database.read() as connection:
        assert connection.scalar(select(runs_table.c.state)) == "running"
