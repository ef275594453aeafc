"""The survey of a run: whole or not there, and the same when it is told again."""

import pytest
from sqlalchemy import Connection, text

from store import run_data, runs
from store.database import Database
from store.errors import LeaseLost
from store.insights import job
from store.results import Filter, stream
from store.rows import Lease, NewResult
from store.run_data import findings_of, write_survey
from store.run_rows import Finding, RunItem, Survey
from store.states import JobState
from tests.store.conftest import AcceptJob, run_items_of, train
from tests.store.plain_counts import failures
from tests.store.test_runs import expire

UNREADABLE = NewResult(5, "failed", error_code="truncated", error="the file ends early")


def survey(count: int = 5, fingerprint: str = "f" * 64) -> Survey:
    """Of six items: the last is unreadable, the first two are the same picture in two splits."""
    splits = ("train", "val", "train", "train", "test")
    items = [RunItem(n, splits[n % 5], b"%016d" % max(n, 1), f"g{n}") for n in range(count)]  # type: ignore[arg-type]  # of a tuple
    found = [Finding("leak", 0, 1, 0.0, "the same bytes"), Finding("small_class", detail="wren: 3 images")]
    return Survey(items, found, [UNREADABLE], {"classes": 2}, fingerprint)


def test_a_survey_is_written_and_read_back(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    lease = train(database)
    write_survey(database, lease, survey())
    run = runs.run_of_job(database, job_id)
    assert (run.images_train, run.images_val, run.images_test) == (3, 1, 1)
    assert (run.census, run.fingerprint) == ({"classes": 2}, "f" * 64)
    assert run_items_of(database, run.id) == list(survey().items)
    leak, small = findings_of(database, run.id)
    assert (leak.path, leak.split, leak.other_path, leak.other_split) == (
        "/photos/00000.jpg",
        "train",
        "/photos/00001.jpg",
        "val",
    )
    assert (small.kind, small.path, small.detail) == ("small_class", None, "wren: 3 images")
    row = job(database, job_id)
    assert (row.found, row.classified, row.failed, row.pending) == (6, 5, 1, 0)
    assert failures(database, job_id) == [("truncated", 1, "the file ends early")]
    assert [r.file_name for r in stream(database, job_id, Filter(status="failed"))] == ["00005.jpg"]
    runs.finish_run(database, lease, "done")
    assert job(database, job_id).state is JobState.DONE_WITH_ERRORS


@pytest.mark.parametrize("fingerprint", ["f" * 64, "e" * 64])
def test_a_survey_told_again_by_another_attempt_leaves_one(
    database: Database, accept_training: AcceptJob, fingerprint: str
) -> None:
    job_id = accept_training()
    write_survey(database, train(database), survey())
    expire(database)
    heir = train(database)
    write_survey(database, heir, survey(fingerprint=fingerprint))
    run = runs.run_of_job(database, job_id)
    assert (len(run_items_of(database, run.id)), len(findings_of(database, run.id))) == (5, 2)
    assert run.fingerprint == fingerprint
    assert job(database, job_id).pending == 0


def test_a_survey_that_was_cut_off_is_not_taken_for_a_whole_one(
    database: Database, accept_training: AcceptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_data, "PORTION", 2)
    job_id = accept_training()
    first = train(database)
    real, calls = runs.fence, []

    def cut_off(connection: Connection, lease: Lease) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise LeaseLost(lease.shard_id)
        return real(connection, lease)

    monkeypatch.setattr(run_data, "fence", cut_off)
    with pytest.raises(LeaseLost):
        write_survey(database, first, survey())
    run_id = runs.run_of_job(database, job_id).id
    assert (run_items_of(database, run_id), job(database, job_id).pending) == ([], 6)
    monkeypatch.setattr(run_data, "fence", real)
    expire(database)
    write_survey(database, train(database), survey())
    assert run_items_of(database, run_id) == list(survey().items)


def test_a_run_keeps_its_split_when_the_job_is_tried_again(database: Database, accept_training: AcceptJob) -> None:
    from store import jobs as write

    job_id = accept_training()
    lease = train(database)
    write_survey(database, lease, survey())
    runs.fail_run(database, lease, "12 images leak")
    write.retry(database, job_id)
    assert len(run_items_of(database, runs.run_of_job(database, job_id).id)) == 5
    row = job(database, job_id)
    assert (row.classified, row.failed, row.pending) == (5, 1, 0)


def test_views_show_split_and_findings_with_paths(database: Database, accept_training: AcceptJob) -> None:
    accept_training()
    write_survey(database, train(database), survey())
    with database.read() as connection:
        items = connection.execute(text("SELECT run, split, path, label FROM v_run_items ORDER BY idx")).all()
        leaks = connection.execute(
            text("SELECT run, path, split, other_path, other_split FROM v_findings WHERE kind = 'leak'")
        ).all()
    assert tuple(items[1]) == ("finches", "val", "/photos/00001.jpg", "wren")
    assert [tuple(leak) for leak in leaks] == [("finches", "/photos/00000.jpg", "train", "/photos/00001.jpg", "val")]
