"""A supervisor's rounds: deaths of workers' children are told, and a round that hangs holds nobody up."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.workers import WorkerRow
from tests.running import eventually
from worker import rounds, sweeper
from worker.kept import Kept, Program, drain
from worker.rounds import Rounds, Succession
from worker.settings import Settings
from worker.supervisor import Supervisor

CHILDREN = """
import subprocess, sys, time
for _ in range(2):
    print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    command = [sys.executable, "-c", CHILDREN]
    made = Kept(Program("worker", "The worker on CPU", command, tmp_path / "log", tmp_path, id="here/cpu"))
    made.keep()
    yield made
    drain([made], 0, lambda: True)


def row(pid: int) -> dict[str, WorkerRow]:
    return {"here/cpu": WorkerRow("here/cpu", "here", "CPU", pid, "idle", None, 0, 1.0, 1.0, None)}


def test_a_child_that_takes_anothers_place_is_told_of_once(kept: Kept) -> None:
    eventually(lambda: len(kept.program.log.read_text().split()) == 2)
    first, second = map(int, kept.program.log.read_text().split())
    succession = Succession()
    assert list(succession.look([kept], {})) == []
    assert list(succession.look([kept], row(first))) == []
    (line,) = succession.look([kept], row(second))
    assert line.startswith(f"The worker on CPU lost its process {first}; another one went on in its place. Log: ")
    assert list(succession.look([kept], row(second))) == []


def test_the_row_of_another_process_is_no_child(kept: Kept) -> None:
    eventually(lambda: len(kept.program.log.read_text().split()) == 2)
    first, _ = map(int, kept.program.log.read_text().split())
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        succession = Succession()
        for pid in (first, stranger.pid, first):  # another supervisor's worker signed in under the same name
            assert list(succession.look([kept], row(pid))) == []
    finally:
        stranger.kill()
        stranger.wait()


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A sweep that does not come back: the database or the broker hangs. The event says that it has begun."""
    begun, let_go = threading.Event(), threading.Event()

    def hang(_: sweeper.Sweeper) -> None:
        begun.set()
        let_go.wait(60)

    monkeypatch.setattr(sweeper.Sweeper, "sweep", hang)
    monkeypatch.setattr(rounds, "FIRST_S", 0.0)
    yield begun
    let_go.set()


def test_a_round_that_hangs_keeps_nothing_down_and_nobody_from_ending(tmp_path: Path, hanging: threading.Event) -> None:
    settings = Settings(home=tmp_path / "home", broker_url="redis://127.0.0.1:1/0")
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    program = Program("api", "The API", command, tmp_path / "api.log", tmp_path)
    supervisor = Supervisor(settings, (), queues=(), programs=[program])
    supervisor.start()
    try:
        assert hanging.wait(30)
        (api,) = supervisor.others
        before = api.pid
        assert api.process
        api.process.kill()
        eventually(lambda: api.pid not in (0, before), what="the program's return")
    finally:
        supervisor.begin_stop()
        eventually(lambda: supervisor.wait_ended(0.1), 30, "the end")


def test_stuck_workers_are_handed_over_once(tmp_path: Path, kept: Kept) -> None:
    made = Rounds(Settings(home=tmp_path), (), [kept], lambda _: None)
    made._stuck.append((kept, 7))
    assert made.take_stuck() == [(kept, 7)]
    assert made.take_stuck() == []
