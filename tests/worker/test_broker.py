"""The embedded broker: a real server, shared by whoever needs it."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from worker.broker import EmbeddedBroker
from worker.dispatch import Dispatcher
from worker.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def server_pid(settings: Settings) -> int:
    (server,) = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(str(settings.socket) in part for part in process.info["cmdline"] or [])
    ]
    return server


def test_a_hint_goes_in_and_is_counted(settings: Settings) -> None:
    broker = EmbeddedBroker(settings)
    broker.start()
    dispatcher = Dispatcher(settings)
    try:
        assert dispatcher.ring(7)
        assert dispatcher.ring(None)
        assert dispatcher.waiting() == 2
    finally:
        dispatcher.close()
        broker.stop()
    assert not settings.socket.exists() or Dispatcher(settings).waiting() is None


def test_without_a_broker_ringing_fails_quickly_and_quietly(settings: Settings) -> None:
    dispatcher = Dispatcher(settings)
    assert dispatcher.ring(7) is False
    assert dispatcher.waiting() is None
    dispatcher.close()


def test_a_frozen_broker_does_not_hold_up_a_submission(settings: Settings) -> None:
    broker = EmbeddedBroker(settings)
    broker.start()
    pid = server_pid(settings)
    os.kill(pid, signal.SIGSTOP)
    try:
        before = time.monotonic()
        assert Dispatcher(settings).ring(7) is False
        assert time.monotonic() - before < 5
    finally:
        os.kill(pid, signal.SIGCONT)
        broker.stop()


def test_a_killed_broker_is_started_again(settings: Settings) -> None:
    broker = EmbeddedBroker(settings)
    broker.start()
    first = server_pid(settings)
    os.kill(first, signal.SIGKILL)

    def again() -> bool:
        broker.keep()
        return Dispatcher(settings).waiting() == 0

    eventually(again)
    assert server_pid(settings) != first
    broker.stop()


def test_a_second_user_shares_the_server_and_takes_over_when_the_owner_leaves(settings: Settings) -> None:
    owner, guest = EmbeddedBroker(settings), EmbeddedBroker(settings)
    owner.start()
    guest.start()
    assert (owner.owned, guest.owned) == (True, False)
    owner.stop()
    guest.start()
    assert guest.owned
    guest.stop()


def test_a_long_home_path_gets_a_socket_that_fits(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / ("deep" * 30))
    assert len(os.fsencode(settings.socket)) < 108
    broker = EmbeddedBroker(settings)
    broker.start()
    broker.stop()


def test_a_hint_goes_to_its_own_queue_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    broker = EmbeddedBroker(settings)
    broker.start()
    dispatcher = Dispatcher(settings)
    try:
        assert dispatcher.ring(1, "train")
        assert (dispatcher.waiting("train"), dispatcher.waiting("classify")) == (1, 0)
        assert dispatcher.ring(2)
        assert (dispatcher.waiting("train"), dispatcher.waiting("classify")) == (1, 1)
    finally:
        dispatcher.close()
        broker.stop()
