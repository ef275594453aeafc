"""The command line in this process, in a home of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.desk_local import LocalDesk
from store.database import Database
from tests.databases import ready
from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class Told:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object that it printed."""
        value: dict[str, Any] = json.loads(self.out)
        return value


Pixmill = Callable[..., Told]


@pytest.fixture
def pixmill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Pixmill:
    """Run a command in this process, with an empty home in `tmp_path`."""
    from cli.tree import run

    for name in ("PIXMILL_DATABASE_URL", "PIXMILL_BROKER_URL", "PIXMILL_COMMAND", "PIXMILL_SERVER", "PIXMILL_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIXMILL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Told:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Told(code, captured.out, captured.err)

    return call


@pytest.fixture
def home_database(tmp_path: Path) -> Iterator[Database]:
    """The database of that home."""
    database = Database(ready(f"sqlite:///{tmp_path}/home/pixmill.db"))
    yield database
    database.close()


@pytest.fixture
def desk(home_database: Database, tmp_path: Path) -> Iterator[LocalDesk]:
    """The desk of that home."""
    with LocalDesk(Settings(home=tmp_path / "home", database_url=None)) as desk:
        yield desk
