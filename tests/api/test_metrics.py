"""/metrics: every figure of the database, in Prometheus' own format, for those who may see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from api.app import make_app
from store import tokens
from store.database import Database
from store.workers import WorkerReport, report
from tests.api.asgi import HOST, ask
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
    accept_job(7)
    report(store, WorkerReport("here/cpu", "here", "cpu", 1, "busy", "birds@1", 42))
    found = figures(app)
    assert found["pixmill_queue_items", "classify"] == 7
    assert found["pixmill_jobs", "accepted"] == 1
    assert found["pixmill_worker_images_total", "here/cpu"] == 42
    assert found["pixmill_worker_seen_seconds", "busy", "here/cpu"] < 60
    assert found["pixmill_lease_expiries_total",] == 0
    assert found["pixmill_fenced_commits_total",] == 0
    assert found["pixmill_images_per_second",] == 0
    assert 0 <= found["pixmill_queue_oldest_seconds", "classify"] < 60


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
