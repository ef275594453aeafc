"""Submissions while the database stalls for a moment: nothing is lost by it, and nothing is stuck after it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from api.context import PATIENCE_S, Context
from api.submission import service
from api.submission.planning import Planner
from store import requests, scanning, uploads
from store.database import Database
from store.errors import DatabaseUnavailable
from tests.api.submission.conftest import JOBS, Ask
from tests.running import eventually
from tests.serving import threaded
from worker.settings import Settings

Rows = Callable[..., list[dict[str, Any]]]
KEY = {"Idempotency-Key": "one"}
STATES = "SELECT state FROM jobs"
UPLOADS = "/api/v1/uploads"


@pytest.fixture(autouse=True)
def _busy_keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "LOOK_AFTER_S", 0.05)


class Stall:
    """While it lasts, functions of the store find no database."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: tuple[Any, str]) -> None:
        self.is_on = True
        self.calls = 0
        for module, name in names:
            monkeypatch.setattr(module, name, self._stalling(getattr(module, name)))

    def _stalling(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def stalling(*arguments: Any, **options: Any) -> Any:
            if self.is_on:
                self.calls += 1
                raise DatabaseUnavailable("the database stays locked")
            return real(*arguments, **options)

        return stalling


def test_a_scan_that_a_client_was_told_of_goes_on_after_a_stall(
    submit: Ask, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "WAIT_S", 0.05)
    told = threading.Event()
    fill = scanning.fill
    calls = []

    def stalls_once(database: Database, job_id: int, job: Any, found: Iterator[Any], *rest: Any, **more: Any) -> None:
        calls.append(job_id)
        if len(calls) > 1:
            fill(database, job_id, job, found, *rest, **more)
            return
        assert told.wait(60)

        def breaks_off() -> Iterator[Any]:
            yield next(found)
            yield next(found)
            raise DatabaseUnavailable("the database stays locked")

        fill(database, job_id, job, breaks_off(), chunk=1)

    monkeypatch.setattr(scanning, "fill", stalls_once)
    answer = submit(headers=KEY)
    told.set()
    assert (answer.status_code, answer.json()["state"]) == (202, "scanning")
    eventually(lambda: rows(STATES) == [{"state": "accepted"}])
    assert len(calls) == 2
    assert rows("SELECT COUNT(*) AS n FROM items") == [{"n": 5}]


def test_a_job_that_cannot_even_be_failed_is_failed_once_the_database_is_back(
    submit: Ask, rows: Rows, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "WAIT_S", 0.0)
    go_on = threading.Event()
    plan = Planner.plan

    def slow(*arguments: Any) -> Any:
        assert go_on.wait(60)
        return plan(*arguments)

    monkeypatch.setattr(Planner, "plan", slow)
    stall = Stall(monkeypatch, (scanning, "fail_scan"))
    assert submit({"folder": str(photos / "nowhere")}).status_code == 202
    go_on.set()
    eventually(lambda: stall.calls > 1)
    stall.is_on = False
    eventually(lambda: rows(STATES) == [{"state": "failed"}])


def test_a_scan_that_the_database_breaks_off_for_ever_fails(
    submit: Ask, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "WAIT_S", 0.0)
    go_on = threading.Event()

    def breaks(*_: Any, **__: Any) -> None:
        assert go_on.wait(60)
        raise DatabaseUnavailable("the database is broken")

    monkeypatch.setattr(scanning, "fill", breaks)
    assert submit().status_code == 202
    go_on.set()
    eventually(
        lambda: rows("SELECT state, error FROM jobs") == [{"state": "failed", "error": "the database is broken"}]
    )


def test_a_job_that_was_refused_by_a_stall_is_removed_after_it_and_its_key_is_free(
    submit: Ask, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    stall = Stall(monkeypatch, (scanning, "fill"), (scanning, "discard"))
    refused = submit(headers=KEY)
    assert (refused.status_code, refused.json()["type"]) == (503, "/errors#database-unavailable")
    again = submit(headers=KEY)
    assert again.status_code == 503
    stall.is_on = False
    eventually(lambda: rows(STATES) == [])
    assert submit(headers=KEY).json()["state"] == "accepted"


def test_a_job_whose_upload_could_not_be_bound_is_removed_after_the_stall(
    submit: Ask, client: TestClient, rows: Rows, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = client.post(UPLOADS, params={"name": "a.png"}, content=(photos / "000001.png").read_bytes())
    assert sent.status_code == 201, sent.text
    source = {"upload": sent.json()["id"]}
    stall = Stall(monkeypatch, (uploads, "bind"), (scanning, "discard"))
    assert submit(source, headers=KEY).status_code == 503
    assert rows(STATES) == [{"state": "scanning"}]
    stall.is_on = False
    eventually(lambda: rows(STATES) == [])
    assert submit(source, headers=KEY).json()["state"] == "accepted"


def test_a_scan_that_this_process_has_lost_is_taken_over_by_it(
    submit: Ask, settings: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = scanning.open_job

    def unanswered(*arguments: Any) -> int:
        opened(*arguments)
        raise DatabaseUnavailable("the answer to COMMIT was lost")

    with monkeypatch.context() as patched:
        patched.setattr(scanning, "open_job", unanswered)
        assert submit().status_code == 503
    database = Database(settings.database)
    with database.write() as connection:
        connection.execute(text(f"UPDATE jobs SET claimed_at = claimed_at - {scanning.SILENT_S + 60}"))
    database.close()
    eventually(lambda: rows(STATES) == [{"state": "accepted"}])


def test_while_a_refused_job_is_being_removed_others_are_answered(
    settings: Settings, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "WAIT_S", 0.05)
    removing, go_on = threading.Event(), threading.Event()
    discard = scanning.discard

    def slow(*arguments: Any) -> bool:
        removing.set()
        assert go_on.wait(60)
        return discard(*arguments)

    monkeypatch.setattr(scanning, "discard", slow)
    with threaded(settings, [photos]) as served, ThreadPoolExecutor(1) as pool:
        body = {"kind": "classify", "source": {"folder": str(photos / "nowhere")}}
        refused = pool.submit(served.client.post, JOBS, json=body)
        try:
            assert removing.wait(60)
            for _ in range(20):  # of which the first ones come before the submission has waited long enough
                assert httpx2.get(f"{served.url}/livez", timeout=20).status_code == 200
                assert not go_on.wait(0.02)
            assert not refused.done()
        finally:
            go_on.set()
        assert refused.result().status_code == 422


def test_the_same_request_at_the_moment_in_which_its_key_is_freed_is_asked_again(
    submit: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(headers=KEY)
    monkeypatch.setattr(requests, "_find", lambda *_: None)
    again = submit(headers=KEY)
    assert (again.status_code, again.json()["type"]) == (409, "/errors#in-flight")
    assert again.headers["retry-after"] == "1"


def test_housekeeping_survives_what_nobody_expected(
    submit: Ask, rows: Rows, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = threading.Event()

    def breaks(*_: Any) -> None:
        broken.set()
        raise RuntimeError("a bug")

    monkeypatch.setattr(service, "remove_expired", breaks)
    assert broken.wait(30)
    test_a_job_that_was_refused_by_a_stall_is_removed_after_it_and_its_key_is_free(submit, rows, monkeypatch)
    assert "a bug" in caplog.text


def test_requests_have_less_patience_than_workers(settings: Settings, database: Database) -> None:
    context = Context(settings, [])
    assert context.database.patience_s == PATIENCE_S < database.patience_s
    postgresql = "SELECT setting FROM pg_settings WHERE name = 'lock_timeout'"
    asked = text("PRAGMA busy_timeout" if database.is_sqlite else postgresql)
    for one, seconds in ((context.database, PATIENCE_S), (database, 30)):
        with one.read() as connection:
            assert int(connection.scalar(asked) or 0) == seconds * 1000
    context.close()
