"""/metrics: every figure of the database, in Prometheus' own format, for those who may see it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from api.app import make_app
from store import tokens
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.errors import LeaseLost
from store.rows import Lease, NewResult
from store.sweep import sweep
from store.tables import jobs, shards
from store.workers import WorkerReport, report
from tests.api.asgi import HOST, ask
from tests.conftest import REPOSITORY
from worker.settings import Settings

AcceptJob = Callable[..., int]


@pytest.fixture
def app(settings: Settings, store: Database) -> Iterator[FastAPI]:
    made = make_app(settings, roots=())
    yield made
    made.state.context.close()


def figures(app: FastAPI) -> dict[tuple[str, ...], float]:
    answer = ask(app, "GET", "/metrics")
    assert answer.status == 200, answer
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.body.decode())
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_figures_are_those_of_the_database(app: FastAPI, store: Database, accept_job: AcceptJob) -> None:
    """Those that could be taken for one another are different numbers."""
    accept_job(7)
    late = claimed(store)
    with store.write() as connection:
        connection.execute(update(shards).values(lease_until=1.0))
        connection.execute(update(jobs).values(created_at=jobs.c.created_at - 500))
    sweep(store)  # one lease ended unheard
    lease = claimed(store)
    for _ in range(2):
        with pytest.raises(LeaseLost):
            commit_slice(store, late, rows(late), last=True)
    failed = [NewResult(n, "failed", error_code="empty", error="") for n in (4, 5, 6)]
    commit_slice(store, lease, [*rows(lease)[:4], *failed], last=True)
    sweep(store)
    report(store, WorkerReport("here/cpu", "here", "cpu", 1, "busy", "birds@1", 42))
    accept_job(9)
    found = figures(app)
    assert found["pixmill_images_total", "birds@1", "ok"] == 4
    assert found["pixmill_images_total", "birds@1", "failed"] == 3
    assert found["pixmill_images_per_second",] == pytest.approx(7 / 60, rel=0.5)
    assert (found["pixmill_queue_shards", "classify"], found["pixmill_queue_items", "classify"]) == (1, 9)
    assert 0 <= found["pixmill_queue_oldest_seconds", "classify"] < 60
    assert (found["pixmill_jobs", "accepted"], found["pixmill_jobs", "done_with_errors"]) == (1, 1)
    assert found["pixmill_worker_images_total", "here/cpu"] == 42
    assert found["pixmill_worker_seen_seconds", "busy", "here/cpu"] < 60
    assert found["pixmill_lease_expiries_total",] == 1
    assert found["pixmill_fenced_commits_total",] == 2


def claimed(store: Database) -> Lease:
    lease = claim(store, Claimer("here/cpu"))
    assert lease
    return lease


def rows(lease: Lease) -> list[NewResult]:
    return [NewResult(n, "ok", label="robin", score=0.5, topk="[]") for n in range(lease.lo, lease.hi)]


def test_every_metric_is_in_the_document_and_no_other(app: FastAPI, store: Database, accept_job: AcceptJob) -> None:
    accept_job(1)
    report(store, WorkerReport("here/cpu", "here", "cpu", 1, "idle", "birds@1", 0))
    commit_slice(store, lease := claimed(store), rows(lease), last=True)
    sweep(store)
    accept_job(1)
    told = {name for name, *_ in figures(app)}
    written = set(re.findall(r"`(pixmill_[a-z_]+)`", (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")))
    assert written == told


def test_this_machine_needs_no_token_and_others_do(app: FastAPI, store: Database) -> None:
    assert ask(app, "GET", "/metrics", client="127.0.0.1").status == 200
    assert ask(app, "GET", "/metrics", client="::1").status == 200
    for far in ("192.0.2.1", "10.0.0.1", "::ffff:10.0.0.1", "", "testclient"):
        assert ask(app, "GET", "/metrics", client=far).status == 401, far
    _, secret = tokens.create(store, name="n", owner="ann", scopes=("read",))
    bearer = (b"authorization", b"Bearer " + secret.encode())
    assert ask(app, "GET", "/metrics", [HOST, bearer], client="192.0.2.1").status == 200
    assert ask(app, "GET", "/metrics", [HOST, (b"authorization", b"Bearer x")]).status == 401  # a wrong one is no none


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"forwarded", b"via", b"x-real-ip"])
def test_what_comes_through_a_proxy_is_not_this_machine(app: FastAPI, name: bytes) -> None:
    assert ask(app, "GET", "/metrics", [HOST, (name, b"127.0.0.1")]).status == 401
