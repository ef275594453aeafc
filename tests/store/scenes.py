"""Jobs in every state that matters, with leases on them, and all that workers, sweepers and people do to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import update

from store import jobs as write
from store import runs
from store.catalog import register_model
from store.claims import Claimer, claim, give_up, release, release_dead, renew
from store.commits import commit_slice
from store.database import Database
from store.insights import items_left
from store.removal import remove
from store.rows import Lease, NewItem, NewJob, NewResult, NewRun
from store.stopping import stop_if_hopeless
from store.sweep import finish_jobs, sweep
from store.tables import metadata, shards
from tests.store.conftest import epoch


@dataclass
class Scene:
    """One job, and the leases on its shards by what they are for."""

    database: Database
    job_id: int = 0
    leases: dict[str, Lease] = field(default_factory=dict)

    left: dict[str, list[NewResult]] = field(default_factory=dict)  # what each lease has still to write

    def rows(self, name: str, few: int | None = None) -> list[NewResult]:
        """Results for the items that were left of a lease when the scene was set."""
        return self.left[name][:few]

    def write(self, name: str, few: int | None = None, *, last: bool = False) -> None:
        """Commit rows while the scene is set."""
        rows = [row_of(item.idx) for item in items_left(self.database, self.leases[name])][:few]
        commit_slice(self.database, self.leases[name], rows, last=last)

    def set(self) -> Scene:
        """Note what is left to write, so that nobody has to read it."""
        self.left = {
            name: [row_of(item.idx) for item in items_left(self.database, lease)] for name, lease in self.leases.items()
        }
        return self


def row_of(idx: int) -> NewResult:
    """One of three cannot be read."""
    if idx % 3 == 2:
        return NewResult(idx, "failed", error_code=("corrupt", "missing")[idx % 2], error="why")
    hashed = (idx % 2).to_bytes(16, "big")  # the same few contents in every shard: memo rows are fought for
    return NewResult(idx, "ok", label=("robin", "wren")[idx % 2], score=0.5, topk="[]", content_hash=hashed)


def empty(database: Database) -> None:
    """Forget everything that was there."""
    with database.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())


def _accept(database: Database, **job: Any) -> int:
    empty(database)
    model_id = register_model(database, ("birds", 1), "d" * 64, ["robin", "wren"], "{}", "/models/birds/1")
    found = [NewItem(b"%d.jpg" % n, label=("robin", "wren")[n % 2]) for n in range(12)]
    if "run" in job:
        model_id = None  # type: ignore[assignment]  # a training has none yet
    return write.accept(database, NewJob(model_id, max_shard=2, **job), found)


def _claim(scene: Scene, name: str, worker: str, queue: str = "classify") -> Lease:
    lease = claim(scene.database, Claimer(worker, queue))
    assert lease is not None
    scene.leases[name] = lease
    return lease


def running(database: Database) -> Scene:
    """Six shards: one done, one begun and one untouched by ann, one of bob's overdue, one of cid's, one ready."""
    scene = Scene(database, _accept(database))
    _claim(scene, "done", "ann")
    scene.write("done", last=True)
    _claim(scene, "begun", "ann")
    scene.write("begun", 1)
    _claim(scene, "other", "ann")
    late = _claim(scene, "late", "bob")
    _claim(scene, "third", "cid")
    with database.write() as connection:
        connection.execute(update(shards).where(shards.c.id == late.shard_id).values(lease_until=1.0))
    return scene.set()


def moved(how: Callable[[Database, int], object]) -> Callable[[Database], Scene]:
    """The same, after a person did something."""

    def make(database: Database) -> Scene:
        scene = running(database)
        how(database, scene.job_id)
        return scene

    return make


def _all_done(database: Database) -> Scene:
    scene = running(database)
    with database.write() as connection:
        connection.execute(update(shards).where(shards.c.lease_until < 2).values(lease_until=1e12))
    for name in ("begun", "other", "late", "third"):
        scene.write(name, last=True)
    _claim(scene, "last", "cid")
    scene.write("last", last=True)
    return scene


def _ended(database: Database) -> Scene:
    scene = _all_done(database)
    finish_jobs(database)
    return scene


def _training(database: Database) -> Scene:
    run = NewRun("finches", {"mode": "head"}, 7)
    scene = Scene(database, _accept(database, kind="finetune", queue="train", run=run))
    runs.move_checkpoint(database, _claim(scene, "train", "ann", "train"), "/c1", 1, 0)
    return scene


def _failed_training(database: Database) -> Scene:
    scene = _training(database)
    write.fail(database, scene.job_id, "no model")
    return scene


def _late_training(database: Database) -> Scene:
    scene = _training(database)
    with database.write() as connection:
        connection.execute(update(shards).values(lease_until=1.0))
    return scene


CLASSIFYING: dict[str, Callable[[Database], Scene]] = {
    "running": running,
    "paused": moved(write.pause),
    "cancelling": moved(write.cancel),
    "failed": moved(lambda database, job_id: write.fail(database, job_id, "no model")),
    "all done": _all_done,
    "ended": _ended,
}
TRAINING: dict[str, Callable[[Database], Scene]] = {
    "training": _training,
    "failed training": _failed_training,
    "late training": _late_training,
}

Act = Callable[[Scene], Any]
PEOPLE: dict[str, Act] = {
    "pause": lambda s: write.pause(s.database, s.job_id),
    "resume": lambda s: write.resume(s.database, s.job_id),
    "cancel": lambda s: write.cancel(s.database, s.job_id),
    "retry": lambda s: write.retry(s.database, s.job_id),
    "retry corrupt": lambda s: write.retry(s.database, s.job_id, ["corrupt"]),
    "retry what is left": lambda s: write.retry(s.database, s.job_id, what="left"),
    "priority": lambda s: write.set_priority(s.database, s.job_id, 1),
    "remove": lambda s: remove(s.database, s.job_id),
    "fail": lambda s: write.fail(s.database, s.job_id, "no model"),
    "sweep": lambda s: sweep(s.database),
    "finish": lambda s: finish_jobs(s.database),
}
WORKERS: dict[str, Act] = {
    "claim": lambda s: claim(s.database, Claimer("dan")),
    "renew": lambda s: renew(s.database, [s.leases["begun"], s.leases["other"]]),
    "renew the other way": lambda s: renew(s.database, [s.leases["other"], s.leases["begun"]]),
    "commit some": lambda s: commit_slice(s.database, s.leases["other"], s.rows("other", 1), last=False),
    "commit the rest": lambda s: commit_slice(s.database, s.leases["begun"], s.rows("begun"), last=True),
    "commit too late": lambda s: commit_slice(s.database, s.leases["late"], s.rows("late"), last=True),
    "release": lambda s: release(s.database, s.leases["begun"]),
    "release too late": lambda s: release(s.database, s.leases["late"]),
    "give up": lambda s: give_up(s.database, s.leases["begun"], "boom"),
    "give up too late": lambda s: give_up(s.database, s.leases["late"], "boom"),
    "die": lambda s: release_dead(s.database, "ann"),
    "stop": lambda s: stop_if_hopeless(s.database, s.job_id),
}
TRAINERS: dict[str, Act] = {
    "claim": lambda s: claim(s.database, Claimer("dan", "train")),
    "renew": lambda s: renew(s.database, [s.leases["train"]]),
    "checkpoint": lambda s: runs.move_checkpoint(s.database, s.leases["train"], "/c2", 2, 0),
    "epoch": lambda s: runs.add_epoch(s.database, s.leases["train"], epoch(1)),
    "stage": lambda s: runs.set_stage(s.database, s.leases["train"], "training", {"epoch": 2}),
    "end": lambda s: runs.finish_run(s.database, s.leases["train"], "done"),
    "end badly": lambda s: runs.fail_run(s.database, s.leases["train"], "no memory"),
    "release": lambda s: release(s.database, s.leases["train"]),
    "give up": lambda s: give_up(s.database, s.leases["train"], "boom"),
    "die": lambda s: release_dead(s.database, "ann"),
    "end early": lambda s: write.cancel(s.database, s.job_id, keep_best=True),
}
