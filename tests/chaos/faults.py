"""What a fault is: a name, what it takes, how often it is chosen; and the faults that befall processes.

A fault is a context manager over a world: entering does the harm and tells for how long it should last, leaving undoes
it. What is undone by others (a watcher, a supervisor) is not undone here. It raises Missed where nothing was there, or
where, as it turns out in the end, it met nothing.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Literal

import psutil

from tests.chaos.crews import Missed
from tests.chaos.proxy import Proxy
from tests.chaos.samples import TRAINER_MODULE
from tests.chaos.world import LEASE_S, MEMORY_MB, World
from tests.running import command_of

REACH_S = 4.0  # for a worker to come by
NOTICED_S = 3.0  # for its parent to see what it takes
GIVEN_UP_S = 10.0  # it has let go of it by itself, unseen

Act = Callable[[World, random.Random], AbstractContextManager[float]]
Steps = Callable[[World, random.Random], Iterator[float]]
Where = Literal["both", "sqlite", "postgresql", "trainings"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault. `takes`: what it needs for itself; two that take the same never happen at once."""

    name: str
    weight: float
    act: Act
    takes: str = ""
    where: Where = "both"

    def fits(self, world: World) -> bool:
        """Whether it can happen in that world."""
        if self.where == "trainings":
            return world.plan.trainings
        return self.where in ("both", world.plan.kind)


CATALOGUE: dict[str, Fault] = {}


def fault(weight: float, takes: str = "", where: Where = "both") -> Callable[[Steps], Steps]:
    """Put a generator into the catalogue: it does the harm, yields for how many seconds, and undoes it."""

    def enter(steps: Steps) -> Steps:
        manager = contextmanager(steps)

        @wraps(steps)
        def act(world: World, rng: random.Random) -> AbstractContextManager[float]:
            return manager(world, rng)

        name = steps.__name__
        CATALOGUE[name] = Fault(name, weight, act, takes, where)
        return steps

    return enter


def bent(proxy: Proxy, order: Callable[[], object], seconds: float) -> Iterator[float]:
    """A proxy under an order for a while. Raises Missed where no connection and no data came by meanwhile."""
    before = proxy.met
    order()
    try:
        yield seconds
    finally:
        proxy.heal()
    if proxy.met == before:
        raise Missed


@fault(5)
def kill_child(world: World, rng: random.Random) -> Iterator[float]:
    _send(world.crews.a_child(rng), signal.SIGKILL)
    yield 0.0


@fault(0.7)
def kill_parent(world: World, rng: random.Random) -> Iterator[float]:
    """Rare: its supervisor waits longer before each restart."""
    _send(world.crews.a_parent(rng), signal.SIGKILL)
    yield 0.0


@fault(0.8)
def kill_supervisor(world: World, rng: random.Random) -> Iterator[float]:
    world.crews.one(rng).end(signal.SIGKILL)
    yield 0.0


@fault(0.5)
def end_parent(world: World, rng: random.Random) -> Iterator[float]:
    _send(world.crews.a_parent(rng), signal.SIGTERM)
    yield 0.0


@fault(0.5)
def end_supervisor(world: World, rng: random.Random) -> Iterator[float]:
    world.crews.one(rng).end(signal.SIGTERM)
    yield 0.0


@fault(3)
def stop_child(world: World, rng: random.Random) -> Iterator[float]:
    """A pause of half a lease to three: the longer ones come back as zombies."""
    yield from _stopped(world.crews.a_child(rng), rng.uniform(0.5, 3) * LEASE_S)


@fault(1)
def stop_parent(world: World, rng: random.Random) -> Iterator[float]:
    yield from _stopped(world.crews.a_parent(rng), rng.uniform(0.5, 2) * LEASE_S)


@fault(1)
def stop_supervisor(world: World, rng: random.Random) -> Iterator[float]:
    yield from _stopped(world.crews.one(rng).supervisor(), rng.uniform(0.5, 2) * LEASE_S)


@fault(0.7)
def stop_machine(world: World, rng: random.Random) -> Iterator[float]:
    """A supervisor and everything below it stand still together, as in a suspended machine."""
    crew = world.crews.one(rng)
    everything = [crew.supervisor(), *crew.parents(), *crew.children()]
    stopped = []
    try:
        for process in everything:
            with suppress(psutil.Error):
                process.suspend()
                stopped.append(process)
        yield rng.uniform(0.5, 3) * LEASE_S
    finally:
        for process in stopped:
            with suppress(psutil.Error):
                process.resume()


@fault(1, takes="memory")
def memory_taken(world: World, rng: random.Random) -> Iterator[float]:
    """A worker takes more memory than it may, and its parent ends it for that."""
    asked = world.folder / "greedy"
    asked.touch()
    try:
        _see_it_end(world, _greedy(asked))
        yield 0.0
    finally:
        for path in asked.parent.glob(f"{asked.name}*"):
            path.unlink(missing_ok=True)


def _see_it_end(world: World, process: psutil.Process) -> None:
    """Its parent has to, within NOTICED_S in which that parent could: other faults may stop or kill it."""
    with suppress(psutil.Error):  # gone
        parent, since = process.parent(), time.monotonic()
        deadline = since + GIVEN_UP_S
        while parent is not None and parent.pid > 1 and process.parent() == parent and time.monotonic() < deadline:
            if {parent.status(), process.status()} & {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}:
                return
            held = process.memory_info().rss > MEMORY_MB << 20
            since = since if held else time.monotonic()
            if time.monotonic() - since > NOTICED_S:
                world.wrong.append(f"a worker held more than {MEMORY_MB} MiB for {NOTICED_S:.0f} s, and nobody cared")
                return
            time.sleep(0.1)


def _greedy(asked: Path) -> psutil.Process:
    """The process that has taken it. Raises Missed where none does soon, or it is gone already."""
    deadline = time.monotonic() + REACH_S
    while time.monotonic() < deadline:
        for taken in asked.parent.glob(f"{asked.name}.*"):
            taken.unlink()
            try:
                return psutil.Process(int(taken.suffix[1:]))
            except psutil.NoSuchProcess as error:
                raise Missed from error
        time.sleep(0.02)
    raise Missed


@fault(2, where="trainings")
def kill_trainer(world: World, rng: random.Random) -> Iterator[float]:
    _send(_trainer(world, rng), signal.SIGKILL)
    yield 0.0


@fault(1, where="trainings")
def stop_trainer(world: World, rng: random.Random) -> Iterator[float]:
    yield from _stopped(_trainer(world, rng), rng.uniform(0.5, 2) * LEASE_S)


def _trainer(world: World, rng: random.Random) -> psutil.Process:
    found = []
    for crew in world.crews.all:
        for child in crew.children():
            with suppress(psutil.Error):
                found += [one for one in child.children() if TRAINER_MODULE in command_of(one)]
    if not found:
        raise Missed
    return rng.choice(found)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.Error as error:
        raise Missed from error


def _stopped(process: psutil.Process, seconds: float) -> Iterator[float]:
    _send(process, signal.SIGSTOP)
    try:
        yield seconds
    finally:
        with suppress(psutil.Error):
            process.resume()
