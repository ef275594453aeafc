"""An installation without workers, whose jobs the tests move by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store import jobs
from store.catalog import register_model
from store.database import Database
from store.rows import NewItem, NewJob, NewRun
from tests.databases import ready
from worker.settings import Settings

AcceptJob = Callable[..., int]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a home of its own, on SQLite."""
    return Settings(home=tmp_path / "home")


@pytest.fixture
def store(settings: Settings) -> Iterator[Database]:
    """The database of the settings."""
    database = Database(ready(settings.database))
    yield database
    database.close()


@pytest.fixture
def accept_job(store: Database) -> AcceptJob:
    """Accept a classify job of `count` items; further arguments are those of NewJob."""
    model_id = register_model(store, ("birds", 1), "d" * 64, ["robin", "wren"], "{}", "/models/birds/1")

    def accept(count: int = 3, **job: object) -> int:
        found = (NewItem(f"{n:05}.jpg".encode(), size=n, mtime_ns=n) for n in range(count))
        return jobs.accept(store, NewJob(**{"model_id": model_id, "root": b"/photos", **job}), found)  # type: ignore[arg-type]  # by name

    return accept


@pytest.fixture
def accept_training(store: Database) -> AcceptJob:
    """Accept a finetune job of a few labelled items."""

    def accept(count: int = 6) -> int:
        found = (NewItem(f"{n:05}.jpg".encode(), label=("robin", "wren")[n % 2]) for n in range(count))
        run = NewRun(name="finches", recipe={"mode": "head"}, seed=7)
        return jobs.accept(store, NewJob(None, root=b"/photos", kind="finetune", queue="train", run=run), found)

    return accept
