"""Which journal a SQLite file gets: by the version of the library, and one for all who have it open."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from store import database as module
from store.database import WHEEL, Database
from tests.databases import ready

REPOSITORY = Path(__file__).parents[2]
FIXED = (3, 51, 3)  # sqlite.org/wal.html#walresetbug

# Opens a database, and reports of every line that it is told to do.
OTHER = """
import sys
from store.database import Database, sqlite_module
from store.errors import DatabaseUnavailable
from sqlalchemy import text
print(sqlite_module().sqlite_version, flush=True)
database = Database(sys.argv[1], patience_s=1)
for line in sys.stdin:
    try:
        with (database.write if line.strip() == "write" else database.read)() as connection:
            found = connection.scalar(text("PRAGMA journal_mode"))
        print(found, flush=True)
    except DatabaseUnavailable as error:
        print(error, flush=True)
"""


class Other:
    """Another process, in an environment that has no wheel: its SQLite is Python's own."""

    def __init__(self, url: str, hidden: Path) -> None:
        hidden.mkdir()
        (hidden / "pysqlite3.py").write_text("raise ImportError\n")
        paths = {"PYTHONPATH": os.pathsep.join([str(hidden), str(REPOSITORY)])}
        self._process = subprocess.Popen(
            [sys.executable, "-c", OTHER, url],
            env={**os.environ, **paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.version = self._hear()

    def _hear(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def does(self, what: str) -> str:
        """What it says of a transaction: `read` or `write`."""
        assert self._process.stdin
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return self._hear()

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def journal(database: Database) -> str:
    with database.read() as connection:
        return str(connection.scalar(text("PRAGMA journal_mode")))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return ready(f"sqlite:///{tmp_path}/pixmill.db")


@pytest.fixture
def other(url: str, tmp_path: Path) -> Iterator[Other]:
    made = Other(url, tmp_path / "hidden")
    yield made
    made.close()


def is_mixed() -> bool:
    return WHEEL is not None and sqlite3.sqlite_version_info < FIXED <= WHEEL.sqlite_version_info


@pytest.mark.parametrize("fixed", [(3, 0, 0), FIXED, (99, 0, 0)])
def test_the_journal_is_chosen_by_the_version_of_the_library(
    url: str, monkeypatch: pytest.MonkeyPatch, fixed: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(module, "WAL_SAFE", fixed)
    database = Database(url)
    assert journal(database) == ("wal" if module.sqlite_module().sqlite_version_info >= fixed else "truncate")
    database.close()


def test_without_the_wheel_the_choice_is_made_for_the_library_that_is_there(other: Other) -> None:
    version = tuple(int(part) for part in other.version.split("."))
    assert version == sqlite3.sqlite_version_info
    assert other.does("write") == ("wal" if version >= FIXED else "truncate")


@pytest.mark.skipif(not is_mixed(), reason="there are not two libraries here, one on each side of the fix")
@pytest.mark.parametrize("what", ["read", "write"])
def test_an_old_library_stays_away_from_a_file_that_a_new_one_has_open(url: str, other: Other, what: str) -> None:
    database = Database(url)
    assert journal(database) == "wal"
    assert "is open in a Pixmill with a newer SQLite. This one has" in other.does(what)
    database.close()
    assert other.does(what) == "truncate"


@pytest.mark.skipif(not is_mixed(), reason="there are not two libraries here, one on each side of the fix")
@pytest.mark.parametrize("what", ["read", "write"])
def test_an_old_library_goes_when_a_new_one_comes(url: str, other: Other, what: str) -> None:
    assert other.does(what) == "truncate"
    database = Database(url)
    assert journal(database) == "wal"
    assert "Run all of Pixmill from one environment" in other.does(what)
    database.close()
