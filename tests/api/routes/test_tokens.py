"""Tokens over HTTP: made once, listed without secrets, revoked for good."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from starlette.testclient import TestClient

from store import tokens
from store.database import Database
from tests.serving import api_client
from worker.settings import Settings

WHERE = "/api/v1/tokens"


@pytest.fixture
def client(settings: Settings, store: Database) -> Iterator[TestClient]:
    with api_client(settings) as made:
        yield made


def as_(client: TestClient, secret: str, path: str = "/api/v1/whoami") -> int:
    return int(client.get(path, headers={"Authorization": f"Bearer {secret}"}).status_code)


def test_a_token_lives_from_post_to_delete(client: TestClient) -> None:
    made = client.post(WHERE, json={"name": "robot", "scope": "read", "expires_in_days": 1})
    assert made.status_code == 201
    body = made.json()
    assert (body["owner"], body["scopes"], body["revoked_at"]) == ("robot", ["read"], None)
    until = datetime.fromisoformat(body["expires_at"])
    assert timedelta(hours=23) < until - datetime.now(UTC) < timedelta(hours=25)
    assert as_(client, body["secret"]) == 200
    listed = {row["id"]: row for row in client.get(WHERE).json()["items"]}
    assert listed[body["id"]]["prefix"] == body["secret"].split("_")[1]
    assert body["secret"] not in client.get(WHERE).text
    assert client.delete(f"{WHERE}/{body['id']}").status_code == 204
    assert as_(client, body["secret"]) == 401
    assert client.delete(f"{WHERE}/{body['id']}").status_code == 404


def test_limits_of_a_token_go_before_the_servers(client: TestClient, settings: Settings) -> None:
    made = client.post(WHERE, json={"name": "n", "requests_per_minute": 0, "max_queued_items": 7}).json()
    limits = client.get("/api/v1/whoami", headers={"Authorization": f"Bearer {made['secret']}"}).json()["limits"]
    assert limits == {
        "requests_per_minute": None,
        "queued_items": 7,
        "upload_bytes": settings.limit_upload_mb << 20,
    }


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"name": ""},
        {"name": "x" * 65},
        {"name": "x", "scope": "root"},
        {"name": "x", "scopes": ["admin"]},
        {"name": "x", "expires_in_days": 0},
        {"name": "x", "expires_in_days": True},
        {"name": "x", "expires_in_days": "7"},
        {"name": "x", "expires_in_days": 1e12},
        {"name": "x", "requests_per_minute": 2**63},
        {"name": "x", "max_upload_bytes": 2**53},
        {"name": "x", "id": "mine"},
        {"name": "x", "secret": "mine"},
        {"name": 7},
    ],
)
def test_a_wish_that_cannot_be_is_refused(client: TestClient, wish: dict[str, object]) -> None:
    assert client.post(WHERE, json=wish).status_code == 422


@pytest.mark.parametrize("token", ["none", "0", "x" * 65, "%00", "..%2f", "a b", "é"])
def test_an_id_that_is_not_there_cannot_be_revoked(client: TestClient, token: str) -> None:
    assert client.delete(f"{WHERE}/{token}").status_code in (404, 422)


def test_only_administrators_see_and_make_tokens(client: TestClient, store: Database) -> None:
    for scope in ("read", "submit"):
        row, secret = tokens.create(store, name="n", owner="ann", scopes=(scope,))
        sent = {"Authorization": f"Bearer {secret}"}
        assert client.get(WHERE, headers=sent).status_code == 403
        assert client.post(WHERE, headers=sent, json={"name": "x", "scope": "admin"}).status_code == 403
        assert client.delete(f"{WHERE}/{row.id}", headers=sent).status_code == 403


def test_tokens_come_in_pages_the_oldest_first(client: TestClient, store: Database) -> None:
    for name in ("a", "b", "c"):
        tokens.create(store, name=name, owner="ann", scopes=("read",))
    whole = [row["name"] for row in client.get(WHERE).json()["items"]]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get(WHERE, params={"limit": 3, **cursor}).json()
        seen += [row["name"] for row in page["items"]]
        assert len(page["items"]) <= 3
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == whole
    assert seen[-3:] == ["a", "b", "c"]
    assert client.get(WHERE, params={"cursor": "x"}).json()["type"] == "/errors#bad-cursor"
