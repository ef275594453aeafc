"""Read by every Python of a chaos run, before its own code: what no signal and no proxy can do to it from outside.

- CHAOS_BATCH_S: how long the stand-in engine takes for a batch, so that faults meet work.
- CHAOS_SKEW: `DEVICE=SECONDS,…`: by how much the clock of a device's worker is wrong.
- CHAOS_GREEDY: a file; the process that finds it first takes 900 MiB of memory in the middle of a batch.
- CHAOS_FULL: a file; while it is there, the SQLite database has no room for another page.
- CHAOS_MET: a folder; whoever waited for SQLite's write lock, or whom it failed, leaves an empty file there.
- CHAOS_HURRY: by how much the waits after deaths and lost leases are shorter, as leases are.
- CHAOS_BREAK: negative controls: `fence`, `sweeper` or `transaction` is taken out of the product.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

WAITED_S = 0.1  # longer than neighbours keep each other waiting
BREAK = os.environ.get("CHAOS_BREAK", "").split(",")


class Changed(importlib.abc.Loader):
    """Loads a module as its own loader would, and changes it then."""

    def __init__(self, loader: Any, change: Callable[[Any], None]) -> None:
        self._loader, self._change = loader, change

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._change(module)


class Changing(importlib.abc.MetaPathFinder):
    """Changes a module right after it was imported, before anybody has a name from it."""

    def __init__(self, changes: dict[str, Callable[[Any], None]]) -> None:
        self._changes = changes

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  the interface's
        target: ModuleType | None = None,  # noqa: ARG002  the interface's
    ) -> importlib.machinery.ModuleSpec | None:
        change = self._changes.pop(fullname, None)
        spec = importlib.util.find_spec(fullname) if change is not None else None
        if change is not None and spec is not None:
            spec.loader = Changed(spec.loader, change)
        return spec


def slow_engine(module: Any) -> None:
    seconds, predict = float(os.environ["CHAOS_BATCH_S"]), module.FakeEngine.predict

    def slowly(self: Any, batch: Any) -> Any:
        time.sleep(seconds)
        take_memory()
        return predict(self, batch)

    module.FakeEngine.predict = slowly


def take_memory() -> None:
    """Where it is asked for: note who takes it, and hold it until somebody ends this process.

    Only in a worker that classifies: one that trains has no limit, as its trainers take what they need.
    """
    if os.environ.get("PIXMILL_QUEUE") != "classify":
        return
    asked = os.environ.get("CHAOS_GREEDY", "")
    try:
        os.rename(asked, f"{asked}.{os.getpid()}")  # noqa: PTH104  no import at start
    except OSError:
        return
    taken = b"x" * (900 << 20)
    time.sleep(5)
    del taken


def leave_mark(kind: str, begun: float) -> None:
    """An empty file: there may be no room for more."""
    name = f"{kind} {begun:.3f} {time.monotonic():.3f} {os.getpid()}"
    os.close(os.open(os.path.join(os.environ["CHAOS_MET"], name), os.O_CREAT, 0o644))  # noqa: PTH118  no import at start


def watch_lock(module: Any) -> None:
    """A mark of whoever waited until a transaction began."""
    from contextlib import contextmanager

    begin = module.Database._transaction

    @contextmanager
    def begun(self: Any, kind: str) -> Iterator[Any]:
        since = time.monotonic()
        with begin(self, kind) as connection:
            if self.is_sqlite and kind != "read" and time.monotonic() - since > WAITED_S:
                leave_mark("waited", since)
            yield connection

    module.Database._transaction = begun


def full_disk(module: Any) -> None:
    """Every write looks first whether there is room: `database or disk is full`, as SQLite itself says it."""
    from sqlalchemy import Connection, event

    make = module.Database._sqlite_engine

    def made(self: Any) -> Any:
        engine = make(self)

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            pages = 1 if os.path.exists(os.environ["CHAOS_FULL"]) else 0xFFFFFFFE  # noqa: PTH110  no import at start
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")  # SQLite takes no less than there are

        event.listen(engine, "handle_error", lambda _: leave_mark("failed", time.monotonic()))
        return engine

    module.Database._sqlite_engine = made
    watch_lock(module)


def wrong_clock() -> None:
    device = os.environ.get("PIXMILL_DEVICE", "")
    skews = dict(pair.split("=") for pair in os.environ.get("CHAOS_SKEW", "").split(",") if "=" in pair)
    if device in skews:
        seconds, seconds_of, nanoseconds_of = float(skews[device]), time.time, time.time_ns
        time.time = lambda: seconds_of() + seconds
        time.time_ns = lambda: nanoseconds_of() + int(seconds * 1e9)


def hurry(module: Any) -> None:
    factor, waits = float(os.environ["CHAOS_HURRY"]), module.BACKOFF_S
    module.BACKOFF_S = tuple(wait / factor for wait in waits)
    if hasattr(module, "STEADY_S"):
        module.STEADY_S /= factor
    if hasattr(module, "Kept"):  # it has the waits as a default
        made = module.Kept.__init__
        made.__defaults__ = tuple(module.BACKOFF_S if value is waits else value for value in made.__defaults__)


def no_fence(module: Any) -> None:
    """The shard of a lease, whoever has it now."""
    from store.tables import shards

    module.owned = lambda lease: shards.c.id == lease.shard_id


def no_sweeper(module: Any) -> None:
    module.sweep = lambda _: module.Swept()


def apart(module: Any) -> None:
    """The shard's progress in one transaction, its results in another."""
    from sqlalchemy import update

    from store import failpoints

    def commit(database: Any, lease: Any, rows: Any, *, last: bool, lease_s: float) -> None:
        ok = sum(row.status == "ok" for row in rows)
        values = {
            "ok": module.shards.c.ok + ok,
            "failed": module.shards.c.failed + len(rows) - ok,
            "lease_until": module.db_now() + lease_s,
        }
        if last:
            values |= {"state": "done", "done_token": lease.token, "token": None, "lease_until": None}
        with database.write() as connection:
            if connection.execute(update(module.shards).where(module.owned(lease)).values(**values)).rowcount != 1:
                raise module.LeaseLost(lease.shard_id)
            if last:
                module.close_attempt(connection, lease.token, "done")
        failpoints.reach("commit.fenced")
        with database.write() as connection:
            agreed = module.write_rows(connection, lease, rows)
            module.tallies.add(connection, lease.job_id, module.tallies.count(rows, agreed))

    module._commit = commit


CHANGES: dict[str, Callable[[Any], None]] = {}
if "CHAOS_BATCH_S" in os.environ:
    CHANGES["models.engines.fake"] = slow_engine
if "CHAOS_FULL" in os.environ:
    CHANGES["store.database"] = full_disk
if "CHAOS_HURRY" in os.environ:
    CHANGES |= dict.fromkeys(("worker.family", "worker.kept", "store.sweep"), hurry)
if "fence" in BREAK:
    CHANGES["store.claims"] = no_fence  # before any other module takes the name from it
if "sweeper" in BREAK:
    CHANGES["store.sweep"] = no_sweeper
if "transaction" in BREAK:
    CHANGES["store.commits"] = apart
if CHANGES:
    sys.meta_path.insert(0, Changing(CHANGES))
if "CHAOS_SKEW" in os.environ:
    wrong_clock()
