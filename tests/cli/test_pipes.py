"""A reader that has enough, as `head` does, ends a command in peace."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from store.database import Database
from tests.databases import ready
from tests.mixed_results import mixed_job
from tests.running import Home

READERS_WHO_LEAVE = (
    ("results", "1"),
    ("results", "1", "--json"),
    ("results", "1", "--format", "csv"),
    ("jobs", "show", "1"),
    ("sql", "SELECT * FROM v_results", "--json"),
    ("models", "presets"),
    ("doctor",),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    path = tmp_path_factory.mktemp("pipes")
    database = Database(ready(f"sqlite:///{path}/pixmill.db"))
    mixed_job(database, 400)
    database.close()
    return Home(path, {"PIXMILL_ENGINE": "fake"})


def ended(home: Home, command: tuple[str, ...], closed: str, said: Path) -> int:
    """Run a command whose stdout or stderr is a pipe that nobody reads: the first write finds that out."""
    reading, writing = os.pipe()
    os.close(reading)
    with said.open("wb") as other, os.fdopen(writing, "wb") as broken:
        out, err = (broken, other) if closed == "stdout" else (other, broken)
        words = home.command(*command)
        return subprocess.run(
            words, env=home.env(), cwd=home.path, stdout=out, stderr=err, timeout=120, check=False
        ).returncode


@pytest.mark.parametrize("command", READERS_WHO_LEAVE, ids=" ".join)
def test_a_reader_that_leaves_is_no_error(home: Home, tmp_path: Path, command: tuple[str, ...]) -> None:
    assert ended(home, command, "stdout", tmp_path / "said") == 0
    said = (tmp_path / "said").read_text()
    assert "Traceback" not in said
    assert "rror" not in said


def test_a_message_that_nobody_reads_ends_a_command_as_a_broken_pipe_does(home: Home, tmp_path: Path) -> None:
    assert ended(home, ("jobs", "show", "99"), "stderr", tmp_path / "said") == 141
    assert (tmp_path / "said").read_text() == ""


def test_what_is_read_is_whole(home: Home) -> None:
    rows = [json.loads(line) for line in home.run("results", "1", "--json").stdout.splitlines()]
    assert len(rows) == 400
