"""Supervision: one Celery worker per device and queue, kept running; the embedded broker, kept running; the sweeper.

Everything happens in one thread: the kernel ends a child with the thread that started it, so that one has to stay.
"""

from __future__ import annotations

import logging
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from worker.broker import BrokerError, EmbeddedBroker
from worker.devices import Device
from worker.processes import MISCONFIGURED, kill_group, start_child
from worker.settings import Settings

if TYPE_CHECKING:
    from worker.sweeper import Sweeper

log = logging.getLogger(__name__)

TICK_S = 0.1
SWEEP_S = 3.0
FIRST_SWEEP_S = 1.5  # a worker that starts looks for work by itself
DRAIN_S = 30.0  # what a worker may take to finish its batch and give its shards back
BACKOFF_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # before a restart, by how many deaths came close together
STEADY_S = 60.0  # a worker that lived this long starts again without a wait


@dataclass(slots=True)
class Seat:
    """One device, the queue that is served there, and the worker process that sits there."""

    device: Device
    queue: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    not_before: float = 0.0


@dataclass(slots=True)
class Supervisor:
    """Keeps the workers of this machine running. `notify` hears of restarts, in words for a person."""

    settings: Settings
    devices: Sequence[Device]
    notify: Callable[[str], None] = lambda _: None
    queues: Sequence[str] = ("classify",)
    _seats: list[Seat] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _broker: EmbeddedBroker | None = None
    _ready: threading.Event = field(default_factory=threading.Event)
    _error: Exception | None = None
    _last_trouble: str = ""

    def start(self) -> None:
        """Start everything; returns when the broker answers. Raises BrokerError, OSError."""
        self._seats = [Seat(device, queue) for queue in self.queues for device in self.devices]
        self._thread = threading.Thread(target=self._run, name="supervisor")
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        """Drain the workers in order, then stop the broker if it is ours. Nothing is left running."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def is_hopeless(self) -> bool:
        """Of some queue no worker runs, and none will be started again."""
        ended = self._thread is not None and not self._thread.is_alive() and not self._stop.is_set()
        alive = {seat.queue for seat in self._seats if seat.not_before < math.inf}
        return ended or (bool(self._seats) and alive != set(self.queues))

    def _run(self) -> None:
        try:
            for seat in self._seats:
                self._keep(seat)
            if self.settings.broker_url is None:
                self._broker = EmbeddedBroker(self.settings)
                self._broker.start()
        except (BrokerError, OSError) as error:
            self._error = error
            self._end()
            return
        finally:
            self._ready.set()
        try:
            self._watch()
        finally:
            self._end()

    def _watch(self) -> None:
        sweeper: Sweeper | None = None
        next_sweep = time.monotonic() + FIRST_SWEEP_S
        while not self._stop.wait(TICK_S):
            self._keep_all()
            if time.monotonic() >= next_sweep:
                sweeper = sweeper or self._make_sweeper()
                sweeper.sweep()
                next_sweep = time.monotonic() + SWEEP_S * random.uniform(0.8, 1.2)  # noqa: S311  spreads the sweepers
        if sweeper is not None:
            sweeper.close()

    def _keep_all(self) -> None:
        """Start again what has ended; where the system refuses that, try again at the next look."""
        try:
            if self._broker is not None:
                self._broker.keep()
            for seat in self._seats:
                self._keep(seat)
        except (BrokerError, OSError) as error:
            if str(error) != self._last_trouble:
                log.warning("supervision: %s", error)
                self.notify(f"Something is in the way of the workers: {error}")
            self._last_trouble = str(error)

    def _make_sweeper(self) -> Sweeper:
        from worker.sweeper import Sweeper  # SQLAlchemy and Celery: half a second that a short command does not need

        return Sweeper(self.settings, self.queues, len(self.devices))

    def _keep(self, seat: Seat) -> None:
        """Start a seat's worker if it is not running and its wait is over."""
        now = time.monotonic()
        if seat.process is not None:
            status = seat.process.poll()
            if status is None:
                return
            self._note_death(seat, status, now)
        if now >= seat.not_before:
            seat.process = self._start_worker(seat)
            seat.started = now

    def _note_death(self, seat: Seat, status: int, now: float) -> None:
        kill_group(seat.process) if seat.process else None  # no child of it may keep the device
        seat.process = None
        seat.deaths = 0 if now - seat.started > STEADY_S else seat.deaths + 1
        wait = math.inf if status == MISCONFIGURED else BACKOFF_S[min(seat.deaths, len(BACKOFF_S) - 1)]
        seat.not_before = now + wait
        again = "it stays down" if status == MISCONFIGURED else f"starting it again in {wait:.0f} s"
        log.warning("the %s worker on %s ended with status %s; %s", seat.queue, seat.device.title, status, again)
        who = "worker" if seat.queue == "classify" else f"{seat.queue} worker"
        self.notify(f"The {who} on {seat.device.title} ended (status {status}); {again}. Log: {self._log_path(seat)}")

    def _log_path(self, seat: Seat) -> Path:
        post = "" if seat.queue == "classify" else f"{seat.queue}-"
        return self.settings.log_folder / f"worker-{post}{seat.device.name}.log"

    def _start_worker(self, seat: Seat) -> subprocess.Popen[bytes]:
        device = seat.device
        environment = {
            **os.environ,
            **self.settings.environment(),
            "PIXMILL_QUEUE": seat.queue,
            "PIXMILL_DEVICE_NAME": device.name,
            "PIXMILL_DEVICE": device.visible,
            "PIXMILL_DEVICE_TITLE": device.title,
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUDA_VISIBLE_DEVICES": device.visible,
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        }
        # -P: a folder named models or worker where the user stands must not be imported instead of ours.
        name = device.name if seat.queue == "classify" else f"{device.name}-{seat.queue}"
        command = [sys.executable, "-P", "-m", "worker", seat.queue, name]
        self.settings.run_folder.mkdir(parents=True, exist_ok=True)
        return start_child(
            command,
            environment=environment,
            cwd=self.settings.run_folder,
            log=self._log_path(seat),
        )

    def _end(self) -> None:
        """Tell every worker to finish its batch, wait, then stop the broker: workers go before what they speak with."""
        running = [seat.process for seat in self._seats if seat.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + DRAIN_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("worker %d did not end within %.0f s: killed", process.pid, DRAIN_S)
            kill_group(process)
            process.wait()
        if self._broker is not None:
            self._broker.stop()
