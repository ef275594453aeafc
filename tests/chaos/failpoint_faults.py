"""Faults at named places in the product: a process dies, stops, waits or fails exactly there."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

from store.failpoints import NAMES
from tests.chaos.crews import Missed
from tests.chaos.faults import fault
from tests.chaos.history import fired
from tests.chaos.world import LEASE_S, World

REACH_S = 4.0
PARTS = ("claim", "pipeline", "slice", "commit", "renew", "release", "sweep", "finish", "publish")
TRAINING_PARTS = ("checkpoint", "model")
SUBMISSION = ("accept.inside", "accept.after")
MOST_WAITING = 60  # shards; with more of them nobody submits more for the sake of a fault
BACKLOG = "SELECT COUNT(*) FROM shards WHERE state = 'ready'"


@fault(6)
def failpoint_killed(world: World, rng: random.Random) -> Iterator[float]:
    _reached(world, rng, "kill")
    yield 0.0


@fault(3)
def failpoint_stopped(world: World, rng: random.Random) -> Iterator[float]:
    """Stopped there, with whatever locks it holds, and let go on later: the exact zombie."""
    pid = _reached(world, rng, "stop")
    try:
        yield rng.uniform(0.3, 2.5) * LEASE_S
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@fault(3)
def failpoint_slow(world: World, rng: random.Random) -> Iterator[float]:
    _reached(world, rng, f"sleep {rng.uniform(0.2, 2 * LEASE_S):.1f}")
    yield 0.0


@fault(5)
def failpoint_failed(world: World, rng: random.Random) -> Iterator[float]:
    """The database is away for exactly one statement."""
    _reached(world, rng, "raise")
    yield 0.0


@fault(1)
def failpoint_exited(world: World, rng: random.Random) -> Iterator[float]:
    _reached(world, rng, "exit 1")
    yield 0.0


@fault(2, takes="submission")
def failpoint_in_submission(world: World, rng: random.Random) -> Iterator[float]:
    """A person's command dies, fails or waits where it writes the job: afterwards that is whole, or not there."""
    if world.number(BACKLOG) > MOST_WAITING:
        raise Missed
    name, before = rng.choice(SUBMISSION), len(fired(world.failpoints))
    action = rng.choice(("kill", "exit 1", "raise", f"sleep {rng.uniform(0.2, LEASE_S):.1f}"))
    armed = world.failpoints / name
    armed.write_text(action)
    if world.plan.trainings and rng.random() < 0.3:
        world.submit_training(rng)
    else:
        world.submit(rng)
    armed.unlink(missing_ok=True)
    if not any(one.name == name for one in fired(world.failpoints)[before:]):
        raise Missed
    yield 0.0


def _reached(world: World, rng: random.Random, action: str) -> int:
    """Arm a point and wait until a process comes by; its id. Raises Missed where none does."""
    parts = (*PARTS, *TRAINING_PARTS) if world.plan.trainings else PARTS
    name = rng.choice([name for name in NAMES if name.startswith(parts)])
    armed, log = world.failpoints / name, world.failpoints / "fired.log"
    start = log.stat().st_size if log.exists() else 0
    if armed.exists():  # another fault has it
        raise Missed
    armed.write_text(f"after {rng.randint(0, 3)} {action}")
    deadline = time.monotonic() + REACH_S
    try:
        while time.monotonic() < deadline:
            time.sleep(0.02)
            if armed.exists() or not log.exists():
                continue
            with log.open() as lines:
                lines.seek(start)
                for line in lines:
                    if line.startswith(f"{name} {action.replace(' ', ':')} "):
                        return int(line.split()[2])
    finally:
        armed.unlink(missing_ok=True)
    raise Missed
