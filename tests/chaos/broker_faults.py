"""Faults of the broker: it forgets, refuses, freezes, dies, or cannot be reached."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import suppress

import redis

from tests.chaos.crews import Missed
from tests.chaos.faults import bent, fault
from tests.chaos.world import World

SECRET = "not what the workers know"  # noqa: S105  it is none


def _told(world: World, *commands: str, password: str | None = None) -> None:
    """Tell the server itself something. Raises Missed where it does not answer."""
    try:
        with world.broker.client(password) as client:
            for command in commands:
                client.execute_command(*command.split(" | "))
    except (redis.RedisError, OSError) as error:
        raise Missed from error


@fault(6)
def broker_flushed(world: World, rng: random.Random) -> Iterator[float]:
    _told(world, "FLUSHALL")
    yield 0.0


@fault(2)
def broker_clients_killed(world: World, rng: random.Random) -> Iterator[float]:
    _told(world, "CLIENT | KILL | TYPE | normal | SKIPME | yes")
    yield 0.0


@fault(1.5, takes="broker")
def broker_full(world: World, rng: random.Random) -> Iterator[float]:
    _told(world, "CONFIG | SET | maxmemory | 1")
    try:
        yield rng.uniform(0.5, 5)
    finally:
        _told(world, "CONFIG | SET | maxmemory | 64mb")


@fault(1.5, takes="broker")
def broker_read_only(world: World, rng: random.Random) -> Iterator[float]:
    """A replica of nobody: every write is answered with READONLY."""
    _told(world, "REPLICAOF | 127.0.0.1 | 1")
    try:
        yield rng.uniform(0.5, 5)
    finally:
        _told(world, "REPLICAOF | NO | ONE")


@fault(1, takes="broker")
def broker_wrong_password(world: World, rng: random.Random) -> Iterator[float]:
    _told(world, f"CONFIG | SET | requirepass | {SECRET}", "CLIENT | KILL | TYPE | normal | SKIPME | yes")
    try:
        yield rng.uniform(0.5, 5)
    finally:
        _told(world, "CONFIG | SET | requirepass | ", password=SECRET)


@fault(2, takes="broker")
def broker_restarted(world: World, rng: random.Random) -> Iterator[float]:
    world.broker.signal(signal.SIGKILL)
    world.broker.start()
    yield 0.0


@fault(1, takes="broker")
def broker_down(world: World, rng: random.Random) -> Iterator[float]:
    world.broker.signal(signal.SIGKILL)
    try:
        yield rng.uniform(2, 10)
    finally:
        world.broker.start()


@fault(2, takes="broker")
def broker_frozen(world: World, rng: random.Random) -> Iterator[float]:
    world.broker.signal(signal.SIGSTOP)
    try:
        yield rng.uniform(1, 8)
    finally:
        with suppress(ProcessLookupError):
            world.broker.signal(signal.SIGCONT)


@fault(3, takes="broker proxy")
def broker_reset(world: World, rng: random.Random) -> Iterator[float]:
    if not world.broker_proxy.reset():
        raise Missed
    yield 0.0


@fault(1, takes="broker proxy")
def broker_reset_often(world: World, rng: random.Random) -> Iterator[float]:
    """Refused for a while, so that whoever comes back is cut off again."""
    yield from bent(world.broker_proxy, world.broker_proxy.refuse, rng.uniform(0.5, 4))


@fault(1.5, takes="broker proxy")
def broker_slow(world: World, rng: random.Random) -> Iterator[float]:
    delay_s = rng.uniform(0.1, 2)
    yield from bent(world.broker_proxy, lambda: world.broker_proxy.slow(delay_s), rng.uniform(1, 6))


@fault(1.5, takes="broker proxy")
def broker_black_hole(world: World, rng: random.Random) -> Iterator[float]:
    yield from bent(world.broker_proxy, world.broker_proxy.swallow, rng.uniform(1, 8))


@fault(1.5, takes="broker proxy")
def broker_half_open(world: World, rng: random.Random) -> Iterator[float]:
    """The connections are gone and nobody is told; new ones work. Later the dead ones are found out."""
    yield from bent(world.broker_proxy, world.broker_proxy.half_open, rng.uniform(2, 12))


@fault(1.5, takes="broker proxy")
def broker_cut(world: World, rng: random.Random) -> Iterator[float]:
    count = rng.randint(1, 2000)
    yield from bent(world.broker_proxy, lambda: world.broker_proxy.cut_after(count), rng.uniform(0.5, 3))
