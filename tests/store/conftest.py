"""A small accepted job to play with."""

from collections.abc import Callable

import pytest

from store import jobs
from store.catalog import register_model
from store.database import Database
from store.rows import ItemRow, Lease, NewItem, NewJob, NewResult

AcceptJob = Callable[..., int]


@pytest.fixture
def model_id(database: Database) -> int:
    return register_model(database, ("birds", 1), "d" * 64, ["robin", "wren"], "{}", "/models/birds/1")


@pytest.fixture
def accept_job(database: Database, model_id: int) -> AcceptJob:
    """Accept a classify job of `count` items; further arguments are those of NewJob."""

    def accept(count: int = 3, **job: object) -> int:
        found = (NewItem(f"{n:05}.jpg".encode(), size=n, mtime_ns=n) for n in range(count))
        return jobs.accept(database, NewJob(**{"model_id": model_id, "root": b"/photos", **job}), found)  # type: ignore[arg-type]  # by name

    return accept


def ok_results(lease: Lease, items: list[ItemRow] | None = None) -> list[NewResult]:
    """A good result for every item of a lease, or for those given."""
    indices = [item.idx for item in items] if items is not None else range(lease.lo, lease.hi)
    return [
        NewResult(n, "ok", label="robin", score=0.9, topk='[{"label": "robin", "score": 0.9}]', width=4, height=3)
        for n in indices
    ]
