"""Faults of the database: locked, full, cut off, slow, crashed; an answer to COMMIT that never comes."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress

import psutil
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from store.errors import StoreError
from tests.chaos.crews import Missed
from tests.chaos.faults import fault
from tests.chaos.proxy import Proxy
from tests.chaos.servers import Postgres
from tests.chaos.world import LEASE_S, World


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
    yield from _held(world, rng, "UPDATE counters SET n = n WHERE name = ''")


@fault(2, takes="database", where="sqlite")
def sqlite_full(world: World, rng: random.Random) -> Iterator[float]:
    world.full.touch()
    try:
        yield rng.uniform(0.5, 5)
    finally:
        world.full.unlink(missing_ok=True)


@fault(3, takes="database", where="sqlite")
def sqlite_write_error(world: World, rng: random.Random) -> Iterator[float]:
    """The system refuses a worker to let any file grow: the disk is full, or a limit is reached."""
    child = world.crews.a_child(rng)
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


@fault(1.5, where="sqlite")
def sqlite_checkpointed(world: World, rng: random.Random) -> Iterator[float]:
    """Another program checkpoints the log at the same time, many times over."""
    with suppress(StoreError), world.database.engine.connect() as connection:
        for _ in range(20):
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    yield 0.0


@fault(2, takes="database", where="postgresql")
def pg_locked(world: World, rng: random.Random) -> Iterator[float]:
    yield from _held(world, rng, "LOCK TABLE shards IN EXCLUSIVE MODE")


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
    proxy = _proxy(world)
    before = proxy.cuts
    proxy.cut_commit("after" if rng.random() < 0.5 else "before")
    try:
        yield 2.0
    finally:
        proxy.heal()
    if proxy.cuts == before:
        raise Missed


@fault(2, takes="database proxy", where="postgresql")
def pg_reset(world: World, rng: random.Random) -> Iterator[float]:
    if not _proxy(world).reset():
        raise Missed
    yield 0.0


@fault(1.5, takes="database proxy", where="postgresql")
def pg_refused(world: World, rng: random.Random) -> Iterator[float]:
    _proxy(world).refuse()
    yield from _healed(world, rng.uniform(0.5, 4))


@fault(1.5, takes="database proxy", where="postgresql")
def pg_slow(world: World, rng: random.Random) -> Iterator[float]:
    _proxy(world).slow(rng.uniform(0.02, 0.5))
    yield from _healed(world, rng.uniform(1, 5))


@fault(1.5, takes="database proxy", where="postgresql")
def pg_black_hole(world: World, rng: random.Random) -> Iterator[float]:
    _proxy(world).swallow()
    yield from _healed(world, rng.uniform(0.5, 6))


@fault(1.5, takes="database proxy", where="postgresql")
def pg_half_open(world: World, rng: random.Random) -> Iterator[float]:
    """The far side is gone and nobody is told, until the reset that keepalives would bring in the end."""
    if not _proxy(world).half_open():
        raise Missed
    yield from _healed(world, rng.uniform(1, 8))


@fault(2, takes="database proxy", where="postgresql")
def pg_cut(world: World, rng: random.Random) -> Iterator[float]:
    _proxy(world).cut_after(rng.randint(1, 20_000))
    yield from _healed(world, rng.uniform(0.5, 2))


def _healed(world: World, seconds: float) -> Iterator[float]:
    try:
        yield seconds
    finally:
        _proxy(world).heal()


def _held(world: World, rng: random.Random, statement: str) -> Iterator[float]:
    try:
        with world.database.write() as connection:
            connection.execute(text(statement))
            yield rng.uniform(0.3, 2) * LEASE_S
    except StoreError as error:
        raise Missed from error


def _told(server: Postgres, statement: str) -> None:
    try:
        server.run(statement)
    except DBAPIError as error:
        raise Missed from error
