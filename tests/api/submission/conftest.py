"""What tests of submissions share: a home with a model, a folder of pictures, an app in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from store import tokens
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.rows import NewResult
from store.sweep import sweep
from tests.running import fake_model, write_images
from tests.serving import api_client, new_token
from worker.settings import Settings

JOBS = "/api/v1/jobs"
Ask = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with one model, `fake`."""
    folder = tmp_path / "home"
    fake_model(folder)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """An allowed root with five pictures."""
    folder = tmp_path / "photos"
    write_images(folder, 5)
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with a picture that nobody is allowed to read."""
    folder = tmp_path / "outside"
    write_images(folder, 1)
    return folder


@pytest.fixture
def settings(home: Path, database_url: str) -> Settings:
    """Of an app without a broker, on each of the two databases."""
    return Settings(home=home, database_url=database_url)


@pytest.fixture
def client(settings: Settings, photos: Path) -> Iterator[TestClient]:
    """The app, asked by an administrator. What it does not handle fails the test."""
    with api_client(settings, [photos]) as made:
        yield made


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every look at a source be a quick one, however busy this machine is."""
    monkeypatch.setattr("api.submission.service.WAIT_S", 60.0)


@pytest.fixture
def submit(client: TestClient, photos: Path) -> Ask:
    """Submit a classify job of a source, by default the folder; gives the response."""

    def ask(source: dict[str, Any] | None = None, **more: Any) -> Any:
        headers = more.pop("headers", {})
        body = {"kind": "classify", "source": {"folder": str(photos)} if source is None else source, **more}
        return client.post(JOBS, json=body, headers=headers)

    return ask


@pytest.fixture
def rows(settings: Settings) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """What the database says."""
    database = Database(settings.database)

    def ask(query: str, **values: Any) -> list[dict[str, Any]]:
        with database.read() as connection:
            return [dict(row._mapping) for row in connection.execute(text(query), values)]

    yield ask
    database.close()


@pytest.fixture
def bearer(settings: Settings) -> Callable[..., dict[str, str]]:
    """The header of a new token of an owner."""
    return lambda owner, *scopes: {
        "Authorization": f"Bearer {new_token(settings.database, owner, scopes or ('read', 'submit'))}"
    }


def few(settings: Settings, images: int) -> dict[str, str]:
    """The header of a token of ann's, of whose images so many may wait."""
    database = Database(settings.database)
    limits = tokens.TokenLimits(max_queued_items=images)
    _, secret = tokens.create(database, name="few", owner="ann", scopes=("read", "submit"), limits=limits)
    database.close()
    return {"Authorization": f"Bearer {secret}"}


def classify(settings: Settings) -> None:
    """What a worker does: waits for a shard, and commits the rows of its images."""
    database = Database(settings.database)
    try:
        while (lease := claim(database, Claimer("here/cpu"))) is None:
            time.sleep(0.05)
        found = [NewResult(n, "ok", label="ant", score=0.5, topk="[]") for n in range(lease.lo, lease.hi)]
        commit_slice(database, lease, found, last=True)
        sweep(database)
    finally:
        database.close()
