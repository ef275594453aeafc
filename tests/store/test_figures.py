"""The figures for /metrics and limits."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text, update

from store import jobs
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.errors import LeaseLost
from store.figures import Figures, QueueFigure, figures, queued_items
from store.removal import remove
from store.rows import NewItem, NewJob, NewResult
from store.scanning import fill, open_job
from store.sweep import sweep
from store.tables import shards
from store.workers import WorkerReport, report
from tests.store.conftest import AcceptJob, ok_results


def images(found: Figures) -> dict[tuple[str, str], int]:
    return {(figure.model, figure.status): figure.images for figure in found.images}


def test_an_empty_database_has_figures_too(database: Database) -> None:
    found = figures(database)
    assert (found.images, found.queues, found.workers, set(found.jobs.values())) == ([], [], [], {0})
    assert (found.lease_expiries, found.fenced_commits) == (0, 0)


def test_images_are_counted_once_and_never_fall(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3)
    lease = claim(database, Claimer("w"))
    assert lease
    bad = NewResult(0, "failed", error_code="empty", error="")
    commit_slice(database, lease, [bad, *ok_results(lease)[1:]], last=True)
    sweep(database)
    expected = {("birds@1", "ok"): 2, ("birds@1", "failed"): 1}
    assert images(figures(database)) == expected
    jobs.retry(database, job_id)
    assert images(figures(database)) == expected
    lease = claim(database, Claimer("w"))
    assert lease
    commit_slice(database, lease, ok_results(lease)[:1], last=True)
    sweep(database)
    expected["birds@1", "ok"] += 1
    assert images(figures(database)) == expected
    remove(database, job_id)
    assert images(figures(database)) == expected


def test_queues_show_what_waits_and_for_how_long(
    database: Database, accept_job: AcceptJob, accept_training: AcceptJob
) -> None:
    accept_job(100)
    accept_training(6)
    jobs.pause(database, accept_job(5))
    claim(database, Claimer("w"))
    with database.write() as connection:
        connection.execute(text("UPDATE jobs SET created_at = created_at - 50"))
    found = figures(database)
    classify, train = found.queues
    assert (classify.queue, classify.shards, classify.items) == ("classify", 1, 36)
    assert train == QueueFigure("train", 1, 6, train.oldest_s)
    assert 50 <= train.oldest_s < 110
    assert (found.jobs["running"], found.jobs["accepted"], found.jobs["paused"]) == (1, 1, 1)


def test_expiries_and_fenced_commits_are_counted(database: Database, accept_job: AcceptJob) -> None:
    accept_job(3)
    lease = claim(database, Claimer("w"))
    assert lease
    with database.write() as connection:
        connection.execute(update(shards).values(lease_until=1.0))
    sweep(database)
    for _ in range(2):
        with pytest.raises(LeaseLost):
            commit_slice(database, lease, ok_results(lease), last=True)
    found = figures(database)
    assert (found.lease_expiries, found.fenced_commits) == (1, 2)


def test_workers_show_when_they_were_heard_of(database: Database) -> None:
    report(database, WorkerReport("h/cpu", "h", "cpu", 1, "idle", "birds@1", 7))
    (worker,) = figures(database).workers
    assert (worker.id, worker.device, worker.state, worker.model, worker.images) == (
        "h/cpu",
        "cpu",
        "idle",
        "birds@1",
        7,
    )
    assert 0 <= worker.seen_ago_s < 60


def test_queued_items_are_those_of_an_owner_that_have_no_result(
    database: Database, accept_job: AcceptJob, model_id: int
) -> None:
    accept_job(3, owner="ann")
    lease = claim(database, Claimer("w"))
    assert lease
    commit_slice(database, lease, ok_results(lease)[:2], last=False)
    jobs.pause(database, accept_job(10, owner="ann"))
    jobs.cancel(database, accept_job(100, owner="ann"))
    accept_job(1000, owner="bob")
    assert queued_items(database, "ann") == 11
    assert queued_items(database, "eve") == 0
    seen = []
    job_id = open_job(database, NewJob(model_id, owner="eve"), {"a": "request"})

    def watched() -> Iterator[NewItem]:
        for n in range(5):
            seen.append(queued_items(database, "eve"))
            yield NewItem(b"%d" % n)

    fill(database, job_id, NewJob(model_id), watched(), chunk=2)
    assert seen == [0, 0, 2, 2, 4]
    assert queued_items(database, "eve") == 5


def test_the_rate_is_of_the_last_minute(database: Database, accept_job: AcceptJob) -> None:
    accept_job(60)
    assert figures(database).images_per_s == 0
    lease = claim(database, Claimer("w"))
    assert lease
    commit_slice(database, lease, ok_results(lease)[:30], last=False)
    assert figures(database).images_per_s == 0.5  # of a job that runs
    commit_slice(database, lease, ok_results(lease)[30:], last=True)
    sweep(database)
    assert figures(database).images_per_s == 1  # of one that has ended
    with database.write() as connection:
        connection.execute(text("UPDATE results SET created_at = created_at - 61 WHERE idx < 30"))
    assert figures(database).images_per_s == 0.5
    with database.write() as connection:
        connection.execute(text("UPDATE jobs SET finished_at = finished_at - 61"))
    assert figures(database).images_per_s == 0  # nothing is counted in jobs that ended before
