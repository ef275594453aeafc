"""Small accepted jobs to play with."""

from collections.abc import Callable

import pytest
from sqlalchemy import select

from store import jobs
from store.catalog import register_model
from store.claims import Claimer, claim
from store.database import Database
from store.rows import ItemRow, Lease, NewItem, NewJob, NewResult, NewRun
from store.run_rows import EpochFacts, RunItem
from store.tables import run_items, runs

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


@pytest.fixture
def accept_training(database: Database, model_id: int) -> AcceptJob:
    """Accept a finetune job of `count` labelled items; further arguments are those of NewRun."""

    def accept(count: int = 6, **run: object) -> int:
        values = {"name": "finches", "recipe": {"mode": "head"}, "seed": 7, "base_model_id": model_id, **run}
        found = (NewItem(f"{n:05}.jpg".encode(), label=("robin", "wren")[n % 2]) for n in range(count))
        job = NewJob(None, root=b"/photos", kind="finetune", queue="train", run=NewRun(**values))  # type: ignore[arg-type]  # by name
        return jobs.accept(database, job, found)

    return accept


def train(database: Database, worker: str = "t") -> Lease:
    """A claim of a training, which must be due."""
    lease = claim(database, Claimer(worker, queue="train"))
    assert lease is not None
    return lease


def epoch(number: int, *, best: bool = True, **values: float) -> EpochFacts:
    """An epoch whose losses fall with its number, unless said otherwise."""
    known = {"loss": 1 / number, "accuracy": 0.5, "top5": 1.0, "val_loss": 2 / number, "val_accuracy": 0.4}
    measured = {**known, "val_top5": 1.0, "learning_rate": 0.1, "images_per_s": 100.0, "seconds": 2.0, **values}
    return EpochFacts(epoch=number, phase="head", is_best=best, patience_left=3, metrics={"lr": 0.1}, **measured)


def run_items_of(database: Database, run_id: int) -> list[RunItem]:
    """The usable images of a run in the order of its items; empty until the survey is whole."""
    whole = select(runs.c.id).where(runs.c.id == run_id, runs.c.fingerprint.is_not(None)).exists()
    query = (
        select(*run_items.c["idx", "split", "content_hash", "group_key"])
        .where(run_items.c.run_id == run_id, whole)
        .order_by(run_items.c.idx)
    )
    with database.read() as connection:
        return [RunItem(idx, split, bytes(digest), key) for idx, split, digest, key in connection.execute(query)]
