"""Webhooks over HTTP: made, shown, changed, tested and removed, by their owner alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.webhooks.signing import new_secret
from store.database import Database
from store.events import KINDS
from tests.api.conftest import AcceptJob
from tests.api.webhooks.receiver import Receiver, receiving
from tests.running import eventually
from tests.serving import api_client, new_token
from worker.settings import Settings

HOOKS = "/api/v1/webhooks"
URL = "https://93.184.215.14/hook"


@pytest.fixture
def client(settings: Settings, store: Database) -> Iterator[TestClient]:
    with api_client(settings) as running:
        yield running


def bearer(settings: Settings, owner: str, *scopes: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {new_token(settings.database, owner, scopes)}"}


def make(client: TestClient, headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
    answer = client.post(HOOKS, json={"url": URL, **body}, headers=headers)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"{HOOKS}/{found['id']}"
    return found


def test_a_webhook_shows_its_secret_once(client: TestClient) -> None:
    made = make(client, events=["done", "failed"])
    assert made["secret"].startswith("whsec_")
    assert made["events"] == ["done", "failed"]
    shown = client.get(f"{HOOKS}/{made['id']}").json()
    assert shown == {**made, "secret": None}
    assert client.get(HOOKS).json() == {"items": [shown], "next": None}


def test_an_own_secret_is_taken_if_it_is_one(client: TestClient) -> None:
    secret = new_secret()
    assert make(client, secret=secret)["secret"] == secret
    for wrong in ("whsec_AAAA", "secret", ""):
        answer = client.post(HOOKS, json={"url": URL, "secret": wrong})
        assert (answer.status_code, answer.json()["type"]) == (422, "/errors#webhook-refused")


@pytest.mark.parametrize(
    "url",
    ["http://93.184.215.14/", "https://127.0.0.1/", "https://localhost/", "https://169.254.169.254/latest", "https://[::1]/",
     "https://2130706433/", "https://a:b@93.184.215.14/", "https://93.184.215.14:22/", "file:///etc/passwd", "x"],
)  # fmt: skip
def test_a_url_that_may_not_be_called_is_refused_when_it_is_made_and_when_it_is_changed(
    client: TestClient, url: str
) -> None:
    made = make(client)
    for answer in (client.post(HOOKS, json={"url": url}), client.patch(f"{HOOKS}/{made['id']}", json={"url": url})):
        assert (answer.status_code, answer.json()["type"]) == (422, "/errors#webhook-refused")
    assert client.get(f"{HOOKS}/{made['id']}").json()["url"] == URL


@pytest.mark.parametrize(
    "body",
    [{}, {"url": 7}, {"url": ""}, {"url": "a" * 3000}, {"url": URL, "events": ["finished"]},
     {"url": URL, "events": "done"}, {"url": URL, "owner": "ann"}, {"url": URL, "active": False}, {"url": "https://a\0.example/"},
     {"url": "https://\ud800/"}, {"url": URL, "events": ["done"] * 100}],
)  # fmt: skip
def test_a_body_of_another_form_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    answer = client.post(HOOKS, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_webhook_is_changed_in_what_is_named_alone(client: TestClient) -> None:
    made = make(client, events=["done"])
    path = f"{HOOKS}/{made['id']}"
    assert client.patch(path, json={"active": False}).json() == {**made, "active": False, "secret": None}
    assert client.patch(path, json={"events": []}).json()["events"] == []
    changed = client.patch(path, json={"new_secret": True, "active": True}).json()
    assert changed["secret"].startswith("whsec_")
    assert changed["secret"] != made["secret"]
    assert client.get(path).json()["secret"] is None


def test_a_removed_webhook_is_gone(client: TestClient) -> None:
    path = f"{HOOKS}/{make(client)['id']}"
    assert client.delete(path).status_code == 204
    for answer in (client.get(path), client.delete(path), client.patch(path, json={}), client.post(f"{path}/test")):
        assert (answer.status_code, answer.json()["type"]) == (404, "/errors#not-found")


def test_another_owners_webhook_is_not_there(client: TestClient, settings: Settings) -> None:
    ann, bob = bearer(settings, "ann", "submit"), bearer(settings, "bob", "submit")
    made = make(client, headers=ann)
    path = f"{HOOKS}/{made['id']}"
    assert client.get(HOOKS, headers=bob).json()["items"] == []
    asked = [
        client.get(path, headers=bob),
        client.patch(path, json={"active": False}, headers=bob),
        client.delete(path, headers=bob),
        client.post(f"{path}/test", headers=bob),
        client.get(f"{path}/deliveries", headers=bob),
    ]
    assert [answer.status_code for answer in asked] == [404] * 5
    assert client.get(path, headers=ann).json()["active"] is True
    assert [row["id"] for row in client.get(HOOKS).json()["items"]] == [made["id"]]  # an administrator sees all


def test_a_reader_changes_nothing(client: TestClient, settings: Settings) -> None:
    reader = bearer(settings, "", "read")
    path = f"{HOOKS}/{make(client)['id']}"
    assert client.get(path, headers=reader).status_code == 200
    asked = [
        client.post(HOOKS, json={"url": URL}, headers=reader),
        client.patch(path, json={"active": False}, headers=reader),
        client.delete(path, headers=reader),
        client.post(f"{path}/test", headers=reader),
    ]
    assert [answer.status_code for answer in asked] == [403] * 4


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def test_a_test_call_and_a_jobs_events_arrive_and_are_logged_page_by_page(
    settings: Settings, accept_job: AcceptJob, receiver: Receiver
) -> None:
    with api_client(settings.model_copy(update={"allow_private_webhooks": True})) as client:
        made = make(client, url=receiver.url)
        path = f"{HOOKS}/{made['id']}"
        queued = client.post(f"{path}/test")
        assert queued.status_code == 202
        assert queued.json()["state"] == "due"
        (call,) = receiver.wait(1)
        call.verify(made["secret"])
        assert call.content == {**call.content, "type": "webhook.test", "data": {"webhook": made["id"]}}
        for _ in range(4):
            accept_job(1)
        receiver.wait(5)

        def log() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            url: str | None = f"{path}/deliveries?limit=2"
            while url is not None:
                page = client.get(url)
                found += page.json()["items"]
                url = page.links["next"]["url"] if page.json()["next"] else None
            return found

        eventually(lambda: {row["state"] for row in log()} == {"sent"}, what="all are settled")
        rows = log()
        assert [row["kind"] for row in rows] == ["job.accepted"] * 4 + ["webhook.test"]
        assert {row["message_id"] for row in rows} == set(receiver.ids())
        assert {(row["status"], row["attempts"], row["error"], row["next_attempt_at"]) for row in rows} == {
            (204, 1, None, None)
        }
        other = make(client, url=receiver.url)
        cursor = client.get(f"{path}/deliveries?limit=2").json()["next"]
        wrong = client.get(f"{HOOKS}/{other['id']}/deliveries", params={"cursor": cursor})
        assert (wrong.status_code, wrong.json()["type"]) == (422, "/errors#bad-cursor")


def test_webhooks_come_in_pages_an_administrators_of_all_owners(client: TestClient, settings: Settings) -> None:
    ann, ben = (bearer(settings, owner, "read", "submit") for owner in ("ann", "ben"))
    made = [make(client, headers=headers)["id"] for headers in (ann, ben, ann, ben, ann)]

    def walk(headers: dict[str, str]) -> list[str]:
        found: list[str] = []
        url: str | None = f"{HOOKS}?limit=2"
        while url is not None:
            page = client.get(url, headers=headers)
            assert len(page.json()["items"]) <= 2
            found += [row["id"] for row in page.json()["items"]]
            url = page.links["next"]["url"] if page.json()["next"] else None
        return found

    assert walk({}) == made
    assert walk(ann) == made[::2]
    cursor = client.get(f"{HOOKS}?limit=2", headers=ann).json()["next"]
    assert client.get(HOOKS, params={"cursor": cursor}, headers=ben).json()["type"] == "/errors#bad-cursor"


def test_one_that_is_switched_off_is_not_tested(client: TestClient) -> None:
    path = f"{HOOKS}/{make(client)['id']}"
    client.patch(path, json={"active": False})
    assert client.post(f"{path}/test").json()["type"] == "/errors#illegal-move"


def test_the_events_that_may_be_named_are_those_that_there_are(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()["components"]["schemas"]["NewWebhook"]
    assert schema["properties"]["events"]["items"]["enum"] == list(KINDS)


def test_an_owner_has_so_many_webhooks_and_no_more(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.routes.webhooks.MOST_WEBHOOKS", 2)
    make(client)
    make(client)
    answer = client.post(HOOKS, json={"url": URL})
    assert (answer.status_code, answer.json()["type"]) == (409, "/errors#conflict")
