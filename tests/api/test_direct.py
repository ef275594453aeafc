"""The short way answers as the framework's does, and leaves to it whatever is wrong or unusual."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import Request
from fastapi.routing import iter_route_contexts
from starlette.responses import Response

from api.app import make_app
from api.direct import Direct, _calls, direct
from api.turns import InTurn
from store import jobs
from store.database import Database
from store.rows import NewItem, NewJob, NewRun
from tests.databases import ready
from tests.mixed_results import add_runs, mixed_job
from tests.serving import Served, threaded
from worker.settings import Settings

OF_A_REQUEST = ("date", "x-request-id", "ratelimit")  # headers that no two answers share
SHORT = {
    "/jobs/{job}",
    "/jobs/{job}/evaluation",
    "/jobs/{job}/facets",
    "/jobs/{job}/items",
    "/jobs/{job}/items/{idx}",
    "/jobs/{job}/results",
    "/jobs/{job}/summary",
    "/results",
    "/runs",
    "/runs/compare",
    "/runs/{run}",
    "/runs/{run}/calibration",
    "/runs/{run}/classes",
    "/runs/{run}/confusion",
    "/runs/{run}/epochs",
    "/runs/{run}/evaluation",
    "/runs/{run}/findings",
    "/runs/{run}/mistakes",
    "/runs/{run}/recipe",
}
PLAIN = [
    "/jobs/1/results",
    "/jobs/1/results?order=newest&limit=7",
    "/jobs/1/results?label=wren&wrong=true&min_score=0.25&max_score=1",
    "/jobs/1/results?glob=*%C3%BC*.jpg&corrected=false",
    "/jobs/1/results?path_prefix=a%2Fb+c&order=least_sure",
    "/jobs/1/results?label=",
    "/jobs/1/facets?status=ok&limit=1",
    "/jobs/1/items?pending=true",
    "/jobs/1/items/3",
    "/jobs/1/summary?classes=2",
    "/results?label=wren",
    "/runs?name=finches&limit=5",
    "/runs/1",
    "/runs/finches/epochs?limit=2",
    "/runs/1/recipe",
    "/runs/1/findings",
    "/runs/1/confusion",  # it has no evaluation
    "/runs/2/evaluation",
    "/runs/2/calibration",
    "/runs/2/classes?limit=2",
    "/runs/2/confusion",
    "/runs/2/mistakes?limit=2",
    "/runs/compare?a=2&b=3",
    "/runs/nobody",
    "/jobs/1/evaluation",
    "/results",  # a problem of the endpoint's own
    "/jobs/999",
    "/jobs/1/items/99999",
]
ODD = [
    "/jobs/zero",
    "/jobs/0",
    "/jobs/-1/results",
    "/jobs/9223372036854775808",
    "/jobs/+1/results",
    "/jobs/1/results?limit=0",
    "/jobs/1/results?limit=7.5",
    "/jobs/1/results?limit=",
    "/jobs/1/results?limit=7&limit=8",
    "/jobs/1/results?order=oldest",
    "/jobs/1/results?nobody=asked",
    "/runs?nobody=asked",
    "/jobs/1/results?min_score=nan",
    "/jobs/1/results?min_score=2&wrong=perhaps",
    "/jobs/1/results?label=a%00b",
    "/jobs/1/results?cursor=%20",
    "/jobs/1/items/-1",
    "/jobs/1/summary?classes=0",
    "/runs/compare?a=1",
    "/runs/%00",
    "/runs/1/epochs?limit=none",
    "/jobs?state=done&state=failed",
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = Settings(home=tmp_path_factory.mktemp("direct") / "home")
    database = Database(ready(settings.database))
    assert mixed_job(database, 60) == 1
    training = NewJob(None, root=b"/photos", kind="finetune", queue="train", run=NewRun("finches", {"mode": "head"}, 7))
    jobs.accept(database, training, (NewItem(b"%d.jpg" % n, label=("robin", "wren")[n % 2]) for n in range(6)))
    add_runs(settings.database, 1)
    database.close()
    with threaded(settings) as made:
        yield made


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each request that came to a short way, whether it was answered there."""
    noted: list[bool] = []
    real = Direct.answer

    async def answer(self: Direct, request: Request) -> Response | None:
        noted.append(False)
        found = await real(self, request)
        noted[-1] = found is not None
        return found

    monkeypatch.setattr(Direct, "answer", answer)
    return noted


def _parts(answer: httpx2.Response) -> tuple[int, dict[str, str], Any]:
    headers = {name: value for name, value in answer.headers.items() if name not in OF_A_REQUEST}
    body = answer.json()
    if answer.status_code >= 400:
        body.pop("request_id", None)
    return answer.status_code, headers, body


async def _nothing(_: Direct, __: Request) -> None:
    return None


def _both(served: Served, path: str, monkeypatch: pytest.MonkeyPatch, **sent: Any) -> tuple[Any, Any]:
    """What is answered as it is, and with the framework alone."""
    found = _parts(served.client.get(f"/api/v1{path}", **sent))
    with monkeypatch.context() as patch:
        patch.setattr(Direct, "answer", _nothing)
        return found, _parts(served.client.get(f"/api/v1{path}", **sent))


@pytest.mark.parametrize("path", PLAIN)
def test_a_plain_request_is_answered_the_same(
    served: Served, path: str, taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, wanted = _both(served, path, monkeypatch)
    assert found == wanted
    assert taken == [found[0] == 200]  # a problem that is raised on the way is no answer of it


@pytest.mark.parametrize("path", ODD)
def test_an_odd_one_is_left_to_the_framework(
    served: Served, path: str, taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, wanted = _both(served, path, monkeypatch)
    assert found == wanted
    assert True not in taken


@pytest.mark.parametrize(
    "header", ["", "Bearer", "bearer {token}", "Bearer  {token}", "Basic {token}", "Bearer x", "{token}"]
)
def test_who_is_not_known_hears_the_same(served: Served, header: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = {"Authorization": header.format(token=served.token)}
    found, wanted = _both(served, "/jobs/1/results", monkeypatch, headers=sent)
    assert found == wanted


def test_what_is_known_already_is_not_sent_again(
    served: Served, taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = served.client.get("/api/v1/jobs/1/results").headers["etag"]
    sent = {"If-None-Match": tag}
    answers = [served.client.get("/api/v1/jobs/1/results", headers=sent)]
    with monkeypatch.context() as patch:
        patch.setattr(Direct, "answer", _nothing)
        answers.append(served.client.get("/api/v1/jobs/1/results", headers=sent))
    assert {(answer.status_code, answer.headers["etag"], answer.content) for answer in answers} == {(304, tag, b"")}
    assert taken == [True, True]


def test_nothing_is_asked_of_a_short_way_s_route_from_outside(tmp_path: Path) -> None:
    """Dependencies of an inclusion are the framework's alone: what it solves must be what the route says."""
    app = make_app(Settings(home=tmp_path), roots=())
    seen = 0
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, InTurn) and direct(route):
            seen += 1
            assert not context.dependencies
            assert [*_calls(context.dependant)] == [*_calls(route.dependant)]
    app.state.context.close()
    assert seen >= len(SHORT)


def test_which_routes_have_a_short_way(tmp_path: Path) -> None:
    """A framework in which nothing is found any more would only be slow: nobody would see it."""
    app = make_app(Settings(home=tmp_path), roots=())
    routes = [(str(context.path), context.original_route) for context in iter_route_contexts(app.routes)]
    app.state.context.close()
    read = [(path, route) for path, route in routes if isinstance(route, InTurn) and "GET" in (route.methods or ())]
    assert {path.removeprefix("/api/v1") for path, route in read if direct(route)} == SHORT
