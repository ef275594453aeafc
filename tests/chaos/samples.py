"""Memory and file descriptors of everything that runs, looked at now and then: do they grow?"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil

from tests.chaos.crews import Missed
from tests.chaos.world import World
from tests.running import command_of

TRAINER_MODULE = "worker.training.trainer"
EVERY_S = 5.0
SETTLED_S = 300.0  # a process that is younger still grows for good reasons: imports, pools, the first models
HOUR_S = 3600.0
TELLING_S = 600.0  # one process must have been looked at for so long before its slope is believed
MOST_MB, MOST_FILES = 50.0, 20.0  # an hour; the pools of an allocator and of connections fill up, and then stay
TRAINING, TRAINER = "training child", "trainer"
BROKER = "broker, beyond its clients' connections"  # those come and go with the crews


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment. `at`: seconds since the run began; `age_s`: since the process did.

    That of a training worker's child: since it was first seen with a trainer. Before, it has not done anything.
    """

    role: str
    pid: int
    at: float
    age_s: float
    rss: int
    files: int


class Samples:
    """A thread that looks at every process."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._begun = time.time()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="samples", daemon=True)
        self.all: list[Sample] = []
        self._trains_since: dict[psutil.Process, float] = {}

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(EVERY_S):
            now, held = time.time(), set[int]()
            for role, process in self._processes():  # the broker comes last
                with suppress(psutil.Error):
                    begun = self._at_work_since(role, process, now)
                    rss, files = process.memory_info().rss, process.num_fds()
                    if role == BROKER:
                        files -= len(held)
                    else:
                        held |= connections(process, self._world.broker_proxy.port)
                    self.all.append(Sample(role, process.pid, now - self._begun, now - begun, rss, files))

    def _at_work_since(self, role: str, process: psutil.Process, now: float) -> float:
        if role != TRAINING:
            return process.create_time()
        if process.children():
            self._trains_since.setdefault(process, now)
        return self._trains_since.get(process, now)

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        for crew in self._world.crews.all:
            with suppress(psutil.Error, Missed):  # whatever is being killed at this moment is not looked at
                yield "supervisor", crew.supervisor()
                yield from (("parent", one) for one in crew.parents())
                for child in crew.children():
                    yield _role(child), child
                    yield from ((TRAINER, one) for one in child.children() if TRAINER_MODULE in command_of(one))
        broker = self._world.broker.process
        if broker is not None and broker.poll() is None:
            yield BROKER, psutil.Process(broker.pid)

    def summary(self) -> str:
        """A line for each role: how many samples, the level, and the slope over processes that have settled."""
        lines = [f"  {_line(role, found)}" for role, found in self._settled().items()]
        of = f"memory and descriptors of processes older than {self._settled_s:.0f} s, and of trainers of any age:"
        return "\n".join([of, *lines])

    def grown(self) -> list[str]:
        """Roles whose processes grow; none is known of a run that was too short to tell."""
        wrong = []
        for role, found in self._settled().items():
            memory, files = _slopes(found)
            if (memory is not None and memory > MOST_MB) or (files is not None and files > MOST_FILES):
                wrong.append(f"the {role} processes grow: {_line(role, found)}")
        return wrong

    @property
    def _settled_s(self) -> float:
        return min(SETTLED_S, max((sample.at for sample in self.all), default=0.0) / 4)

    def _settled(self) -> dict[str, list[Sample]]:
        by_role: defaultdict[str, list[Sample]] = defaultdict(list)
        for sample in self.all:
            if sample.role == TRAINER or sample.age_s > self._settled_s:  # a trainer's whole life is shorter
                by_role[sample.role].append(sample)
        return by_role


def connections(process: psutil.Process, port: int) -> set[int]:
    """The connections to that port that a process holds, by their own ports: children hold those of their parents."""
    return {one.laddr.port for one in process.net_connections("tcp") if one.raddr and one.raddr.port == port}


def _role(child: psutil.Process) -> str:
    return TRAINING if "train" in command_of(child) else "child"


def _slopes(found: list[Sample]) -> tuple[float | None, float | None]:
    """Megabytes and descriptors an hour, of the processes that were looked at for long enough to tell; None of none."""
    times: defaultdict[int, list[float]] = defaultdict(list)
    for sample in found:
        times[sample.pid].append(sample.at)
    telling = [one for one in found if max(times[one.pid]) - min(times[one.pid]) >= TELLING_S]
    return within(telling, [one.rss / 1e6 for one in telling]), within(telling, [float(one.files) for one in telling])


def _line(role: str, found: list[Sample]) -> str:
    rss, files = [one.rss / 1e6 for one in found], [one.files for one in found]
    memory, descriptors = _slopes(found)
    growth = "growth not known: none was looked at for long enough"
    if memory is not None and descriptors is not None:
        growth = f"growth an hour {memory:+.2f} MB, {descriptors:+.2f} descriptors"
    return (
        f"{role}: {len(found)} samples of {len({one.pid for one in found})} processes, "
        f"memory {min(rss):.1f} to {max(rss):.1f} MB, descriptors {min(files)} to {max(files)}, {growth}"
    )


def within(found: list[Sample], values: list[float]) -> float | None:
    """The slope by least squares within processes: each one's own level does not count. Per hour; None: unknown."""
    places: defaultdict[int, list[int]] = defaultdict(list)
    for place, sample in enumerate(found):
        places[sample.pid].append(place)
    upper = lower = 0.0
    for mine in places.values():
        mean_at = sum(found[place].at for place in mine) / len(mine)
        mean = sum(values[place] for place in mine) / len(mine)
        upper += sum((found[place].at - mean_at) * (values[place] - mean) for place in mine)
        lower += sum((found[place].at - mean_at) ** 2 for place in mine)
    return HOUR_S * upper / lower if lower else None
