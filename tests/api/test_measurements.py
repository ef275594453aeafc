"""Measurements: kept as long as the results are the same, and no longer."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from api import measurements
from api.context import Context
from api.measurements import Measurements
from store import jobs
from store.catalog import register_model
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.errors import UnknownJob
from store.rows import NewItem, NewJob, NewResult
from store.sweep import finish_jobs
from tests.cli.histories import LABELS, History, finished_run
from worker.measuring import Measured, measure
from worker.settings import Settings


@pytest.fixture
def here(settings: Settings, store: Database) -> Iterator[Context]:
    made = Context(settings, [])
    yield made
    made.close()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The jobs that were measured, one by one."""
    seen: list[int] = []

    def counting(database: Database, job_id: int) -> Measured | None:
        seen.append(job_id)
        return measure(database, job_id)

    monkeypatch.setattr(measurements, "measure", counting)
    return seen


def commit(store: Database, rows: list[NewResult]) -> None:
    lease = claim(store, Claimer("w"))
    assert lease
    commit_slice(store, lease, rows, last=True)
    finish_jobs(store)


def test_a_job_that_is_over_is_measured_once(here: Context, store: Database, measured: list[int]) -> None:
    job = finished_run(store, History()).evaluation_job_id
    assert job is not None
    kept = here.part(Measurements)
    first = kept.of_job(job)
    assert first is not None
    assert kept.of_job(job) is first
    assert measured == [job]
    assert json.loads(first.ready.data)["accuracy"] == first.measured.accuracy


def test_a_job_that_is_retried_is_measured_again(here: Context, store: Database, measured: list[int]) -> None:
    model = register_model(store, ("birds", 1), "d" * 64, LABELS, "{}", "/models/birds/1")
    job = jobs.accept(
        store,
        NewJob(model, root=b"/photos", reuse=False),
        [NewItem(b"0.jpg", label="wren"), NewItem(b"1.jpg", label="wren")],
    )
    fine = [NewResult(n, "ok", label="wren", score=0.9, topk="[]") for n in range(2)]
    kept = here.part(Measurements)
    commit(store, [fine[0], NewResult(1, "failed", error_code="truncated", error="the file ends early")])
    first = kept.of_job(job)
    jobs.retry(store, job)
    kept.of_job(job)
    commit(store, [fine[1]])
    second = kept.of_job(job)
    assert first is not None
    assert second is not None
    assert (first.measured.images, second.measured.images) == (1, 2)
    assert kept.of_job(job) is second


def test_a_job_without_an_evaluation_is_looked_at_once_too(here: Context, store: Database, measured: list[int]) -> None:
    job = finished_run(store, History()).job_id
    assert job is not None
    kept = here.part(Measurements)
    assert kept.of_job(job) is None
    assert kept.of_job(job) is None
    assert measured == [job]
    with pytest.raises(UnknownJob):
        kept.of_job(999)


def test_two_runs_are_compared_once_and_measured_once(
    here: Context, store: Database, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = finished_run(store, History())
    other = finished_run(store, History(version=2, answers=("robin", "wren", "wren", "wren")))
    kept = here.part(Measurements)
    first = kept.of_runs(one, other)
    assert kept.of_runs(one, other) is first
    assert measured == [one.evaluation_job_id, other.evaluation_job_id]
    assert len(json.loads(first.data)["right_to_wrong"]) == 1
    assert len(json.loads(kept.of_runs(other, one).data)["wrong_to_right"]) == 1
