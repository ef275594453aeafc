"""A machine starts its programs in any order: what stays waits for a database server that is just coming up."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from cli.context import COMING_UP_S, when_up
from store import schema
from store.database import Database
from store.errors import DatabaseUnavailable, SchemaMismatch
from tests.chaos.proxy import Proxy
from tests.freezing import Freezer
from tests.running import Home, eventually, fake_model
from tests.servers import new_postgres_database

UNREACHABLE = "postgresql+psycopg://nobody@127.0.0.1:9/none"
STAYING = {
    "worker": ("Ready: 1 worker", ("worker", "--devices", "cpu", "--queues", "classify")),
    "api": ("Pixmill answers at", ("api", "--port", "0")),
    "up": ("Pixmill is up at", ("up", "--port", "0", "--devices", "cpu", "--queues", "classify")),
}


@contextmanager
def started(home: Home, log: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program whose words can be read while it runs; told to end in the end."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            home.command(*arguments), env=home.env(), cwd=home.path, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("name", STAYING)
def test_a_program_that_stays_waits_for_a_database_that_comes_late(
    home: Home, tmp_path: Path, freezable: Freezer, name: str
) -> None:
    ready, command = STAYING[name]
    log = tmp_path / "said"
    fake_model(home.path)
    with Proxy(freezable.socket) as proxy:
        address = make_url(new_postgres_database(freezable.url)).difference_update_query(["host"])
        seen = address.set(host="127.0.0.1", port=proxy.port, username="postgres")
        home.environment["PIXMILL_DATABASE_URL"] = seen.render_as_string(hide_password=False)
        proxy.refuse()
        with started(home, log, *command) as process:
            eventually(lambda: "It may be starting" in log.read_text(), 30, "the wait")
            assert process.poll() is None
            proxy.heal()
            eventually(lambda: ready in log.read_text(), 60, "the start")
        assert process.returncode in (0, -15), log.read_text()
    assert log.read_text().count("It may be starting") == 1


def test_the_wait_has_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    database = Database(UNREACHABLE)
    with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
        when_up(database, schema.check, 1.0)
    assert ". It may be starting: asking again for 1 s." in " ".join(capsys.readouterr().err.split())


def test_what_waiting_cannot_mend_is_told_at_once(tmp_path: Path) -> None:
    """A SQLite file that is no database, and tables that are not there."""
    (tmp_path / "pixmill.db").write_text("this is not a database" * 100)
    for path, expected in ((tmp_path / "pixmill.db", DatabaseUnavailable), (tmp_path / "empty.db", SchemaMismatch)):
        with pytest.raises(expected):
            when_up(Database(f"sqlite:///{path}"), schema.check, 10 * COMING_UP_S)


def test_a_command_of_a_person_does_not_wait(home: Home) -> None:
    home.environment["PIXMILL_DATABASE_URL"] = UNREACHABLE
    assert "It may be starting" not in home.run("jobs", "list", code=3).stderr
