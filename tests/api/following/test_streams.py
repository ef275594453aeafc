"""Event streams of a real server to real clients: nothing lost, nothing told twice, nobody held up."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from api.following import channel, messages
from store import jobs
from store.database import Database
from store.events import record
from store.runs import add_epoch, begin, finish_run
from store.sweep import sweep
from store.tables import shards
from tests.api.conftest import AcceptJob
from tests.api.following.tail import deaf, finish, listen
from tests.running import eventually
from tests.serving import Served
from tests.store.conftest import epoch, train


def test_a_job_is_followed_from_its_beginning_to_its_end(
    served: Served, store: Database, accept_job: AcceptJob
) -> None:
    job = accept_job(3)
    tail = listen(served, job)
    tail.wait_for(lambda events: any(name == "progress" for name, _, _ in events), "progress")
    finish(store)
    tail.ended()
    assert tail.kinds == ["accepted", "running", "done"]
    assert [data["state"] for data in tail.named("state")] == ["accepted", "running", "done"]
    first, last = tail.named("progress")[0], tail.named("progress")[-1]
    assert (first["found"], first["classified"], first["pending"]) == (3, 0, 3)
    assert (last["state"], last["classified"], last["pending"]) == ("done", 3, 0)
    assert tail.events[-1][0] == "end"
    assert tail.named("end") == [{"job": job, "state": "done", "error": None}]
    shown = served.client.get(f"/api/v1/jobs/{job}/log").json()
    assert [entry["kind"] for entry in shown["items"]] == tail.kinds


def test_a_job_that_is_over_is_told_at_once_and_after_its_end_there_is_nothing(
    served: Served, store: Database, accept_job: AcceptJob
) -> None:
    job = accept_job(1)
    finish(store)
    tail = listen(served, job)
    events = tail.ended()
    assert [name for name, _, _ in events] == ["state", "state", "state", "progress", "end"]
    before_end, end = events[-2][2], events[-1][2]
    again = listen(served, job, before_end)
    assert [name for name, _, _ in again.ended()] == ["progress", "end"]  # it may have missed the end
    over = listen(served, job, end)
    over.ended()
    assert over.status == 204  # a browser does not come back after that


def test_a_job_that_is_tried_again_goes_on_for_those_who_come_back(
    served: Served, store: Database, accept_job: AcceptJob
) -> None:
    job = accept_job(2)
    jobs.cancel(store, job)
    first = listen(served, job)
    end = first.ended()[-1][2]
    assert first.named("end")[0]["state"] == "cancelled"
    jobs.retry(store, job)
    second = listen(served, job, end)
    second.wait_for(bool)
    finish(store)
    second.ended()
    assert second.kinds == ["retried", "running", "done"]


def test_after_dropped_connections_no_state_and_no_epoch_is_lost_or_repeated(
    served: Served, store: Database, accept_training: AcceptJob
) -> None:
    job = accept_training()
    lease = train(store)
    begin(store, lease, device="cpu", libraries={}, code_version="1")

    def work() -> None:
        for n in range(1, 41):
            add_epoch(store, lease, epoch(n))
            if n % 5 == 0:
                jobs.pause(store, job)
                jobs.resume(store, job)
        finish_run(store, lease, "done")

    worker = threading.Thread(target=work)
    worker.start()
    heard: list[tuple[str, dict[str, Any], str]] = []
    last_id, turn = None, 0
    while not heard or heard[-1][0] != "end":  # a client that is cut off after every few events, in the middle of it
        turn += 1
        heard += listen(served, job, last_id, hang_up_after=1 + turn % 4).ended()
        last_id = heard[-1][2]
    worker.join()
    assert turn > 10
    assert [data["epoch"] for name, data, _ in heard if name == "epoch"] == list(range(1, 41))
    told = [(data["at"], data["kind"]) for name, data, _ in heard if name == "state"]
    assert told == [(entry["at"], entry["kind"]) for entry in whole_log(served, job)]


def whole_log(served: Served, job: int) -> list[dict[str, Any]]:
    """The history page by page, by its Links."""
    found: list[dict[str, Any]] = []
    url: str | None = f"/api/v1/jobs/{job}/log?limit=4"
    while url is not None:
        page = served.client.get(url)
        found += page.json()["items"]
        url = page.links["next"]["url"] if page.json()["next"] else None
    return found


def test_epochs_that_are_run_again_after_a_kill_are_told_again_by_their_attempt(
    served: Served, store: Database, accept_training: AcceptJob
) -> None:
    job = accept_training()
    lease = train(store)
    begin(store, lease, device="cpu", libraries={}, code_version="1")
    for n in (1, 2, 3):
        add_epoch(store, lease, epoch(n))
    tail = listen(served, job)
    tail.wait_for(lambda events: any(data.get("epoch") == 3 for _, data, _ in events))
    with store.write() as connection:
        connection.execute(update(shards).values(lease_until=0))
    sweep(store)
    with store.write() as connection:
        connection.execute(update(shards).values(not_before=0))
    lease = train(store)
    begin(store, lease, device="cpu", libraries={}, code_version="1", resume_epoch=2)
    for n in (3, 4):
        add_epoch(store, lease, epoch(n))
    finish_run(store, lease, "done")
    tail.ended()
    assert [(data["attempt"], data["epoch"]) for data in tail.named("epoch")] == [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 3),
        (2, 4),
    ]
    late = listen(served, job)
    late.ended()
    assert [(data["attempt"], data["epoch"]) for data in late.named("epoch")] == [(1, 1), (1, 2), (2, 3), (2, 4)]


def test_many_listeners_share_one_poller(
    served: Served, store: Database, accept_job: AcceptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels: list[channel.Channel] = []
    real = channel.Channel.__init__

    def counted(self: channel.Channel, *arguments: Any) -> None:
        channels.append(self)
        real(self, *arguments)

    monkeypatch.setattr(channel.Channel, "__init__", counted)
    job = accept_job(2)
    tails = [listen(served, job) for _ in range(20)]
    for tail in tails:
        tail.wait_for(lambda events: any(name == "progress" for name, _, _ in events))
    assert len(channels) == 1
    assert channels[0].listeners == 20
    finish(store)
    for tail in tails:
        tail.ended()
        assert tail.kinds == ["accepted", "running", "done"]
    eventually(lambda: channels[0].listeners == 0, what="all have left")
    assert len(channels) == 1


def test_two_listeners_of_different_ages_hear_the_same(served: Served, store: Database, accept_job: AcceptJob) -> None:
    job = accept_job(2)
    early = listen(served, job)
    early.wait_for(lambda events: len(events) >= 2)
    jobs.pause(store, job)
    early.wait_for(lambda _: "paused" in early.kinds)
    late, forged = listen(served, job), listen(served, job, "9007199254740991-0-0")
    late.wait_for(lambda _: "paused" in late.kinds)
    forged.wait_for(bool)
    jobs.resume(store, job)
    finish(store)
    for tail in (early, late):
        tail.ended()
        assert tail.kinds == ["accepted", "paused", "resumed", "running", "done"]
    forged.ended()
    assert forged.kinds == []  # it asked for what is after that, and took it from nobody else


def test_a_client_that_stops_reading_does_not_hold_up_the_others(
    served: Served, store: Database, accept_training: AcceptJob
) -> None:
    job = accept_training()
    lease = train(store)
    begin(store, lease, device="cpu", libraries={}, code_version="1")
    with deaf(served, job) as stuck:
        tail = listen(served, job)
        # More than all buffers between the two hold: the deaf one's server side waits in its send.
        many = {f"m{k}": 0.123456789 for k in range(2000)}
        for n in range(1, 151):
            add_epoch(store, lease, replace(epoch(n), metrics=many))
        finish_run(store, lease, "done")
        tail.ended()
        assert [data["epoch"] for data in tail.named("epoch")] == list(range(1, 151))
        other = accept_training()
        assert served.client.get(f"/api/v1/jobs/{other}/log").status_code == 200
        assert stuck.fileno() >= 0


def test_a_listener_that_was_too_slow_for_what_is_kept_reads_it_from_the_database(
    served: Served, store: Database, accept_job: AcceptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "KEPT", 2)
    job = accept_job(2)
    tail = listen(served, job)
    tail.wait_for(bool)
    for n in range(10):
        with store.write() as connection:
            for _ in range(5):
                record(connection, job, "priority", {"priority": n})
    finish(store)
    tail.ended()
    assert tail.kinds == ["accepted", *["priority"] * 50, "running", "done"]


def test_more_events_than_one_look_takes_are_all_told(
    served: Served, store: Database, accept_job: AcceptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "PAGE", 3)
    job = accept_job(2)
    for n in range(10):
        jobs.set_priority(store, job, n)
    tail = listen(served, job)
    tail.wait_for(lambda _: len(tail.kinds) >= 10)
    finish(store)
    tail.ended()
    assert tail.kinds == [entry["kind"] for entry in whole_log(served, job)]
