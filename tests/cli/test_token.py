"""`pixmill token`: the secret is printed once, and what it may do is what was asked for."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import pytest

from cli.errors import CommandError
from cli.token import seconds
from store import tokens
from store.database import Database
from tests.serving import Served, threaded
from worker.settings import Settings


class Told(Protocol):
    """What tests/cli/conftest.py's `pixmill` answers."""

    @property
    def code(self) -> int: ...
    @property
    def out(self) -> str: ...
    @property
    def err(self) -> str: ...
    @property
    def json(self) -> dict[str, Any]: ...


Pixmill = Callable[..., Told]


def test_a_token_is_made_listed_and_revoked(pixmill: Pixmill) -> None:
    made = pixmill("token", "create", "robot", "--scope", "read", "--expires", "90d")
    assert made.code == 0, made.err
    assert re.fullmatch(r"pxm_[a-z0-9]{8}_[A-Za-z0-9_-]{43}\n", made.out)
    database = Database(Settings().database)
    row = tokens.find(database, made.out.strip())
    assert row
    assert (row.name, row.owner, row.scopes) == ("robot", "robot", ("read",))
    assert row.expires_at
    assert abs(row.expires_at - time.time() - 90 * 86_400) < 60
    listed = pixmill("token", "list")
    assert "robot" in listed.out
    assert made.out.strip() not in listed.out
    assert pixmill("token", "revoke", "robot").code == 0
    row = tokens.find(database, made.out.strip())
    assert row
    assert row.is_revoked
    again = pixmill("token", "revoke", "robot")
    assert (again.code, "No token" in again.err) == (4, True)
    database.close()


def test_json_holds_the_secret_and_the_record(pixmill: Pixmill) -> None:
    made = pixmill("token", "create", "robot", "--owner", "ann", "--json").json
    assert (made["owner"], made["scopes"]) == ("ann", ["submit"])
    assert str(made["secret"]).startswith(f"pxm_{made['prefix']}_")
    assert "secret" not in pixmill("token", "list", "--json").out


def test_a_name_that_two_have_revokes_neither(pixmill: Pixmill) -> None:
    pixmill("token", "create", "robot")
    pixmill("token", "create", "robot")
    refused = pixmill("token", "revoke", "robot")
    assert (refused.code, "Several" in refused.err) == (4, True)


@pytest.mark.parametrize(
    "wrong",
    [
        ("create", "x", "--scope", "root"),
        ("create", "x", "--expires", "tomorrow"),
        ("create", ""),
        ("create", "x" * 65),
        ("create", "a\nb"),
    ],
)
def test_what_cannot_be_is_said_and_no_token_is_made(pixmill: Pixmill, wrong: tuple[str, ...]) -> None:
    pixmill("db", "upgrade")
    assert pixmill("token", *wrong).code == 2
    assert "pxm_" not in pixmill("token", "list").out


@pytest.mark.parametrize(("text", "wanted"), [("90d", 7_776_000), ("12h", 43_200), ("30m", 1800), ("4W", 2_419_200)])
def test_durations_are_read(text: str, wanted: float) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "d", "0d", "1y", "1.5d", "-1d", "1 d", "999999d"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(CommandError, match="90d"):
        seconds(text)


@pytest.fixture
def served(pixmill: Pixmill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server with a home of its own; the command line speaks with it as its admin."""
    with threaded(Settings(home=tmp_path / "server")) as made:
        monkeypatch.setenv("PIXMILL_SERVER", made.url)
        monkeypatch.setenv("PIXMILL_TOKEN", made.token)
        yield made


def test_over_a_server_tokens_are_those_of_the_server(pixmill: Pixmill, served: Served, tmp_path: Path) -> None:
    made = pixmill("token", "create", "robot", "--scope", "read", "--expires", "36h")
    assert made.code == 0, made.err
    robot = {"Authorization": f"Bearer {made.out.strip()}"}
    known = served.client.get(f"{served.api}/whoami", headers=robot).json()
    assert (known["owner"], known["scopes"]) == ("robot", ["read"])
    (row,) = [token for token in json.loads(pixmill("token", "list", "--json").out) if token["name"] == "robot"]
    assert (row["scopes"], row["revoked_at"]) == (["read"], None)
    good_s = datetime.fromisoformat(row["expires_at"]).timestamp() - time.time()
    assert abs(good_s - 36 * 3600) < 60
    assert "robot" in pixmill("token", "list").out
    assert pixmill("token", "revoke", "robot").code == 0
    assert served.client.get(f"{served.api}/whoami", headers=robot).status_code == 401
    assert not (tmp_path / "home" / "pixmill.db").exists()


def test_only_an_admin_of_the_server_has_its_tokens(
    pixmill: Pixmill, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXMILL_TOKEN", served.token_for("ann", "read", "submit"))
    for words in (("create", "robot"), ("list",), ("revoke", "robot")):
        refused = pixmill("token", *words)
        assert (refused.code, refused.out) == (5, ""), refused.err
        assert "admin" in refused.err
