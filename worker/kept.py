"""One program that is kept running: started again when it ends, after a wait that grows with each death."""

from __future__ import annotations

import logging
import math
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from worker.processes import MISCONFIGURED, kill_group, start_child

log = logging.getLogger(__name__)

BACKOFF_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # before a restart, by how many deaths came close together
KILL_S = 5.0  # until a killed process is gone
STEADY_S = 60.0  # a program that lived this long starts again without a wait

State = Literal["running", "waiting", "down", "stopped"]


@dataclass(frozen=True, slots=True)
class Program:
    """What is started, and how it is called.

    `kind` is its place on a status page (api, broker, worker); `title` begins a sentence about it. An exit status
    among `hopeless` says that starting it again would not help.
    """

    kind: str
    title: str
    command: Sequence[str | Path]
    log: Path
    folder: Path
    environment: Mapping[str, str] | None = None
    hopeless: Collection[int] = (MISCONFIGURED,)
    queue: str = ""  # of a worker
    device: str = ""  # of a worker: its title
    id: str = ""  # of a worker: the name under which it signs in
    lock: Path | None = None  # of a worker: that of its place
    prepare: Callable[[], None] | None = None  # called before each start; what it raises puts the start off


@dataclass(slots=True)
class Kept:
    """A program and its process. One thread keeps it; others may look. `notify` hears of deaths, in words."""

    program: Program
    notify: Callable[[str], None] = lambda _: None
    backoff_s: Sequence[float] = BACKOFF_S
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0  # monotonic, as is not_before
    deaths: int = 0  # that came close together
    restarts: int = 0  # ever
    not_before: float = 0.0
    is_stopped: bool = False  # it was told to end, and did

    @property
    def pid(self) -> int:
        """The process, which leads a group of its own; 0 where none runs."""
        process = self.process
        return process.pid if process is not None else 0

    @property
    def state(self) -> State:
        """running; waiting to be started (again); down, for good; stopped, because it was to end."""
        if self.is_stopped:
            return "stopped"
        if self.process is not None:
            return "running"
        return "down" if self.not_before == math.inf else "waiting"

    @property
    def wait_s(self) -> float:
        """How long until it is started again, in seconds."""
        return max(0.0, self.not_before - time.monotonic())

    def keep(self) -> None:
        """Start the program if it is not running and its wait is over; call it often. Raises OSError."""
        now = time.monotonic()
        if self.process is not None:
            status = self.process.poll()
            if status is None:
                return
            self._note_death(status, now)
        if now >= self.not_before:
            program = self.program
            program.folder.mkdir(parents=True, exist_ok=True)
            if program.prepare is not None:
                program.prepare()
            self.process = start_child(
                program.command, environment=program.environment, cwd=program.folder, log=program.log
            )
            self.restarts += self.started > 0
            self.started = now

    def restart(self, pid: int, why: str) -> None:
        """Kill the program where it is still this process, and note its death; `keep` starts it again."""
        process = self.process
        if process is None or process.pid != pid:
            return
        kill_group(process)
        with suppress(subprocess.TimeoutExpired):  # then the next look finds it ended
            self._note_death(process.wait(KILL_S), time.monotonic(), why)

    def _note_death(self, status: int, now: float, why: str = "") -> None:
        if self.process is not None:
            kill_group(self.process)  # no child of it may keep the device, or the port
        self.process = None
        self.deaths = 0 if now - self.started > STEADY_S else self.deaths + 1
        hopeless = status in self.program.hopeless
        wait = math.inf if hopeless else self.backoff_s[min(self.deaths, len(self.backoff_s) - 1)]
        self.not_before = now + wait
        again = "it stays down" if hopeless else f"starting it again in {wait:.0f} s" if wait else "starting it again"
        ended = why or f"ended (status {status})"
        log.warning("%s %s; %s", self.program.title, ended, again)
        self.notify(f"{self.program.title} {ended}; {again}. Log: {self.program.log}")


def drain(kept: Sequence[Kept], grace_s: float, hurry: Callable[[], bool]) -> None:
    """Tell these to end, wait for as long as `grace_s` or until `hurry`, and kill what is left. They stay ended."""
    running = [(one, one.process) for one in kept if one.process is not None]
    for _, process in running:
        process.terminate()
    deadline = time.monotonic() + grace_s
    while any(process.poll() is None for _, process in running) and time.monotonic() < deadline and not hurry():
        time.sleep(0.02)
    for one, process in running:
        if process.poll() is None:
            log.warning("%s did not end by itself: killed", one.program.title)
        kill_group(process)
        process.wait()
        one.process = None
    for one in kept:
        one.is_stopped = True
