"""Reads that come several at once are answered by processes of their own, alike to the last byte."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from api.app import make_reading_app
from api.readers.route import Read
from store import tokens
from store.database import Database
from tests.databases import ready
from tests.mixed_results import mixed_job
from tests.running import Home, eventually
from tests.serving import Served, serving
from worker.settings import Settings

JOB = "/api/v1/jobs/1"
PATHS = (
    f"{JOB}/results",
    f"{JOB}/results?order=least_sure&limit=7",
    f"{JOB}/results?status=failed&limit=3",
    f"{JOB}/results?path_prefix=%2F",
    f"{JOB}/results?limit=nonsense",
    f"{JOB}/results?cursor=nonsense",
    f"{JOB}/facets",
    f"{JOB}/facets?label=robin",
    f"{JOB}/items?limit=5",
    f"{JOB}/items/3",
    f"{JOB}/items/999999",
    "/api/v1/jobs/77/results",
    "/api/v1/results?label=robin",
    "/api/v1/results",
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a job of many kinds of results."""
    from store.database import Database

    home = Home(tmp_path_factory.mktemp("readers") / "home")
    database = Database(ready(f"sqlite:///{home.path}/pixmill.db"))
    assert mixed_job(database, 300) == 1
    database.close()
    with serving(home) as server:
        yield server


def readers(served: Served) -> list[psutil.Process]:
    return [one for one in served.home.processes() if "api.readers" in one.cmdline()]


def ask(served: Served, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    answer = served.client.get(path, headers={"X-Request-ID": "same", **headers})
    left_out = ("date", "x-ratelimit", "ratelimit")
    return answer.status_code, answer.content, {k: v for k, v in answer.headers.items() if not k.startswith(left_out)}


def crowd(served: Served) -> None:
    """Ask several times at once until there are readers."""
    with ThreadPoolExecutor(8) as pool:

        def are_there() -> bool:
            list(pool.map(lambda _: ask(served, PATHS[0]), range(16)))
            return len(readers(served)) == 2

        eventually(are_there, 60, "two readers")
        # They are asked once both are ready: an answer of theirs is one for which their processor time grew.
        eventually(lambda: _worked(served, pool), 60, "a reader's answer")


def _worked(served: Served, pool: ThreadPoolExecutor) -> bool:
    before = sum(sum(one.cpu_times()[:2]) for one in readers(served))
    list(pool.map(lambda _: ask(served, PATHS[1]), range(32)))
    return sum(sum(one.cpu_times()[:2]) for one in readers(served)) > before + 0.02


def test_one_read_after_the_other_starts_no_process(served: Served) -> None:
    for path in PATHS:
        ask(served, path)
    assert readers(served) == []


def test_readers_answer_as_the_api_itself_does_to_the_last_byte(served: Served) -> None:
    alone = {path: ask(served, path) for path in PATHS}
    assert {status for status, _, _ in alone.values()} == {200, 404, 422}
    crowd(served)
    tag = alone[PATHS[0]][2]["etag"]
    with ThreadPoolExecutor(8) as pool:
        for path, answer in zip(PATHS * 3, pool.map(lambda path: ask(served, path), PATHS * 3), strict=True):
            assert answer == alone[path], path
        assert {ask(served, PATHS[0], **{"If-None-Match": tag})[0] for _ in range(4)} == {304}


def test_access_is_decided_before_a_reader_is_asked(served: Served) -> None:
    crowd(served)
    other = served.token_for("ann", "read")
    with httpx2.Client(base_url=served.url) as client:
        assert client.get(PATHS[0]).status_code == 401
        assert client.get(PATHS[0], headers={"Authorization": "Bearer pxm_nonsense"}).status_code == 401
        assert client.get(PATHS[0], headers={"Authorization": f"Bearer {other}"}).status_code == 404
    secret = _token(served, tokens.TokenLimits(requests_per_minute=3))
    with httpx2.Client(base_url=served.url, headers={"Authorization": f"Bearer {secret}"}) as client:
        assert [client.get("/api/v1/results?label=robin").status_code for _ in range(5)] == [200, 200, 200, 429, 429]


def _token(served: Served, limits: tokens.TokenLimits) -> str:
    database = Database(f"sqlite:///{served.home.path}/pixmill.db")
    try:
        return tokens.create(database, name="few", owner="bob", scopes=("read",), limits=limits)[1]
    finally:
        database.close()


def test_a_reader_that_dies_costs_no_answer(served: Served) -> None:
    crowd(served)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, served, PATHS[0]) for _ in range(60)]
        for one in readers(served):
            one.kill()
        assert {answer.result()[0] for answer in asked} == {200}
    crowd(served)


def test_nothing_is_left_of_them_when_the_api_ends(served: Served) -> None:
    crowd(served)
    children = readers(served)
    assert served.process
    served.process.kill()  # not even asked to end
    served.process.wait()
    eventually(lambda: not any(one.is_running() for one in children), 20, "the end of the readers")


def test_the_routes_that_readers_answer_only_read(tmp_path: Path) -> None:
    app: FastAPI = make_reading_app(Settings(home=tmp_path))
    found = {route.path: route for route in iter_route_contexts(app.routes)}
    assert {f"/api/v1/jobs/{{job}}/{what}" for what in ("results", "facets", "items")} <= set(found)
    assert all(isinstance(route.original_route, Read) and route.methods == {"GET"} for route in found.values())
