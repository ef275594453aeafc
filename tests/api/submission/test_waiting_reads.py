"""`Prefer: wait` on a job that is asked for: answered when it is over, and nobody else waits for that."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from api.context import Context
from api.submission import waiting
from api.turns import SERVER_PLACES, Turns
from tests.api.submission.conftest import Ask, classify
from tests.running import eventually
from worker.settings import Settings


def test_a_job_is_answered_as_soon_as_it_is_over(client: TestClient, submit: Ask, settings: Settings) -> None:
    job, begun = submit().headers["location"], time.monotonic()
    now = client.get(job)
    assert (now.json()["state"], "preference-applied" in now.headers) == ("accepted", False)
    with ThreadPoolExecutor(1) as worker:
        worker.submit(classify, settings)
        answer = client.get(job, headers={"Prefer": "wait=60", "If-None-Match": now.headers["etag"]})
    assert (answer.status_code, answer.json()["state"], answer.json()["classified"]) == (200, "done", 5)
    assert answer.headers["preference-applied"] == "wait=60"
    assert answer.headers["etag"] != now.headers["etag"]
    assert time.monotonic() - begun < 50


def test_a_job_that_goes_on_is_answered_when_the_time_is_up(client: TestClient, submit: Ask) -> None:
    begun = time.monotonic()
    answer = client.get(submit().headers["location"], headers={"Prefer": "respond-async, wait=1"})
    assert (answer.status_code, answer.json()["state"]) == (200, "accepted")
    assert answer.headers["preference-applied"] == "wait=1"
    assert time.monotonic() - begun >= 1


def test_nobody_waits_for_what_is_not_theirs(
    client: TestClient, submit: Ask, bearer: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit().headers["location"]
    monkeypatch.setattr(waiting.Waiters, "until", None)  # to call it is an error
    for headers, status in ((bearer("eve"), 404), ({"Authorization": "Bearer nothing"}, 401)):
        assert client.get(job, headers={"Prefer": "wait=60", **headers}).status_code == status


def test_those_who_wait_take_no_place_from_those_who_read(client: TestClient, submit: Ask) -> None:
    job, crowd = submit().headers["location"], SERVER_PLACES + 2
    here: Context = cast("Any", client.app).state.context
    waiters, places = here.part(waiting.Waiters), here.part(Turns)._places
    all_free = places._value
    with ThreadPoolExecutor(crowd) as threads:
        waits = [threads.submit(client.get, job, headers={"Prefer": "wait=60"}) for _ in range(crowd)]
        eventually(lambda: waiters._waiting.total() == crowd, what="the crowd")
        assert places._value == all_free
        assert client.post(f"{job}/cancel").status_code < 300
        assert {answer.result().json()["state"] for answer in waits} == {"cancelled"}
    assert not waiters._waiting.total()
