"""Faults of the database: locked, full, cut off, slow, crashed; an answer to COMMIT that never comes."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import psutil
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from store.errors import StoreError
from tests.chaos.crews import Missed
from tests.chaos.faults import bent, fault
from tests.chaos.proxy import Proxy, When
from tests.chaos.servers import Postgres
from tests.chaos.world import LEASE_S, World

MARK_S = 2.0  # for whoever waited to go on
WHENS: tuple[When, ...] = ("before", "after")


def _server(world: World) -> Postgres:
    if world.postgres is None:
        raise Missed
    return world.postgres


def _proxy(world: World) -> Proxy:
    if world.database_proxy is None:
        raise Missed
    return world.database_proxy


@fault(2, takes="database", where="sqlite")
def sqlite_locked(world: World, rng: random.Random) -> Iterator[float]:
    """Another program holds the write lock, up to twice as long as a lease."""
    begun = time.monotonic()
    yield from _held(world, rng, "UPDATE counters SET n = n WHERE name = ''")
    _marked(world, "waited", begun)


@fault(2, takes="database", where="sqlite")
def sqlite_full(world: World, rng: random.Random) -> Iterator[float]:
    begun = time.monotonic()
    world.full.touch()
    try:
        yield rng.uniform(0.5, 5)
    finally:
        world.full.unlink(missing_ok=True)
    _marked(world, "failed", begun)


@fault(3, takes="database", where="sqlite")
def sqlite_write_error(world: World, rng: random.Random) -> Iterator[float]:
    """The system refuses a worker to let any file grow: the disk is full, or a limit is reached."""
    child, begun = world.crews.a_child(rng), time.monotonic()
    try:
        before = child.rlimit(psutil.RLIMIT_FSIZE)
        child.rlimit(psutil.RLIMIT_FSIZE, (4096, before[1]))
    except psutil.Error as error:
        raise Missed from error
    try:
        yield rng.uniform(0.2, 3)
    finally:
        with suppress(psutil.Error):
            child.rlimit(psutil.RLIMIT_FSIZE, before)
    _marked(world, "failed", begun, child.pid)


@fault(1.5, where="sqlite")
def sqlite_checkpointed(world: World, rng: random.Random) -> Iterator[float]:
    """Another program checkpoints the log at the same time, many times over."""
    met, engine = False, world.database.engine
    with suppress(DBAPIError, engine.dialect.loaded_dbapi.Error), closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()  # outside of any transaction
        for _ in range(20):
            before = cursor.execute("PRAGMA data_version").fetchone()
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            met |= cursor.execute("PRAGMA data_version").fetchone() != before
    yield 0.0
    if not met:  # nobody wrote meanwhile
        raise Missed


@fault(2, takes="database", where="postgresql")
def pg_locked(world: World, rng: random.Random) -> Iterator[float]:
    waiting = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND relation = 'shards'::regclass"
    yield from _held(world, rng, "LOCK TABLE shards IN EXCLUSIVE MODE", waiting)


@fault(4, takes="database", where="postgresql")
def pg_backends_terminated(world: World, rng: random.Random) -> Iterator[float]:
    _told(_server(world), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pixmill'")
    yield 0.0


@fault(1.5, takes="database", where="postgresql")
def pg_backend_killed(world: World, rng: random.Random) -> Iterator[float]:
    """SIGKILL to one backend: the server throws every connection out and recovers."""
    try:
        os.kill(rng.choice(_server(world).backends()), signal.SIGKILL)
    except (IndexError, ProcessLookupError, DBAPIError) as error:
        raise Missed from error
    yield 0.0


@fault(1, takes="database", where="postgresql")
def pg_crashed(world: World, rng: random.Random) -> Iterator[float]:
    """Stopped as in a crash, and started again a little later."""
    server = _server(world)
    server.stop("immediate")
    try:
        yield rng.uniform(0, 4)
    finally:
        server.start()


@fault(1, takes="database", where="postgresql")
def pg_postmaster_killed(world: World, rng: random.Random) -> Iterator[float]:
    server = _server(world)
    postmaster = server.postmaster()
    if postmaster is None:
        raise Missed
    below = postmaster.children(recursive=True)
    postmaster.kill()
    try:
        psutil.wait_procs(below, 5)  # they end by themselves, and hold the memory until then
        yield rng.uniform(0, 2)
    finally:
        server.start()


@fault(5, takes="database proxy", where="postgresql")
def pg_commit_cut(world: World, rng: random.Random) -> Iterator[float]:
    """A connection is reset during COMMIT: half of the time before the server has it, half after."""
    proxy, when = _proxy(world), rng.choice(WHENS)
    yield from bent(proxy, lambda: proxy.cut_commit(when), 2.0)


@fault(2, takes="database proxy", where="postgresql")
def pg_reset(world: World, rng: random.Random) -> Iterator[float]:
    if not _proxy(world).reset():
        raise Missed
    yield 0.0


@fault(1.5, takes="database proxy", where="postgresql")
def pg_refused(world: World, rng: random.Random) -> Iterator[float]:
    yield from bent(_proxy(world), _proxy(world).refuse, rng.uniform(0.5, 4))


@fault(1.5, takes="database proxy", where="postgresql")
def pg_slow(world: World, rng: random.Random) -> Iterator[float]:
    delay_s = rng.uniform(0.02, 0.5)
    yield from bent(_proxy(world), lambda: _proxy(world).slow(delay_s), rng.uniform(1, 5))


@fault(1.5, takes="database proxy", where="postgresql")
def pg_black_hole(world: World, rng: random.Random) -> Iterator[float]:
    yield from bent(_proxy(world), _proxy(world).swallow, rng.uniform(0.5, 6))


@fault(1.5, takes="database proxy", where="postgresql")
def pg_half_open(world: World, rng: random.Random) -> Iterator[float]:
    """The far side is gone and nobody is told, until the reset that keepalives would bring in the end."""
    yield from bent(_proxy(world), _proxy(world).half_open, rng.uniform(1, 8))


@fault(2, takes="database proxy", where="postgresql")
def pg_cut(world: World, rng: random.Random) -> Iterator[float]:
    count = rng.randint(1, 20_000)
    yield from bent(_proxy(world), lambda: _proxy(world).cut_after(count), rng.uniform(0.5, 2))


def _held(world: World, rng: random.Random, statement: str, waiting: str = "SELECT 1") -> Iterator[float]:
    """A lock held for a while. `waiting`: a query that counts those who wait for it. Raises Missed where none does."""
    try:
        with world.database.write() as connection:
            connection.execute(text(statement))
            yield rng.uniform(0.3, 2) * LEASE_S
            count = int(connection.scalar(text(waiting)) or 0)
    except StoreError as error:
        raise Missed from error
    if not count:
        raise Missed


def _told(server: Postgres, statement: str) -> None:
    """Raises Missed where it did nothing."""
    try:
        if not server.run(statement):
            raise Missed
    except DBAPIError as error:
        raise Missed from error


def _marked(world: World, kind: str, begun: float, pid: int | None = None) -> None:
    """Raises Missed where nobody, or not that process, waited or failed since then; see hooks/sitecustomize.py.

    Whoever waited for what is over now says so only as soon as he goes on.
    """
    ended = time.monotonic()
    while True:
        for path in world.met.glob(f"{kind} *"):
            _, since, until, whose = path.name.split()
            path.unlink(missing_ok=True)
            if float(until) > begun and float(since) < ended and pid in (None, int(whose)):
                return
        if time.monotonic() > ended + MARK_S:
            raise Missed
        time.sleep(0.05)
