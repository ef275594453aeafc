"""A PostgreSQL that stands still: requests end as 503, the process stays well, and all is as before when it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.freezing import Freezer
from tests.running import eventually
from tests.serving import Served, threaded
from worker.settings import Settings

TOLD_S = 30.0  # docs/errors.md says 15; a busy machine takes longer, and what hangs takes for ever
AT_ONCE = 60  # more than there are threads


@pytest.fixture
def server(freezable: Freezer) -> Iterator[Freezer]:
    yield freezable
    freezable.thaw()


@pytest.fixture
def served(server: Freezer, tmp_path: Path) -> Iterator[Served]:
    url = server.new_database()
    settings = Settings(home=tmp_path / "home", database_url=url, broker_url="redis://127.0.0.1:1/0")
    with threaded(settings, [tmp_path]) as made:
        yield made


def asked(served: Served, method: str, path: str, **more: object) -> tuple[int, str, float]:
    """The status, the kind of problem, and how long it took."""
    before = time.monotonic()
    answer = served.client.request(method, path, **more)  # type: ignore[arg-type]  # passed on
    return answer.status_code, str(answer.json().get("type", "")), time.monotonic() - before


def test_every_request_is_told_instead_of_left_to_wait(served: Served, server: Freezer, tmp_path: Path) -> None:
    requests: list[tuple[str, str, dict[str, object]]] = [
        ("GET", "/api/v1/jobs", {}),
        ("GET", "/api/v1/jobs/1", {}),
        ("GET", "/api/v1/jobs/1/results", {}),
        ("GET", "/api/v1/workers", {}),
        ("POST", "/api/v1/jobs", {"json": {"kind": "classify", "source": {"folder": str(tmp_path)}}}),
        ("POST", "/api/v1/jobs/1/pause", {}),
        ("POST", "/api/v1/sql", {"json": {"query": "SELECT 1"}}),
        ("POST", "/api/v1/uploads", {"json": {}}),
    ]
    assert asked(served, "GET", "/api/v1/jobs")[0] == 200
    server.freeze()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        many = [requests[n % len(requests)] for n in range(AT_ONCE)]
        told = list(pool.map(lambda one: asked(served, one[0], one[1], **one[2]), many))
    assert {(status, kind) for status, kind, _ in told} == {(503, "/errors#database-unavailable")}, told
    assert max(seconds for *_, seconds in told) < TOLD_S, told
    assert served.client.get("/livez").status_code == 200
    assert served.client.get("/readyz").status_code == 503
    server.thaw()
    eventually(lambda: asked(served, "GET", "/api/v1/jobs")[0] == 200)
    assert asked(served, "GET", "/api/v1/jobs/1")[0] == 404
