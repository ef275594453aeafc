"""Crews: `pixmill worker` programs of a chaos run, and what a service manager does: start again what ended."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.killing import is_worker
from tests.running import Home

RESTART_S = 0.3
STOP_S = 60.0


class Missed(Exception):
    """There was nothing to hurt: the fault did not happen and does not count."""


@dataclass
class Crew:
    """One supervisor with its workers, on pretended devices."""

    home: Home
    devices: tuple[str, ...]
    queues: str
    log: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    told: set[int] = field(default_factory=set)  # processes that a fault has told to end, or killed
    ends: list[tuple[int, int]] = field(default_factory=list)  # process and status, each time

    def start(self) -> None:
        """Start it; it runs in a session of its own, so that its end is nobody else's."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.home.command("worker", "--devices", ",".join(self.devices), "--queues", self.queues),
                env=self.home.env(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home.path,
                start_new_session=True,
            )  # fmt: skip
        self.starts += 1

    def ended(self) -> bool:
        """Whether it is not running; notes how it ended."""
        if self.process is None:
            return True
        status = self.process.poll()
        if status is None:
            return False
        self.ends.append((self.process.pid, status))
        self.process = None
        return True

    def supervisor(self) -> psutil.Process:
        """The supervisor. Raises Missed."""
        try:
            if self.process is None or self.process.poll() is not None:
                raise Missed
            return psutil.Process(self.process.pid)
        except psutil.Error as error:
            raise Missed from error

    def end(self, number: signal.Signals) -> None:
        """Tell the supervisor to end, or kill it. Raises Missed."""
        process = self.supervisor()
        self.told.add(process.pid)
        try:
            process.send_signal(number)
        except psutil.Error as error:
            raise Missed from error

    def parents(self) -> list[psutil.Process]:
        """The Celery parents of its workers."""
        with suppress(psutil.Error, Missed):
            return [one for one in self.supervisor().children() if is_worker(one)]
        return []

    def children(self) -> list[psutil.Process]:
        """The processes that do the work, a child to each parent."""
        found: list[psutil.Process] = []
        for parent in self.parents():
            with suppress(psutil.Error):
                found += [one for one in parent.children() if is_worker(one)]
        return found


class Crews:
    """All of them, watched by a thread."""

    def __init__(self, crews: list[Crew]) -> None:
        self.all = crews
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="service manager", daemon=True)

    def start(self) -> None:
        """Start every one, and start again whichever ends."""
        for crew in self.all:
            crew.start()
        self._thread.start()

    def _watch(self) -> None:
        due: dict[int, float] = {}
        while not self._ending.wait(0.05):
            for number, crew in enumerate(self.all):
                if crew.process is not None and not crew.ended():
                    continue
                if time.monotonic() > due.setdefault(number, time.monotonic() + RESTART_S):
                    del due[number]
                    crew.start()

    def stop(self) -> list[str]:
        """SIGTERM to all, and wait; what did not go as it should, in words."""
        self._ending.set()
        self._thread.join()
        running = [crew for crew in self.all if crew.process is not None and crew.process.poll() is None]
        for crew in running:
            crew.supervisor().send_signal(signal.SIGTERM)
        wrong = []
        deadline = time.monotonic() + STOP_S
        for crew in running:
            assert crew.process is not None
            try:
                status = crew.process.wait(max(0.1, deadline - time.monotonic()))
                if status:
                    wrong.append(f"a supervisor ended with status {status} when it was told to stop")
            except subprocess.TimeoutExpired:
                crew.process.kill()
                crew.process.wait()
                wrong.append(f"a supervisor did not end within {STOP_S:.0f} s of SIGTERM")
        return wrong

    def kill(self) -> None:
        """End everything at once."""
        self._ending.set()
        for crew in self.all:
            if crew.process is not None and crew.process.poll() is None:
                crew.process.kill()
                crew.process.wait()

    def one(self, rng: random.Random) -> Crew:
        """Any of them."""
        return rng.choice(self.all)

    def a_parent(self, rng: random.Random) -> psutil.Process:
        """Any worker's parent. Raises Missed."""
        return _any(rng, [parent for crew in self.all for parent in crew.parents()])

    def a_child(self, rng: random.Random) -> psutil.Process:
        """Any worker's child. Raises Missed."""
        return _any(rng, [child for crew in self.all for child in crew.children()])


def _any(rng: random.Random, found: list[psutil.Process]) -> psutil.Process:
    if not found:
        raise Missed
    return rng.choice(found)
