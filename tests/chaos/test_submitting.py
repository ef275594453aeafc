"""What a person may hear who submits and gets no job: what a fault of that time brings about, and nothing else."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos.history import History
from tests.chaos.world import Plan, World

LOCKED = "The database /x/pixmill.db stayed locked by another program. Try again."
AWAY = "The database postgresql+psycopg://x@y/z cannot be reached: the server closed the connection"
FULL = "No space left for the database /x. Free some and try again; nothing was lost."
TOLD = "The failpoint accept.inside was told to fail."
DIES = """import os, pathlib
pathlib.Path("fired.log").write_text(f"accept.inside {0} {{os.getpid()}} 1.0")
{1}"""


def submitted(folder: Path, code: str, *faults: str) -> World:
    """A world with those faults under way in which the command line is a piece of Python, after a submission."""
    home: Any = SimpleNamespace(command=lambda *_: [sys.executable, "-c", code], env=lambda: os.environ, path=folder)
    nothing: Any = None
    world = World(Plan("sqlite"), folder, home, nothing, nothing, nothing, nothing, [folder])
    for name in faults:
        world.history.during(name).__enter__()
    world.submit(SimpleNamespace(choice=lambda of: of[0], randint=lambda *_: 5, random=lambda: 0.0))  # type: ignore[arg-type]
    return world


def says(words: str, status: int = 3) -> str:
    return f"import sys; print({words!r}, file=sys.stderr); sys.exit({status})"


@pytest.mark.parametrize(
    ("words", "fault"),
    [(LOCKED, "sqlite_locked"), (AWAY, "pg_crashed"), (FULL, "sqlite_full"), (TOLD, "failpoint_in_submission")],
)
def test_a_refusal_counts_as_one_where_its_fault_is_under_way(words: str, fault: str, tmp_path: Path) -> None:
    world = submitted(tmp_path, says(words), fault)
    assert (len(world.refused), world.wrong) == (1, [])
    world = submitted(tmp_path, says(words), "hints_doubled", "broker_down")
    assert (world.refused, len(world.wrong)) == ([], 1)


@pytest.mark.parametrize("code", [says(LOCKED, 1), says("Something is odd."), says("", 1), says("", 0), "1 / 0"])
def test_any_other_end_is_wrong_whatever_is_under_way(code: str, tmp_path: Path) -> None:
    world = submitted(tmp_path, code, "sqlite_locked", "pg_crashed", "failpoint_killed", "broker_down")
    assert world.refused == []
    assert world.wrong


@pytest.mark.parametrize(
    ("action", "ends"), [("kill", "os.kill(os.getpid(), 9)"), ("exit:1", "os._exit(1)")], ids=["kill", "exit"]
)
def test_a_death_at_a_failpoint_is_one_where_that_process_came_by(action: str, ends: str, tmp_path: Path) -> None:
    (tmp_path / "failpoints").symlink_to(tmp_path)
    world = submitted(tmp_path, DIES.format(action, ends))
    assert (len(world.refused), world.wrong) == (1, [])
    world = submitted(tmp_path, f"import os; {ends}", "failpoint_killed")
    assert (world.refused, len(world.wrong)) == ([], 1)


def test_a_fault_that_is_long_over_is_not_remembered() -> None:
    history = History()
    with history.during("pg_crashed"):
        assert history.since(time.monotonic()) == {"pg_crashed"}
    assert history.since(time.monotonic()) == set()
    assert history.names() == {"pg_crashed"}
