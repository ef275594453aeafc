"""The sender on both databases, to real receivers: signed, tried again, by one process at a time, never forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from sqlalchemy import update

from api.context import Context
from api.webhooks import sender as sending
from api.webhooks import signing
from api.webhooks.sender import ATTEMPTS, RETRY_S, Sender
from store import hooks, jobs
from store.database import Database
from store.tables import deliveries
from tests.api.webhooks.receiver import Receiver, receiving
from tests.api.webhooks.sending import attempt, hook, new_job, only, started, travel, waits
from tests.running import eventually
from tests.serving import free_port
from worker.settings import Settings

REPOSITORY = Path(__file__).parents[3]


def test_an_event_arrives_once_signed_and_is_logged(sender: Sender, database: Database, receiver: Receiver) -> None:
    webhook = hook(database, receiver.url, "accepted")
    job = new_job(database)
    jobs.pause(database, job)  # not asked for
    assert attempt(sender, database) == 1
    (call,) = receiver.calls
    call.verify(webhook.secret)
    assert call.headers["content-type"] == "application/json"
    assert call.content["type"] == "job.accepted"
    assert call.content["data"]["job"] == job
    assert call.content["data"]["state"] == "accepted"
    row = only(database, webhook)
    assert (row.state, row.status, row.error, row.attempts, row.message_id) == ("sent", 204, None, 1, call.id)
    assert row.delivered_at is not None
    assert attempt(sender, database) == 0


def test_only_the_owners_jobs_are_told_of(sender: Sender, database: Database, receiver: Receiver) -> None:
    hook(database, receiver.url, owner="ann")
    new_job(database, owner="bob")
    new_job(database)
    hers = new_job(database, owner="ann")
    attempt(sender, database)
    assert [call.content["data"]["job"] for call in receiver.calls] == [hers]


def test_it_is_tried_eight_times_over_hours_with_the_same_id_and_body_then_given_up(
    sender: Sender, database: Database, receiver: Receiver
) -> None:
    webhook = hook(database, receiver.url)
    new_job(database)
    receiver.status = 503
    for n, wait in enumerate(RETRY_S, start=1):
        assert attempt(sender, database) == 1
        row = only(database, webhook)
        assert (row.state, row.attempts, row.status) == ("due", n, 503)
        assert wait - 5 <= waits(database) <= wait * 1.1
        travel(database, wait * 0.9)
        assert attempt(sender, database) == 0  # not yet
        travel(database, wait * 0.2 + 5)
    assert attempt(sender, database) == 1
    row = only(database, webhook)
    assert (row.state, row.attempts, row.status) == ("failed", ATTEMPTS, 503)
    travel(database, 10**6)
    assert attempt(sender, database) == 0
    assert len(receiver.calls) == ATTEMPTS == 8
    assert len({call.id for call in receiver.calls}) == len({call.body for call in receiver.calls}) == 1
    for call in receiver.calls:
        call.verify(webhook.secret)
    assert (RETRY_S[0], RETRY_S[-1]) == (5, 36_000)


def test_a_receiver_that_asks_for_a_pause_gets_it(sender: Sender, database: Database, receiver: Receiver) -> None:
    hook(database, receiver.url)
    new_job(database)
    receiver.status, receiver.headers = 429, {"Retry-After": "600"}
    attempt(sender, database)
    assert 590 < waits(database) <= 600


def test_the_timestamp_is_that_of_the_attempt(settings: Settings, database: Database, receiver: Receiver) -> None:
    webhook = hook(database, receiver.url)
    new_job(database)
    context = Context(settings, [])
    clock = [1_000_000.9]
    sender = Sender(context, now=lambda: clock[0])
    receiver.status = 500
    attempt(sender, database)
    clock[0] += 300
    receiver.status = 200
    travel(database, 10)
    attempt(sender, database)
    context.close()
    assert [call.headers["webhook-timestamp"] for call in receiver.calls] == ["1000000", "1000300"]
    for call in receiver.calls:
        signing.verify(webhook.secret, call.headers, call.body, float(call.headers["webhook-timestamp"]))


def test_a_receiver_that_was_down_gets_it_later_exactly_once(sender: Sender, database: Database) -> None:
    port = free_port()
    webhook = hook(database, f"http://127.0.0.1:{port}/hook")
    new_job(database)
    for _ in range(2):
        assert attempt(sender, database) == 1
        travel(database, 400)
    row = only(database, webhook)
    assert row.status is None
    assert "cannot be reached" in str(row.error)
    with receiving(port=port) as back:
        assert attempt(sender, database) == 1
        travel(database, 10**6)
        assert attempt(sender, database) == 0
        assert back.ids() == [row.message_id]
        back.calls[0].verify(webhook.secret)
    row = only(database, webhook)
    assert (row.state, row.attempts, row.error) == ("sent", 3, None)


def test_a_receiver_that_is_gone_for_good_is_switched_off(
    sender: Sender, database: Database, receiver: Receiver
) -> None:
    webhook = hook(database, receiver.url)
    new_job(database)
    receiver.status = 410
    attempt(sender, database)
    found = hooks.find(database, webhook.id)
    assert found is not None
    assert not found.active
    assert only(database, webhook).state == "failed"
    new_job(database)
    assert attempt(sender, database) == 0


def test_a_private_address_is_not_called_where_it_is_not_allowed(
    settings: Settings, database: Database, receiver: Receiver
) -> None:
    webhook = hook(database, receiver.url.replace("http", "https"))  # as if it was allowed once
    new_job(database)
    context = Context(settings.model_copy(update={"allow_private_webhooks": False}), [])
    attempt(Sender(context), database)
    context.close()
    assert receiver.calls == []
    row = only(database, webhook)
    assert row.state == "due"
    assert "public internet" in str(row.error)


def test_what_no_process_has_survived_sending_is_given_up(
    sender: Sender, database: Database, receiver: Receiver
) -> None:
    webhook = hook(database, receiver.url)
    new_job(database)
    hooks.spread(database)
    with database.write() as connection:
        connection.execute(update(deliveries).values(attempts=ATTEMPTS))
    attempt(sender, database)
    assert receiver.calls == []
    assert only(database, webhook).state == "failed"


def test_the_sender_survives_what_nobody_expected(
    settings: Settings, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "TROUBLE_S", 0.02)
    broken = threading.Event()
    spread = hooks.spread

    def breaks_once(of: Database) -> object:
        if broken.is_set():
            return spread(of)
        broken.set()
        raise RuntimeError("a bug")

    monkeypatch.setattr(hooks, "spread", breaks_once)
    hook(database, receiver.url)
    with started(settings, monkeypatch):
        new_job(database)
        receiver.wait(1)
    assert broken.is_set()


def test_two_senders_at_once_never_send_a_delivery_twice(
    settings: Settings, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhooks = [hook(database, receiver.url, owner=f"o{n}") for n in range(4)]
    with started(settings, monkeypatch), started(settings, monkeypatch), started(settings, monkeypatch):
        for n in range(40):
            new_job(database, owner=f"o{n % 4}")
        receiver.wait(40)
        eventually(
            lambda: all(
                row.state == "sent" for one in webhooks for row in hooks.deliveries_of(database, one.id, limit=1000)
            ),
            what="all are settled",
        )
    assert len(receiver.calls) == len(set(receiver.ids())) == 40
    assert {row.attempts for one in webhooks for row in hooks.deliveries_of(database, one.id)} == {1}


def test_a_process_that_is_killed_between_sending_and_settling_is_made_good_with_the_same_id(
    settings: Settings, sender: Sender, database: Database, receiver: Receiver
) -> None:
    webhook = hook(database, receiver.url)
    new_job(database)
    code = (
        "import time; from api.context import Context; from api.webhooks.sender import Sender;"
        "from worker.settings import Settings; Context(Settings(), []).part(Sender).start(); time.sleep(120)"
    )
    environment = {**os.environ, **settings.environment(), "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=settings.home.parent)

    def kill(handler: BaseHTTPRequestHandler) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()
        receiver.answer = None

    receiver.answer = kill
    try:
        receiver.wait(1)
        assert process.wait(30) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()
    row = only(database, webhook)
    assert (row.state, row.attempts) == ("due", 1)
    assert attempt(sender, database) == 0  # whoever has leased it may still be at it
    travel(database, 61)
    assert attempt(sender, database) == 1
    assert receiver.ids() == [row.message_id] * 2
    receiver.calls[1].verify(webhook.secret)
    assert (only(database, webhook).state, only(database, webhook).attempts) == ("sent", 2)


def test_the_log_forgets_what_is_old(sender: Sender, database: Database, receiver: Receiver) -> None:
    webhook = hook(database, receiver.url)
    new_job(database)
    attempt(sender, database)
    with database.write() as connection:
        connection.execute(update(deliveries).values(created_at=0))
    sender._pruned -= sending.PRUNE_S + 1
    sender.turn()
    assert hooks.deliveries_of(database, webhook.id) == []
