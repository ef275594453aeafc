"""Every operation of the description, asked without a token, with too small a one, and for what is another owner's.

The list is the description itself, so that an operation which is new is asked too, or fails here until it is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from api.access import SCOPES
from api.openapi import METHODS, SNAPSHOT
from api.webhooks.signing import new_secret
from store import hooks, uploads
from store.database import Database
from tests.cli.histories import History, finished_run
from tests.mixed_results import mixed_job
from tests.serving import api_client, new_token
from worker.settings import Settings

OPEN = {"live", "ready"}  # for whoever watches a server
LOCAL = {"metrics"}  # for this machine without a token
OWNED = {"job", "run", "upload", "webhook"}  # what a path names that belongs to somebody
SHARED = {"name", "version", "alias", "token", "idx", "form"}  # the installation's, or a part of what is owned
PATH = {"idx": "1", "form": "csv", "name": "a.jpg", "version": "1", "alias": "production", "token": "1"}
NOWHERE = "https://127.0.0.1/hook"  # nothing is sent there: private addresses are not allowed
# What an operation needs beside its path, to be refused for its owner alone.
BODIES: dict[str, Any] = {
    "changeJob": {"priority": 3},
    "change_webhook": {"active": False},
    "set_label": {"label": "owl"},
    "record_evaluation": {},
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One entry of the description."""

    id: str
    method: str
    path: str
    scope: str | None
    has_body: bool

    @property
    def names(self) -> set[str]:
        """What its path leaves open."""
        return set(re.findall(r"{(\w+)}", self.path))

    def ask(self, client: TestClient, token: str | None, values: Mapping[str, str]) -> Any:
        """Its answer to a request that names these things."""
        path = re.sub(r"{(\w+)}", lambda found: values[found[1]], self.path)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        if self.id == "putUploadFile":
            return client.request(self.method, path, content=b"x", headers=headers)
        body = {"json": BODIES.get(self.id, {})} if self.has_body else {}
        return client.request(self.method, path, headers=headers, **body)


def operations() -> Iterator[Operation]:
    """All of them; what removes a thing comes last."""
    found = []
    for path, entries in json.loads(SNAPSHOT.read_text(encoding="utf-8"))["paths"].items():
        for method in (one for one in METHODS if one in entries):
            said = entries[method]
            scopes = [scope for entry in said.get("security", ()) for scope in entry.get("token", ())]
            assert len(scopes) <= 1, path
            scope = scopes[0] if scopes else None
            found.append(Operation(said["operationId"], method.upper(), path, scope, "requestBody" in said))
    yield from sorted(found, key=lambda one: (one.method == "DELETE", -len(one.path) if one.method == "DELETE" else 0))


ALL = tuple(operations())
GUARDED = tuple(one for one in ALL if one.id not in OPEN | LOCAL)
OWNERS = tuple(one for one in GUARDED if one.names & OWNED)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("every") / "home", limit_requests_per_minute=0)


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[TestClient]:
    with api_client(settings) as running:
        del running.headers["Authorization"]
        yield running


@pytest.fixture(scope="module")
def things(settings: Settings, client: TestClient) -> dict[str, str]:
    """What belongs to Bob, one of each kind, by its name in a path."""
    database = Database(settings.database)
    run = finished_run(database, History())
    made = {"job": str(mixed_job(database, 30, owner="bob")), "run": str(run.id)}
    with database.write() as connection:
        for table in ("jobs", "runs"):
            connection.execute(text(f"UPDATE {table} SET owner = 'bob'"))
    made["upload"] = uploads.create(database, "bob").id
    made["webhook"] = hooks.create(database, owner="bob", url=NOWHERE, secret=new_secret()).id
    database.close()
    return {**PATH, **made}


@pytest.fixture(scope="module")
def secrets(settings: Settings, client: TestClient) -> dict[str, str]:
    """Tokens by owner and highest scope."""
    held = {"ann": ("read", "submit"), "bob": ("submit",)}
    return {
        f"{owner} {scope}": new_token(settings.database, owner, (scope,))
        for owner, scopes in held.items()
        for scope in scopes
    }


def test_every_operation_says_its_scope() -> None:
    assert {one.id for one in ALL if one.scope is None} == OPEN | LOCAL
    assert {one.scope for one in GUARDED} == set(SCOPES)
    assert {name for one in ALL for name in one.names} == OWNED | SHARED
    assert len(GUARDED) > 60


@pytest.mark.parametrize("operation", GUARDED, ids=lambda one: one.id)
def test_without_a_token_nothing_is_answered(client: TestClient, things: dict[str, str], operation: Operation) -> None:
    answer = operation.ask(client, None, things)
    assert (answer.status_code, answer.json()["type"]) == (401, "/errors#unauthorized")


@pytest.mark.parametrize("operation", GUARDED, ids=lambda one: one.id)
def test_a_smaller_scope_is_refused_and_the_needed_one_named(
    client: TestClient, things: dict[str, str], secrets: dict[str, str], operation: Operation
) -> None:
    """The smallest scope, read, is enough for what only reads."""
    smaller = {"read": "read", "submit": "read", "admin": "submit"}[str(operation.scope)]
    answer = operation.ask(client, secrets[f"ann {smaller}"], things)
    if smaller == operation.scope:
        assert answer.status_code not in (401, 403), answer.text
        return
    told = answer.json()
    assert (answer.status_code, told["type"], told["scope"]) == (403, "/errors#forbidden", operation.scope)


@pytest.mark.parametrize("operation", OWNERS, ids=lambda one: one.id)
def test_what_is_anothers_is_as_if_it_were_not_there(
    client: TestClient, things: dict[str, str], secrets: dict[str, str], operation: Operation
) -> None:
    """As one that never was; Bob himself is answered otherwise, so it is for no other reason."""
    (owned,) = operation.names & OWNED
    never = "9" * len(things[owned])
    told = []
    for token, name in (("ann submit", things[owned]), ("ann submit", never), ("bob submit", things[owned])):
        answer = operation.ask(client, secrets[token], {**things, owned: name})
        told.append((answer.status_code, re.sub(rf"\b{name}\b", "N", answer.text) if answer.status_code == 404 else ""))
    anothers, nobodys, own = ((status, re.sub(r'"request_id": "\w+"', "", words)) for status, words in told)
    assert anothers[0] == 404
    assert anothers == nobodys
    assert own != anothers
