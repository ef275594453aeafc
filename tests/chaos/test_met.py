"""A fault of SQLite counts where somebody met it, and not where nobody came by."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from store.database import Database
from tests.chaos import database_faults
from tests.chaos.crews import Missed
from tests.chaos.world import CODE
from tests.databases import ready
from tests.running import eventually

WRITER = """
import sys
from sqlalchemy import text
from store.database import Database
from store.errors import StoreError
database = Database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    with database.write() as connection:
        connection.execute(text("INSERT INTO counters (name, n) VALUES ('x' || hex(zeroblob(100000)), 1)"))
except StoreError as error:
    print(error)
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Any]:
    """As much of one as the faults of SQLite need."""
    (tmp_path / "met").mkdir()
    database = Database(ready(f"sqlite:///{tmp_path}/pixmill.db"))
    yield SimpleNamespace(database=database, met=tmp_path / "met", full=tmp_path / "full")
    database.close()


@pytest.fixture
def writer(world: Any) -> Iterator[subprocess.Popen[str]]:
    """A program with the hooks of a chaos run; at the first line that it is told it writes."""
    environment = {**os.environ, "PYTHONPATH": CODE, "CHAOS_FULL": str(world.full), "CHAOS_MET": str(world.met)}
    command = [sys.executable, "-P", "-c", WRITER, str(world.database.url)]
    with subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


def writes(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


FAULTS: dict[str, Callable[[Any, random.Random], Iterator[float]]] = {
    "locked": database_faults.sqlite_locked,
    "full": database_faults.sqlite_full,
    "checkpointed": database_faults.sqlite_checkpointed,
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_nobody_came_by_is_missed(name: str, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_faults, "MARK_S", 0.0)
    with pytest.raises(Missed):
        list(FAULTS[name](world, random.Random(1)))


def test_a_lock_that_somebody_waited_for_counts(world: Any, writer: subprocess.Popen[str]) -> None:
    steps = database_faults.sqlite_locked(world, random.Random(1))
    next(steps)
    writes(writer)
    with pytest.raises(subprocess.TimeoutExpired):
        writer.wait(1)
    assert list(steps) == []


def test_a_full_disk_that_refused_somebody_counts(world: Any, writer: subprocess.Popen[str]) -> None:
    steps = database_faults.sqlite_full(world, random.Random(1))
    next(steps)
    writes(writer)
    eventually(lambda: any(world.met.iterdir()), what="the refusal")
    assert list(steps) == []
    assert "No space left" in writer.communicate()[0]
