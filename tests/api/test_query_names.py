"""Whatever stands behind the question mark is known to the route, or the request is refused: on every route."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

from api.app import PREFIX, make_app
from tests.api.conftest import AcceptJob
from tests.running import write_images
from tests.serving import api_client
from worker.settings import Settings


def routes() -> list[tuple[str, str]]:
    """Method and path of every operation below the prefix."""
    return [
        (method, path)
        for route in iter_route_contexts(make_app(Settings()).routes)
        if (path := route.path or "").startswith(PREFIX)
        for method in sorted(route.methods or ())
        if method != "HEAD"
    ]


@pytest.fixture
def client(settings: Settings, tmp_path: Path) -> Iterator[TestClient]:
    with api_client(settings, [tmp_path]) as made:
        yield made


def places(answer: Any) -> list[str]:
    return [error["at"] for error in answer.json()["errors"]]


def test_every_route_refuses_a_name_that_it_does_not_know(client: TestClient) -> None:
    asked = routes()
    assert len(asked) > 60
    for method, path in asked:
        address = re.sub(r"\{[^}]*\}", "1", path)
        answer = client.request(method, f"{address}?nobody=asked&nobody=again&twice")
        assert answer.status_code == 422, (method, path, answer.text)
        assert answer.json()["type"].endswith("#invalid"), (method, path, answer.text)
        assert places(answer) == ["query.nobody", "query.twice"], (method, path, answer.text)


def test_a_name_that_is_nearly_right_begins_no_job(client: TestClient, accept_job: AcceptJob, tmp_path: Path) -> None:
    accept_job(1)  # its model is the only one
    write_images(tmp_path / "photos", 2)
    body = {"kind": "classify", "source": {"folder": str(tmp_path / "photos")}}
    refused = client.post("/api/v1/jobs?dryrun=true", json=body)
    assert (refused.status_code, places(refused)) == (422, ["query.dryrun"])
    assert len(client.get("/api/v1/jobs").json()["items"]) == 1


def test_who_asks_comes_before_what(client: TestClient) -> None:
    assert client.get("/api/v1/jobs?nobody=asked", headers={"Authorization": "Bearer x"}).status_code == 401


def test_a_probe_may_add_what_it_likes(client: TestClient) -> None:
    assert client.get("/livez?nobody=asked").status_code == 200
