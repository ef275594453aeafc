"""Readiness: it says what is missing, never hangs, and asks once for many who ask."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import update

from api import health
from api.app import make_app
from api.context import Context
from api.health import Check, Health, Probe
from store.claims import Claimer, claim
from store.database import Database
from store.tables import workers
from store.workers import WorkerReport, report
from tests.api.asgi import ask
from tests.api.conftest import AcceptJob
from worker.broker import EmbeddedBroker
from worker.settings import Settings

POOL = 40  # threads that AnyIO lends to endpoints


def checks(settings: Settings) -> dict[str, Check]:
    context = Context(settings, ())
    try:
        return Health(context).report()
    finally:
        context.close()


def test_life_says_nothing_of_the_rest(tmp_path: Path) -> None:
    app = make_app(Settings(home=tmp_path / "absent"), roots=())
    assert ask(app, "GET", "/livez").json == {"status": "alive"}


def test_all_is_well_with_a_database_a_broker_and_a_worker(settings: Settings, store: Database) -> None:
    broker = EmbeddedBroker(settings)
    broker.start()
    try:
        report(store, WorkerReport("here/cpu", "here", "cpu", 1, "idle"))
        found = checks(settings)
        assert all(check.ok for check in found.values()), found
        assert "idle" in found["worker"].detail
        answer = ask(make_app(settings, roots=()), "GET", "/readyz")
        assert (answer.status, answer.json) == (200, {"status": "ready"})
        report(store, WorkerReport("here/cpu", "here", "cpu", 1, "stopped"))
        assert not checks(settings)["worker"].ok
    finally:
        broker.stop()


def test_a_worker_with_a_loaded_model_is_needed_once_images_wait(
    settings: Settings, store: Database, accept_job: AcceptJob
) -> None:
    report(store, WorkerReport("here/cpu", "here", "cpu", 1, "idle"))
    report(store, WorkerReport("here/cpu/train", "here", "cpu", 2, "busy", "a training"))
    assert checks(settings)["worker"].ok  # nothing was asked of it yet, and nothing would be, were it not ready
    accept_job(3)
    assert not checks(settings)["worker"].ok
    assert claim(store, Claimer("here/cpu")) is not None  # its model is being loaded
    found = checks(settings)["worker"]
    assert (found.ok, "no model loaded" in found.detail) == (False, True)
    report(store, WorkerReport("here/cpu", "here", "cpu", 1, "busy", "birds@1"))
    found = checks(settings)["worker"]
    assert (found.ok, found.detail) == (True, "1 with a model loaded")


def test_a_worker_that_was_not_heard_of_for_a_lease_is_none(settings: Settings, store: Database) -> None:
    report(store, WorkerReport("here/cpu", "here", "cpu", 1, "idle", "birds@1"))
    with store.write() as connection:
        connection.execute(update(workers).values(seen_at=workers.c.seen_at - settings.lease_s - 1))
    assert checks(settings)["worker"].detail == "no worker has reported lately"


def test_what_is_missing_is_named_only_when_asked(tmp_path: Path) -> None:
    app = make_app(Settings(home=tmp_path, broker_url="redis://user:hidden@127.0.0.1:1/0"), roots=())
    answer = ask(app, "GET", "/readyz")
    assert (answer.status, answer.json) == (503, {"status": "not ready"})
    told = ask(app, "GET", "/readyz?verbose")
    assert {name: check["ok"] for name, check in told.json["checks"].items()} == {
        "database": False,
        "broker": False,
        "worker": False,
    }
    assert b"hidden" not in told.body
    assert str(tmp_path).encode() not in told.body  # anybody may ask


def test_a_database_of_another_version_is_not_ready(settings: Settings, store: Database) -> None:
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert checks(settings)["database"].detail == "SchemaMismatch"


def test_a_frozen_broker_holds_nobody_up(settings: Settings, store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE_S", 0.2)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        found = checks(settings.model_copy(update={"broker_url": url}))
    assert not found["broker"].ok
    assert found["database"].ok


def test_a_check_that_hangs_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go, started = threading.Event(), []

    def hang() -> str:
        started.append(1)
        let_go.wait(30)
        return "at last"

    probe = Probe(hang)
    for _ in range(5):
        probe.begin()
        assert not probe.result(0.0).ok
    assert len(started) == 1
    let_go.set()
    assert probe.result(time.monotonic() + 30).detail == "at last"


def test_many_who_ask_at_once_cost_one_look(
    settings: Settings, store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    monkeypatch.setattr(health, "KEPT_S", 3600.0)
    monkeypatch.setattr(health, "_ping", looks.append)
    context = Context(settings, ())
    part = context.part(Health)
    threads = [threading.Thread(target=part.report) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert looks == [settings.broker]
    context.close()


def test_readiness_does_not_wait_for_busy_threads(settings: Settings, store: Database) -> None:
    """Forty requests that hang take every thread of the pool; a load balancer is answered all the same."""
    from starlette.testclient import TestClient

    app: FastAPI = make_app(settings, roots=())
    let_go, hanging = threading.Event(), threading.Semaphore(0)

    @app.get("/test/hang")
    def hang() -> None:
        hanging.release()
        let_go.wait(60)

    with TestClient(app, base_url="http://localhost") as client:
        hung = [threading.Thread(target=client.get, args=("/test/hang",)) for _ in range(POOL)]
        for thread in hung:
            thread.start()
        for _ in hung:
            assert hanging.acquire(timeout=30)
        assert client.get("/readyz").status_code == 503
        let_go.set()
        for thread in hung:
            thread.join()
