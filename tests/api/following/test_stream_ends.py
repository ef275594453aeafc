"""How streams end, and what is refused: bounds, other owners, hang-ups, shutdowns."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from typing import NoReturn

import pytest

from api.following import channel, hub, listener, stream
from store import scanning, tokens
from store.database import Database
from store.errors import DatabaseUnavailable
from store.rows import NewJob
from tests.api.conftest import AcceptJob
from tests.api.following.tail import Tail, deaf, finish, listen
from tests.running import eventually
from tests.serving import Served, serving
from worker.settings import Settings


def test_a_stream_of_a_given_length_ends_without_an_end(served: Served, accept_job: AcceptJob) -> None:
    job = accept_job(1)
    tail = listen(served, job, for_s=0)
    assert [name for name, _, _ in tail.ended()] == ["state", "progress"]


def test_silence_is_filled_with_comments(
    served: Served, accept_job: AcceptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "KEEP_ALIVE_S", 0.02)
    job = accept_job(1)
    with served.client.stream("GET", f"/api/v1/jobs/{job}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        seen = ""
        for text in response.iter_text():
            seen += text
            if seen.count(": still here") >= 3:
                break


def test_a_job_that_is_removed_while_it_is_looked_through_ends_its_streams(served: Served, store: Database) -> None:
    job = scanning.open_job(store, NewJob(None), None, None)
    tail = listen(served, job)
    tail.wait_for(bool)
    scanning.discard(store, job)
    assert tail.ended()[-1][:2] == ("end", {"job": job, "state": "removed", "error": None})


def test_a_database_that_does_not_answer_for_a_while_interrupts_nobody(
    served: Served, store: Database, accept_job: AcceptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = accept_job(1)
    tail = listen(served, job)
    tail.wait_for(lambda events: len(events) >= 2)
    monkeypatch.setattr(channel, "TROUBLE_S", 0.02)
    failures = []

    def broken(*_: object) -> NoReturn:
        failures.append(1)
        raise DatabaseUnavailable("gone for a moment")

    with monkeypatch.context() as patched:
        patched.setattr(hub, "look", broken)
        eventually(lambda: len(failures) > 3, what="some looks fail")
    finish(store)
    tail.ended()
    assert tail.kinds == ["accepted", "running", "done"]


@pytest.mark.parametrize("last_id", ["x", "1", "1-2", "-1-0-0", "1-0-0-start", "9" * 30 + "-0-0", "1-0-0-end-end", "é"])
def test_an_id_that_never_was_one_is_refused(served: Served, accept_job: AcceptJob, last_id: str) -> None:
    job = accept_job(1)
    headers = {b"Last-Event-ID": last_id.encode("latin-1")}
    answer = served.client.get(f"/api/v1/jobs/{job}/events", headers=headers, params={"for_s": 0})
    assert (answer.status_code, answer.json()["type"]) == (422, "/errors#bad-cursor")


def test_another_owners_job_is_not_there(served: Served, store: Database, accept_job: AcceptJob) -> None:
    job = accept_job(1, owner="ann")
    token = {"Authorization": f"Bearer {served.token_for('bob', 'read')}"}
    for path in (f"/api/v1/jobs/{job}/events", f"/api/v1/jobs/{job}/log"):
        theirs = served.client.get(path, headers=token)
        none = served.client.get(path.replace(str(job), "999999"), headers=token)
        assert theirs.status_code == none.status_code == 404
        assert theirs.json()["type"] == none.json()["type"]
    hers = listen_as(served, served.token_for("ann", "read"), job)
    assert hers.status == 200


def listen_as(served: Served, token: str, job: int) -> Tail:
    tail = Tail(served.api, token, job, for_s=0)
    tail.ended()
    return tail


def test_streams_are_bounded_and_a_place_is_free_again_when_one_ends(
    served: Served, store: Database, accept_job: AcceptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "MOST_PER_TOKEN", 2)
    job = accept_job(1)
    tails = [listen(served, job) for _ in range(2)]
    for tail in tails:
        tail.wait_open()
    refused = served.client.get(f"/api/v1/jobs/{job}/events")
    assert (refused.status_code, refused.json()["type"]) == (503, "/errors#too-many-streams")
    assert int(refused.headers["Retry-After"]) > 0
    assert listen_as(served, served.token_for("", "read"), job).status == 200  # another token has its own
    finish(store)
    for tail in tails:
        tail.ended()
    eventually(lambda: listen_as(served, served.token, job).status == 200, what="a place")


def test_a_client_that_hangs_up_gives_its_place_back_though_nothing_happens(
    served: Served, accept_job: AcceptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "MOST_PER_TOKEN", 1)
    job = accept_job(1)
    listen(served, job, hang_up_after=1).ended()
    eventually(lambda: listen_as(served, served.token, job).status == 200, what="a place")


@pytest.mark.parametrize("reads", [True, False])
def test_a_shutdown_ends_the_streams_within_two_seconds(
    settings: Settings, store: Database, accept_job: AcceptJob, reads: bool
) -> None:
    job = accept_job(1)
    with serving(settings.home) as served:
        assert served.process is not None
        tail = listen(served, job)
        tail.wait_for(lambda events: len(events) >= 2)
        with deaf(served, job) if not reads else nullcontext():
            served.process.send_signal(signal.SIGTERM)
            tail.ended(2.0)  # a bound of the product, not of this machine: streams are to end within 2 s
            assert tail.error is None, "it ended in order, not by a reset"
            assert [name for name, _, _ in tail.events][-1] != "end"
            served.process.wait(30)


def test_a_token_that_is_revoked_ends_its_streams_and_no_others(
    served: Served, store: Database, accept_job: AcceptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "RECHECK_S", 0.02)
    job = accept_job(1)
    row, secret = tokens.create(store, name="n", owner="", scopes=("read",))
    revoked, other = Tail(served.api, secret, job), listen(served, job)
    for tail in (revoked, other):
        tail.wait_for(bool)
    tokens.revoke(store, row.id)
    assert revoked.ended()[-1][0] != "end"
    finish(store)
    assert other.ended()[-1][0] == "end"
