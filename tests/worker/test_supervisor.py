"""The supervisor keeps programs beside workers and broker, and ends them in order."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.running import eventually
from worker.broker import BrokerError
from worker.kept import Program
from worker.settings import Settings
from worker.supervisor import Supervisor

SERVE = """
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path(sys.argv[1]).write_text("the broker answered: " + str(pathlib.Path(sys.argv[2]).exists()))
    raise SystemExit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def program(settings: Settings, code: str = SERVE) -> Program:
    home = settings.home
    command = [sys.executable, "-c", code, str(home / "ended"), str(settings.socket)]
    return Program("api", "The API", command, settings.log_folder / "api.log", settings.run_folder)


@contextmanager
def started(supervisor: Supervisor) -> Iterator[Supervisor]:
    supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()


def is_ready(settings: Settings) -> bool:
    log = settings.log_folder / "api.log"
    return log.exists() and "ready" in log.read_text()


def test_a_program_runs_beside_the_broker_and_ends_before_it(settings: Settings) -> None:
    with started(Supervisor(settings, (), queues=(), programs=[program(settings)])) as supervisor:
        eventually(lambda: is_ready(settings))
        assert supervisor.broker is not None
        assert supervisor.broker.answers()
        assert not supervisor.ended
    assert (settings.home / "ended").read_text() == "the broker answered: True"
    assert supervisor.ended
    assert [kept.state for kept in supervisor.others] == ["stopped"]
    assert not settings.socket.exists()


def test_a_configured_broker_is_left_alone(settings: Settings) -> None:
    elsewhere = Settings.model_validate({**settings.model_dump(), "broker_url": "redis://127.0.0.1:1/0"})
    with started(Supervisor(elsewhere, (), queues=(), programs=[program(elsewhere)])) as supervisor:
        eventually(lambda: is_ready(settings))
        assert supervisor.broker is None
    assert not settings.socket.exists()


def test_a_killed_program_and_a_killed_broker_come_back_and_are_told_of(settings: Settings) -> None:
    told: list[str] = []
    with started(Supervisor(settings, (), told.append, queues=(), programs=[program(settings)])) as supervisor:
        (api,) = supervisor.others
        assert supervisor.broker
        broker = supervisor.broker.kept
        assert broker
        for kept in (api, broker):
            eventually(lambda one=kept: one.process is not None)  # type: ignore[misc]  # bound now
            assert kept.process is not None
            before = kept.process.pid
            kept.process.kill()
            eventually(lambda one=kept, old=before: one.process is not None and one.process.pid != old)  # type: ignore[misc]
            assert kept.restarts == 1
        eventually(supervisor.broker.answers)
    assert any(text.startswith("The API ended (status -9); starting it again in 1 s.") for text in told)
    assert any(text.startswith("The broker ended (status -9); starting it again.") for text in told)


def test_what_is_in_the_brokers_way_keeps_nobody_else_down(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def broken() -> None:
        raise BrokerError("no room for its socket")

    with started(Supervisor(settings, (), told.append, queues=(), programs=[program(settings)])) as supervisor:
        assert supervisor.broker is not None
        monkeypatch.setattr(supervisor.broker, "keep", broken)
        (api,) = supervisor.others
        eventually(lambda: is_ready(settings))
        assert api.process is not None
        before = api.process.pid
        api.process.kill()
        eventually(lambda: api.process is not None and api.process.pid != before, what="the API's return")
    assert [text for text in told if "socket" in text] == [
        "Something is in the way of the workers: no room for its socket"
    ]


def test_in_a_hurry_nobody_is_waited_for(settings: Settings) -> None:
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    deaf = f"{ignore}; import time; print('ready', flush=True); time.sleep(600)"
    supervisor = Supervisor(settings, (), queues=(), programs=[program(settings, deaf)])
    supervisor.start()
    eventually(lambda: is_ready(settings))
    process = supervisor.others[0].process
    assert process is not None
    supervisor.begin_stop()
    assert not supervisor.wait_ended(0.2)
    supervisor.hurry()
    eventually(lambda: supervisor.wait_ended(0.05), 5, "the end")
    assert process.returncode == -9
