"""Receivers that hang, and threads that cannot be had, hold up nobody else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from api.webhooks import sender as sending
from api.webhooks.posting import Poster
from api.webhooks.sender import Sender
from store.database import Database
from tests.api.webhooks.receiver import Receiver, receiving
from tests.api.webhooks.sending import hook, new_job, only, started
from tests.running import eventually
from worker.settings import Settings

REPOSITORY = Path(__file__).parents[3]


def test_a_receiver_that_hangs_does_not_hold_up_the_others(
    settings: Settings, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def hang(_: BaseHTTPRequestHandler) -> None:
        over.wait(60)

    with receiving() as stuck:
        stuck.answer = hang
        hook(database, stuck.url)
        hook(database, receiver.url)
        try:
            with started(settings, monkeypatch):
                for _ in range(20):
                    new_job(database)
                receiver.wait(20)
                assert len(stuck.wait(1)) <= 2  # at a time
        finally:
            over.set()


def test_a_stop_does_not_wait_for_a_receiver_that_hangs(
    settings: Settings, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def hang(_: BaseHTTPRequestHandler) -> None:
        over.wait(60)

    receiver.answer = hang
    webhook = hook(database, receiver.url)
    new_job(database)
    posted = threading.Event()
    real: Callable[..., object] = Poster.post

    def watched(*arguments: object) -> object:
        try:
            return real(*arguments)
        finally:
            posted.set()

    monkeypatch.setattr(Poster, "post", watched)
    with started(settings, monkeypatch):
        receiver.wait(1)
    assert not posted.is_set()  # the stop came first
    assert only(database, webhook).state == "due"  # and nothing is lost
    over.set()
    assert posted.wait(30)
    eventually(lambda: not any(thread.name == "webhook" for thread in threading.enumerate()), what="its thread ends")


def assert_set(event: threading.Event) -> None:
    assert event.wait(60)


def test_an_owner_whose_receiver_hangs_leaves_half_of_the_calls_to_others(
    settings: Settings, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    with receiving() as hanging:
        hanging.answer = lambda _: assert_set(let_go)
        for _ in range(sending.SENDERS + 2):
            hook(database, hanging.url, owner="ann")
        new_job(database, owner="ann")
        with started(settings, monkeypatch):
            hanging.wait(sending.SENDERS // 2)
            hook(database, receiver.url, owner="bob")
            new_job(database, owner="bob")
            receiver.wait(1)
            assert len(hanging.calls) == sending.SENDERS // 2
            let_go.set()


def test_a_thread_that_cannot_be_started_costs_no_place_and_no_attempt(
    sender: Sender, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = hook(database, receiver.url)
    new_job(database)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", _no_thread)
        for _ in range(sending.SENDERS + 1):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                sender.turn()
    assert only(database, webhook).attempts == 0
    sender.turn()
    receiver.wait(1)
    eventually(lambda: only(database, webhook).state == "sent", what="the end of the call")
    assert only(database, webhook).attempts == 1


def _no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
