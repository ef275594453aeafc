"""Whose a job is, is looked up once a second at the most; a job that was deleted here is gone at once."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from api.context import Context
from api.known_jobs import KNOWN_S, MOST, KnownJobs
from store import jobs, query, removal
from store.database import Database
from store.errors import UnknownJob
from store.item_query import ItemFilter, items_page
from store.results import Filter, Head, read_head
from store.rows import NewItem, NewJob
from store.scanning import fill, open_job
from tests.api.conftest import AcceptJob
from tests.api.test_known import Clock
from tests.serving import Served, threaded
from worker.settings import Settings


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(settings: Settings, store: Database, clock: Clock) -> KnownJobs:
    return KnownJobs(Context(settings, ()), clock)


@pytest.fixture
def asked(known: KnownJobs) -> list[str]:
    """The statements that were sent."""
    sent: list[str] = []
    engine = known._database.engine
    event.listen(engine, "before_cursor_execute", lambda *arguments: sent.append(str(arguments[2])))
    return sent


def test_a_job_is_looked_up_once_a_second(
    known: KnownJobs, accept_job: AcceptJob, asked: list[str], clock: Clock
) -> None:
    job = accept_job(owner="ann")
    assert {known.head_of(job).owner for _ in range(5)} == {"ann"}
    before = len(asked)
    assert before > 0
    clock.now += KNOWN_S / 2
    assert known.head_of(job).owner == "ann"
    assert len(asked) == before
    clock.now += KNOWN_S / 2
    assert known.head_of(job).owner == "ann"
    assert len(asked) > before


def test_the_answer_is_as_old_as_the_question(known: KnownJobs, accept_job: AcceptJob, clock: Clock) -> None:
    job = accept_job()

    def slow(*_: object) -> None:
        clock.now += KNOWN_S

    event.listen(known._database.engine, "before_cursor_execute", slow)
    assert known.head_of(job).owner == ""
    at, _ = known._heads[job]
    assert clock.now - at >= KNOWN_S


def test_a_job_that_was_deleted_elsewhere_is_gone_after_a_second(
    known: KnownJobs, store: Database, accept_job: AcceptJob, clock: Clock
) -> None:
    job = accept_job()
    known.head_of(job)
    cancelled(store, job)
    clock.now += KNOWN_S
    with pytest.raises(UnknownJob):
        known.head_of(job)


def test_a_job_that_was_deleted_here_is_gone_at_once(known: KnownJobs, store: Database, accept_job: AcceptJob) -> None:
    job = accept_job()
    known.head_of(job)
    cancelled(store, job)
    known.forget(job)
    with pytest.raises(UnknownJob):
        known.head_of(job)


def test_over_http_too(settings: Settings, accept_job: AcceptJob) -> None:
    job = accept_job()
    with threaded(settings) as served:
        answers(served, job)


def answers(served: Served, job: int) -> None:
    """A job is there; it is deleted; it is not there."""
    assert served.client.get(f"/api/v1/jobs/{job}/results").status_code == 200
    served.client.post(f"/api/v1/jobs/{job}/cancel", json={}).raise_for_status()
    assert served.client.delete(f"/api/v1/jobs/{job}").status_code == 204
    assert served.client.get(f"/api/v1/jobs/{job}/results").status_code == 404


def test_strangers_are_not_remembered(known: KnownJobs) -> None:
    with pytest.raises(UnknownJob):
        known.head_of(12345)
    assert not known._heads


def test_only_so_many_are_remembered(known: KnownJobs, accept_job: AcceptJob, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST > 1
    monkeypatch.setattr("api.known_jobs.MOST", 2)
    for job in [accept_job() for _ in range(3)]:
        known.head_of(job)
    assert list(known._heads) == [job]


def cancelled(store: Database, job: int) -> None:
    """Cancel a job and delete it with its rows."""
    jobs.cancel(store, job)
    removal.remove(store, job)


def test_a_job_that_is_still_listed_is_not_remembered(known: KnownJobs, store: Database) -> None:
    """Its folder and its model are written when it is accepted."""
    job = open_job(store, NewJob(None))
    assert known.head_of(job).root == b"/"
    fill(store, job, NewJob(None, root=b"/photos"), [NewItem(b"a.jpg")])
    assert known.head_of(job).root == b"/photos"


def test_what_was_read_before_a_job_was_deleted_is_not_remembered(
    known: KnownJobs, accept_job: AcceptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = accept_job()

    def slow(database: Database, job_id: int) -> Head:
        head = read_head(database, job_id)
        known.forget(job_id)
        return head

    monkeypatch.setattr("api.known_jobs.read_head", slow)
    assert known.head_of(job).job_id == job
    assert not known._heads


def test_a_listing_of_a_job_that_was_deleted_elsewhere_does_not_look_whole(
    store: Database, accept_job: AcceptJob
) -> None:
    job = accept_job()
    head = read_head(store, job)
    assert query.page(store, head, Filter()).rows == []
    assert len(items_page(store, head, ItemFilter()).rows) == 3
    jobs.cancel(store, job)
    removal.remove(store, job)
    for ask in (lambda: query.page(store, head, Filter()), lambda: items_page(store, head, ItemFilter())):
        with pytest.raises(UnknownJob):
            ask()
