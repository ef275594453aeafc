"""Moving jobs over HTTP, one and many."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from store import scanning, workers
from store.database import Database
from store.sweep import sweep
from store.workers import WorkerReport
from tests.api.submission.conftest import JOBS, Ask, few
from tests.running import eventually

ACTIONS = "/api/v1/job-actions"

Rows = Callable[..., list[dict[str, Any]]]


def test_a_job_is_paused_resumed_cancelled_and_run_again(client: TestClient, submit: Ask) -> None:
    where = submit().headers["location"]
    moves = [("pause", "paused"), ("resume", "accepted"), ("cancel", "cancelled"), ("retry", "accepted")]
    for action, state in moves:
        answer = client.post(f"{where}/{action}")
        assert (answer.status_code, answer.json()["state"]) == (200, state)


def test_a_move_that_the_state_does_not_allow_is_refused(client: TestClient, submit: Ask) -> None:
    where = submit().headers["location"]
    for answer in (client.post(f"{where}/resume"), client.post(f"{where}/retry"), client.delete(where)):
        assert (answer.status_code, answer.json()["type"]) == (409, "/errors#illegal-move")
        assert answer.json()["state"] == "accepted"
    refused = client.post(f"{where}/cancel", json={"keep_best": True})
    assert (refused.status_code, "it is no training" in refused.json()["detail"]) == (409, True)


def test_retry_by_codes_runs_what_failed_so_and_what_was_never_run(
    client: TestClient, submit: Ask, rows: Rows, settings: Any
) -> None:
    job = submit().json()["id"]
    _fail(settings, job, {0: "missing", 1: "corrupt"})
    client.post(f"{JOBS}/{job}/cancel")
    assert client.post(f"{JOBS}/{job}/retry", json={"codes": ["missing"]}).status_code == 200
    assert rows("SELECT idx, error_code FROM results") == [{"idx": 1, "error_code": "corrupt"}]


def test_what_is_left_is_run_without_what_failed(client: TestClient, submit: Ask, rows: Rows, settings: Any) -> None:
    job = submit().json()["id"]
    _fail(settings, job, {0: "missing", 1: "corrupt"})
    client.post(f"{JOBS}/{job}/cancel")
    for bad in ({"what": "failed"}, {"what": "left", "codes": ["missing"]}, {"what": None}):
        assert client.post(f"{JOBS}/{job}/retry", json=bad).status_code == 422
    left = client.post(f"{JOBS}/{job}/retry", json={"what": "left"})
    assert (left.status_code, left.json()["state"], left.json()["failed"]) == (200, "accepted", 2)
    assert rows("SELECT idx FROM results ORDER BY idx") == [{"idx": 0}, {"idx": 1}]
    _fail(settings, job, {2: "missing", 3: "missing", 4: "missing"}, last=True)
    refused = client.post(f"{JOBS}/{job}/retry", json={"what": "left"})
    assert (refused.status_code, refused.json()["type"]) == (409, "/errors#nothing-to-do")
    assert client.post(f"{JOBS}/{job}/retry", json={"what": "both"}).json()["failed"] == 0


def test_a_retry_keeps_the_limit_of_waiting_images(client: TestClient, submit: Ask, rows: Rows, settings: Any) -> None:
    headers = few(settings, 7)
    first = submit(headers=headers).json()["id"]
    client.post(f"{JOBS}/{first}/cancel")
    second = submit(headers=headers).json()["id"]
    refused = client.post(f"{JOBS}/{first}/retry", headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (429, "/errors#queue-full")
    assert refused.headers["retry-after"]
    assert rows("SELECT state FROM jobs ORDER BY id") == [{"state": "cancelled"}, {"state": "accepted"}]
    client.post(f"{JOBS}/{second}/cancel")
    assert client.post(f"{JOBS}/{first}/retry", headers=headers).status_code == 200


def test_a_job_whose_images_are_looked_for_is_cancelled_without_any(
    client: TestClient, submit: Ask, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, over = threading.Event(), threading.Event()
    fill = scanning.fill

    def slow(database: Any, job_id: int, job: Any, found: Any, *more: Any, **options: Any) -> None:
        def items() -> Iterator[Any]:
            for n, item in enumerate(found):
                assert n < 2 or go_on.wait(60)  # by then the first one is written
                yield item

        try:
            fill(database, job_id, job, items(), *more, **{**options, "chunk": 1})
        finally:
            over.set()

    monkeypatch.setattr(scanning, "fill", slow)
    monkeypatch.setattr("api.submission.service.WAIT_S", 0.05)
    job = submit().json()["id"]
    eventually(lambda: rows("SELECT idx FROM items") != [])
    cancelled = client.post(f"{JOBS}/{job}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"], cancelled.json()["found"]) == (200, "cancelled", 0)
    go_on.set()
    assert over.wait(60)
    assert rows("SELECT state, n_items FROM jobs") == [{"state": "cancelled", "n_items": 0}]
    assert rows("SELECT idx FROM items") == []
    assert rows("SELECT kind FROM events ORDER BY id") == [{"kind": "cancelled"}]
    assert client.post(f"{JOBS}/{job}/retry").json()["type"] == "/errors#nothing-to-do"
    assert client.delete(f"{JOBS}/{job}").status_code == 204


def test_priority_is_changed_within_its_bounds(client: TestClient, submit: Ask) -> None:
    where = submit().headers["location"]
    assert client.patch(where, json={"priority": 9}).json()["priority"] == 9
    for bad in ({"priority": 10}, {"priority": "1"}, {}, {"priority": 1, "owner": "me"}):
        assert client.patch(where, json=bad).status_code == 422


def test_a_deleted_job_is_gone_with_its_rows(client: TestClient, submit: Ask, rows: Rows) -> None:
    where = submit().headers["location"]
    client.post(f"{where}/cancel")
    gone = client.delete(where)
    assert (gone.status_code, gone.content) == (204, b"")
    assert client.delete(where).status_code == 404
    assert (rows("SELECT id FROM jobs"), rows("SELECT idx FROM items"), rows("SELECT id FROM shards")) == ([], [], [])


def test_one_action_on_many_jobs_tells_of_each(
    client: TestClient, submit: Ask, bearer: Callable[..., dict[str, str]]
) -> None:
    ann = bearer("ann")
    mine = [submit(headers=ann).json()["id"] for _ in range(2)]
    client.post(f"{JOBS}/{mine[1]}/pause")
    foreign = submit().json()["id"]
    answer = client.post(ACTIONS, json={"action": "pause", "jobs": [*mine, foreign, 10**9]}, headers=ann)
    assert answer.status_code == 200
    told = answer.json()["outcomes"]
    assert [(one["job"], one["ok"], one["state"], (one["problem"] or {}).get("type")) for one in told] == [
        (mine[0], True, "paused", None),
        (mine[1], False, None, "/errors#illegal-move"),
        (foreign, False, None, "/errors#not-found"),
        (10**9, False, None, "/errors#not-found"),
    ]
    for bad in ([], [1] * 1001, [0], ["1"], [2**63]):
        assert client.post(ACTIONS, json={"action": "pause", "jobs": bad}, headers=ann).status_code == 422


def test_many_jobs_are_cancelled_run_again_and_deleted(
    client: TestClient, submit: Ask, rows: Rows, settings: Any
) -> None:
    def act(action: str, *jobs: int, **more: Any) -> list[tuple[bool, str | None]]:
        answer = client.post(ACTIONS, json={"action": action, "jobs": jobs, **more})
        assert answer.status_code == 200, answer.text
        return [(one["ok"], one["state"] or (one["problem"] or {}).get("type")) for one in answer.json()["outcomes"]]

    one, two = (submit().json()["id"] for _ in range(2))
    _fail(settings, one, {0: "missing", 1: "corrupt"})
    refused = (False, "/errors#illegal-move")
    assert act("delete", one, two) == [refused, refused]
    assert act("cancel", one, two, two) == [(True, "cancelled"), (True, "cancelled"), refused]
    assert act("retry", two, one, codes=["missing"]) == [(True, "accepted"), (True, "accepted")]
    assert rows("SELECT job_id, error_code FROM results") == [{"job_id": one, "error_code": "corrupt"}]
    assert act("cancel", one, two) == [(True, "cancelled")] * 2
    assert act("delete", one, two, one) == [(True, None), (True, None), (False, "/errors#not-found")]
    assert rows("SELECT id FROM jobs") == []


def test_many_jobs_get_another_priority(client: TestClient, submit: Ask, rows: Rows) -> None:
    mine = [submit().json()["id"] for _ in range(2)]
    answer = client.post(ACTIONS, json={"action": "priority", "jobs": [*mine, 999], "priority": 0})
    assert [(one["ok"], one["state"]) for one in answer.json()["outcomes"]] == [
        (True, "accepted"),
        (True, "accepted"),
        (False, None),
    ]
    assert rows("SELECT priority FROM jobs") == [{"priority": 0}] * 2
    asked = {"action": "priority", "jobs": mine}
    for bad in (asked, {**asked, "priority": 10}, {**asked, "action": "pause", "priority": 1}):
        assert client.post(ACTIONS, json=bad).status_code == 422


@pytest.mark.parametrize("action", ["pause", "resume", "cancel", "retry"])
def test_another_owners_job_is_not_there_and_reading_is_not_enough(
    client: TestClient, submit: Ask, bearer: Callable[..., dict[str, str]], action: str
) -> None:
    where = submit(headers=bearer("ann")).headers["location"]
    bob, unknown = client.post(f"{where}/{action}", headers=bearer("bob")), client.post(f"{JOBS}/999/{action}")
    assert (bob.status_code, unknown.status_code) == (404, 404)
    assert client.post(f"{where}/{action}", headers=bearer("ann", "read")).status_code == 403
    assert client.post(f"{where}/{action}", headers={"Authorization": ""}).status_code == 401
    assert client.delete(where, headers=bearer("bob")).status_code == 404
    assert client.patch(where, json={"priority": 1}, headers=bearer("bob")).status_code == 404


@pytest.mark.parametrize("job", ["0", "-1", "9007199254740992", "99999999999999999999", "1.5", "x", "1%00", "%F0%9F"])
def test_a_job_number_that_is_none_is_refused(client: TestClient, job: str) -> None:
    for answer in (client.post(f"{JOBS}/{job}/pause"), client.delete(f"{JOBS}/{job}")):
        assert answer.status_code in (400, 404, 422)


def _fail(settings: Any, job_id: int, codes: dict[int, str], *, last: bool = False) -> None:
    """What a worker does that fails some items, and lets go of the rest unless these are the `last`."""
    from store.claims import Claimer, claim, release
    from store.commits import commit_slice
    from store.rows import NewResult

    database = Database(settings.database)
    lease = claim(database, Claimer("test", "classify", (), 60.0))
    assert lease is not None
    failed = [NewResult(idx=idx, status="failed", error_code=code, error="x") for idx, code in codes.items()]
    commit_slice(database, lease, failed, last=last)
    if last:
        sweep(database)
    else:
        release(database, lease)
    database.close()


def _stopped(client: TestClient, submit: Ask, settings: Any, limit: int | str) -> tuple[str, dict[str, Any]]:
    """Where a job is that stopped for its failures, and what it says then."""
    answer = submit(max_failures=limit)
    where, job = answer.headers["location"], answer.json()["id"]
    _fail(settings, job, {0: "missing", 1: "missing"})
    database = Database(settings.database)
    sweep(database)
    database.close()
    return where, client.get(where).json()


def test_a_job_stops_after_so_many_failures_and_says_how_to_go_on(
    client: TestClient, submit: Ask, settings: Any
) -> None:
    where, told = _stopped(client, submit, settings, 1)
    assert (told["state"], told["max_failures"], told["failed"], told["pending"]) == ("failed", "1", 2, 3)
    assert told["error"].startswith("Stopped: 2 of 2 images failed, and at most 1 may. Most often as missing (2)")
    assert f"pixmill jobs retry {told['id']}" in told["error"]
    again = client.post(f"{where}/retry").json()
    assert (again["state"], again["failed"], again["max_failures"], again["error"]) == ("accepted", 0, "1", None)


def test_a_job_that_stopped_goes_on_with_the_rest_under_the_limit_that_is_said(
    client: TestClient, submit: Ask, settings: Any
) -> None:
    where, _ = _stopped(client, submit, settings, "1")
    on = client.post(f"{where}/resume")
    assert (on.status_code, on.json()["state"], on.json()["failed"], on.json()["max_failures"]) == (
        *(200, "accepted"),
        *(2, "none"),
    )
    changed = client.post(f"{where}/resume", json={"max_failures": "50%"})
    assert (changed.status_code, changed.json()["max_failures"]) == (200, "50%")
    client.post(f"{where}/cancel")
    where, _ = _stopped(client, submit, settings, 0)
    many = client.post(ACTIONS, json={"action": "resume", "jobs": [int(where.rpartition("/")[2])], "max_failures": 9})
    assert [one["state"] for one in many.json()["outcomes"]] == ["accepted"]
    assert client.get(where).json()["max_failures"] == "9"


def test_going_on_keeps_the_limit_of_waiting_images(client: TestClient, submit: Ask, settings: Any) -> None:
    headers = few(settings, 7)
    where = submit(headers=headers, max_failures=0).headers["location"]
    _fail(settings, int(where.rpartition("/")[2]), {0: "missing"})
    database = Database(settings.database)
    sweep(database)
    database.close()
    submit(headers=headers)
    refused = client.post(f"{where}/resume", headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (429, "/errors#queue-full")


@pytest.mark.parametrize("limit", [-1, 1.5, True, "101%", "5 %", "many", "", "1e3", 10**15, None])
def test_what_is_no_limit_is_refused(client: TestClient, submit: Ask, rows: Rows, limit: Any) -> None:
    answer = submit(max_failures=limit)
    if limit is None:
        assert (answer.status_code, answer.json()["max_failures"]) == (202, None)
        return
    assert (answer.status_code, answer.json()["type"]) == (422, "/errors#invalid")
    assert "expected a number of images (500), a share of them (5%), or none" in answer.json()["detail"]
    assert rows("SELECT id FROM jobs") == []


def test_a_retry_for_a_code_that_no_image_can_have_is_refused_with_the_codes(client: TestClient, submit: Ask) -> None:
    where = submit().headers["location"]
    client.post(f"{where}/cancel")
    refused = client.post(f"{where}/retry", json={"codes": ["missing", "nonsense"]})
    assert (refused.status_code, refused.json()["type"]) == (422, "/errors#invalid")
    detail = refused.json()["detail"]
    assert "codes.1: expected an error code of images, got 'nonsense'. There are missing, broken_link" in detail
    assert client.get(where).json()["state"] == "cancelled"


def test_a_job_says_what_it_waits_for(
    client: TestClient, submit: Ask, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.health.PATIENCE_S", 30.0)
    where = submit().headers["location"]
    assert client.get(where).json()["trouble"] is None
    database = Database(settings.database)
    report = WorkerReport("here/cpu", "here", "cpu", 1, "busy", trouble="No space left for the database.")
    workers.report(database, report)
    told = client.get(where).json()
    assert told["trouble"] == "No space left for the database."
    assert client.get("/api/v1/workers").json()["items"][0]["trouble"] == "No space left for the database."
    ready = client.get("/readyz?verbose").json()["checks"]["database"]
    assert ready == {"ok": False, "detail": "no space is left: work waits until there is some"}
    workers.seen(database, "here/cpu", 1)
    database.close()
    assert client.get(where).json()["trouble"] is None
    client.post(f"{where}/pause")
    assert client.get(where).json()["trouble"] is None
