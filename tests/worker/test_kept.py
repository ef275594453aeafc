"""Programs that are kept running: the wait after each death, the end in order, and nothing left behind."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.running import eventually
from worker.kept import BACKOFF_S, Kept, Program, drain
from worker.processes import MISCONFIGURED

SLEEP = "import time; time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
PARENT = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "

Make = Callable[..., Kept]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes kept programs of Python code; all are gone at the end."""
    made: list[Kept] = []

    def one(code: str, title: str = "It", **options: object) -> Kept:
        program = Program("test", title, [sys.executable, "-c", code], tmp_path / f"{title}.log", tmp_path)
        made.append(Kept(program, **options))  # type: ignore[arg-type]  # whatever the test gives
        return made[-1]

    yield one
    drain(made, 0, lambda: True)


def ended(kept: Kept) -> bool:
    return kept.process is not None and kept.process.poll() is not None


def test_a_program_that_dies_again_and_again_waits_longer_and_longer(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, told = 1000.0, list[str]()
    kept = make("raise SystemExit(3)", notify=told.append)
    waits = []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(7):
        kept.keep()
        assert kept.process is not None
        kept.process.wait()
        kept.keep()
        waits.append(kept.not_before - now)
        if kept.process is None:
            assert kept.state == "waiting"
            kept.keep()
            assert kept.process is None, "it was started before its wait was over"
            now = kept.not_before
    assert waits == [*BACKOFF_S[1:], BACKOFF_S[-1], BACKOFF_S[-1]]
    assert "It ended (status 3); starting it again in 1 s. Log: " in told[0]
    assert kept.restarts == 6


def test_a_program_that_lived_long_starts_again_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    kept = make(SLEEP)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    kept.keep()
    first = kept.process
    assert first is not None
    first.kill()
    first.wait()
    now += 61
    kept.keep()
    assert kept.process is not None
    assert kept.process is not first


def test_a_program_that_can_never_run_stays_down(make: Make) -> None:
    told: list[str] = []
    kept = make(f"raise SystemExit({MISCONFIGURED})", notify=told.append)
    kept.keep()
    eventually(lambda: ended(kept))
    kept.keep()
    kept.keep()
    assert kept.state == "down"
    assert kept.process is None
    assert len(told) == 1
    assert "it stays down" in told[0]


def test_a_preparation_that_fails_starts_nothing(make: Make, tmp_path: Path) -> None:
    def prepare() -> None:
        raise PermissionError("not here")

    program = Program("test", "It", [sys.executable, "-c", SLEEP], tmp_path / "log", tmp_path, prepare=prepare)
    kept = Kept(program)
    with pytest.raises(PermissionError):
        kept.keep()
    assert kept.process is None


def test_the_children_of_a_program_that_died_are_killed_before_it_starts_again(make: Make) -> None:
    kept = make(f"{PARENT} time.sleep(600)")
    kept.keep()
    assert kept.process is not None
    parent = psutil.Process(kept.process.pid)
    eventually(lambda: len(parent.children()) == 1)
    (child,) = parent.children()
    kept.process.kill()
    kept.process.wait()
    kept.keep()
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_program_that_hangs_is_killed_and_started_again_and_its_successor_is_not(make: Make) -> None:
    told: list[str] = []
    kept = make(DEAF, notify=told.append)
    kept.keep()
    first = kept.pid
    kept.restart(first, "stood still")
    assert kept.pid == 0
    kept.not_before = 0.0
    kept.keep()
    second = kept.pid
    kept.restart(first, "stood still")
    assert kept.pid == second
    assert len(told) == 1
    assert told[0].startswith("It stood still; starting it again in 1 s. Log: ")


def test_a_drain_waits_for_those_who_end_and_kills_those_who_do_not(make: Make) -> None:
    kept, deaf = make(SLEEP, "Kept"), make(DEAF, "Deaf")
    for one in (kept, deaf):
        one.keep()
    eventually(lambda: "deaf" in deaf.program.log.read_text())
    processes = [kept.process, deaf.process]
    drain([kept, deaf], 0.2, lambda: False)
    assert [process.returncode for process in processes if process] == [-15, -9]
    assert kept.state == deaf.state == "stopped"


def test_a_drain_in_a_hurry_waits_for_nobody(make: Make) -> None:
    deaf = make(DEAF, "Deaf")
    deaf.keep()
    eventually(lambda: "deaf" in deaf.program.log.read_text())
    drain([deaf], 3600, lambda: True)  # pytest's own time limit would end this test
    assert deaf.process is None
