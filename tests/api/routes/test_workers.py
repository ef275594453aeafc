"""Workers over HTTP."""

from __future__ import annotations

import pytest

from api.routes import workers
from store.database import Database
from store.workers import WorkerReport, report
from tests.serving import api_client
from worker.settings import Settings


def test_workers_are_listed_as_they_last_reported(settings: Settings, store: Database) -> None:
    report(store, WorkerReport("host:cpu", "host", "CPU", 7, "busy", "birds@1, cats@2", 40))
    with api_client(settings, []) as client:
        (found,) = client.get("/api/v1/workers").json()["items"]
        assert (found["id"], found["state"], found["models"], found["images"]) == (
            "host:cpu", "busy", ["birds@1", "cats@2"], 40,
        )  # fmt: skip
        assert found["seen_at"].endswith("Z")
        assert client.get("/api/v1/workers", headers={"Authorization": ""}).status_code == 401


def test_the_list_is_bounded(settings: Settings, store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MOST", 2)
    for number in range(3):
        report(store, WorkerReport(f"host:{number}", "host", "CPU", 7, "idle"))
    with api_client(settings, []) as client:
        found = client.get("/api/v1/workers").json()["items"]
    assert len(found) == 2  # which two is open: they may have signed in within one tick of the database's clock
