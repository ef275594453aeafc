"""The limit of images that may wait: kept one after the other, and by jobs that come at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from store import scanning
from tests.api.submission.conftest import JOBS, Ask, few

Rows = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """A limit is the same on both databases: SQLite's is quicker made."""
    return f"sqlite:///{tmp_path}/pixmill.db"


def test_a_limit_of_queued_images_is_kept(
    client: TestClient, photos: Path, rows: Rows, settings: Any, bearer: Callable[..., dict[str, str]]
) -> None:
    headers = few(settings, 7)
    body = {"kind": "classify", "source": {"folder": str(photos)}}
    assert client.post(JOBS, json=body, headers=headers).status_code == 202
    refused = client.post(JOBS, json=body, headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (429, "/errors#queue-full")
    assert refused.headers["retry-after"]
    assert len(rows("SELECT id FROM jobs")) == 1


def test_a_limit_of_queued_images_is_kept_by_jobs_that_come_at_once(
    client: TestClient, submit: Ask, rows: Rows, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, fill, headers = threading.Barrier(3), scanning.fill, few(settings, 7)

    def late(*arguments: Any, **options: Any) -> None:
        together.wait(60)  # all three were let in, as nothing waited
        fill(*arguments, **options)

    monkeypatch.setattr(scanning, "fill", late)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: submit(headers=headers), range(3)))
    assert sorted(answer.status_code for answer in answers) == [202, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert (refused.json()["type"], "retry-after" in refused.headers) == ("/errors#queue-full", True)
    assert rows("SELECT state, n_items FROM jobs") == [{"state": "accepted", "n_items": 5}]
