"""Supervision: one worker per device and queue, the embedded broker, and whatever else is given, kept running.

Everything happens in one thread: the kernel ends a child with the thread that started it, so that one has to stay.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from worker.broker import STOP_S as BROKER_STOP_S
from worker.broker import BrokerError, EmbeddedBroker
from worker.devices import Device
from worker.kept import Kept, Program, drain
from worker.rounds import Rounds
from worker.settings import Settings

log = logging.getLogger(__name__)

TICK_S = 0.1
STUCK = "took no work for long though there was some, and is ended"
DRAIN_S = 30.0  # what a worker may take to finish its batch and give its shards back
PROGRAM_DRAIN_S = 10.0  # what any other program may take to answer whoever it is speaking with
STOP_S = PROGRAM_DRAIN_S + DRAIN_S + BROKER_STOP_S  # for everything, at the most


@dataclass(slots=True)
class Supervisor:
    """Keeps this machine's workers running, and `programs` beside them.

    `notify` hears of deaths and restarts, in words for a person.
    """

    settings: Settings
    devices: Sequence[Device]
    notify: Callable[[str], None] = lambda _: None
    queues: Sequence[str] = ("classify",)
    programs: Sequence[Program] = ()
    workers: list[Kept] = field(default_factory=list, init=False)
    others: list[Kept] = field(default_factory=list, init=False)
    broker: EmbeddedBroker | None = field(default=None, init=False)  # None: the settings name one
    _stop: threading.Event = field(default_factory=threading.Event)
    _hurry: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _ready: threading.Event = field(default_factory=threading.Event)
    _error: Exception | None = None
    _troubles: dict[str, str] = field(default_factory=dict)  # the last one of each program

    def start(self) -> None:
        """Start everything; returns when the broker answers. Raises BrokerError, OSError."""
        self.workers = [
            Kept(self._worker(device, queue), self.notify) for queue in self.queues for device in self.devices
        ]
        self.others = [Kept(program, self.notify) for program in self.programs]
        self._thread = threading.Thread(target=self._run, name="supervisor")
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        """End in order: programs, workers after their batch, the broker if it is ours. Nothing is left running."""
        self.begin_stop()
        if self._thread is not None:
            self._thread.join()

    def begin_stop(self) -> None:
        """Begin to end; `ended` says when nothing runs any more."""
        self._stop.set()

    def hurry(self) -> None:
        """Do not wait for anything any more: kill what still runs. Workers' shards are given to others."""
        self._hurry.set()
        self._stop.set()

    @property
    def is_stopping(self) -> bool:
        """Whether everything was told to end."""
        return self._stop.is_set()

    @property
    def hurried(self) -> bool:
        """Whether `hurry` was called."""
        return self._hurry.is_set()

    def wait_ended(self, seconds: float) -> bool:
        """Wait until everything has ended, so long at the most; whether it has."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self.ended

    @property
    def ended(self) -> bool:
        """Whether everything has ended."""
        return self._thread is None or not self._thread.is_alive()

    @property
    def is_hopeless(self) -> bool:
        """Of some queue no worker runs, and none will be started again."""
        ended = self._thread is not None and self.ended and not self._stop.is_set()
        alive = {kept.program.queue for kept in self.workers if kept.state != "down"}
        return ended or (bool(self.workers) and alive != set(self.queues))

    def _run(self) -> None:
        try:
            for kept in (*self.others, *self.workers):
                kept.keep()
            if self.settings.broker_url is None:
                self.broker = EmbeddedBroker(self.settings, self.notify)
                self.broker.start()
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
        rounds = Rounds(self.settings, self.queues, self.workers, self.notify)
        rounds.start()
        while not self._stop.wait(TICK_S):
            self._keep_all()
            for kept, pid in rounds.take_stuck():
                kept.restart(pid, STUCK)
        rounds.end()

    def _keep_all(self) -> None:
        """Start again what has ended; where the system refuses that, try again at the next look."""
        if self.broker is not None:
            self._keep("The broker", self.broker.keep)
        for kept in (*self.others, *self.workers):
            self._keep(kept.program.title, kept.keep)

    def _keep(self, title: str, keep: Callable[[], object]) -> None:
        """One of them: what is in its way is not in that of the others."""
        try:
            keep()
        except (BrokerError, OSError) as error:
            if self._troubles.get(title) != str(error):
                log.warning("supervision: %s: %s", title, error)
                self.notify(f"Something is in the way of the workers: {error}")
            self._troubles[title] = str(error)

    def _worker(self, device: Device, queue: str) -> Program:
        """The worker program of a queue on a device."""
        plain = queue == "classify"
        environment = {
            **os.environ,
            **self.settings.environment(),
            "PIXMILL_QUEUE": queue,
            "PIXMILL_DEVICE_NAME": device.name,
            "PIXMILL_DEVICE": device.visible,
            "PIXMILL_DEVICE_TITLE": device.title,
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUDA_VISIBLE_DEVICES": device.visible,
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        }
        # -P: a folder named models or worker where the user stands must not be imported instead of ours.
        name = device.name if plain else f"{device.name}-{queue}"
        return Program(
            kind="worker",
            title=f"The {'worker' if plain else f'{queue} worker'} on {device.title}",
            command=[sys.executable, "-P", "-m", "worker", queue, name],
            log=self._log_path(device, queue),
            folder=self.settings.run_folder,
            environment=environment,
            queue=queue,
            device=device.title,
            id=device.worker_id(self.settings.run_folder, queue),
            lock=device.lock_path(self.settings.run_folder, queue),
        )

    def _log_path(self, device: Device, queue: str) -> Path:
        post = "" if queue == "classify" else f"{queue}-"
        return self.settings.log_folder / f"worker-{post}{device.name}.log"

    def _end(self) -> None:
        """End in order: who takes work, who does it once its batch is whole, then what they speak with."""
        drain(self.others, PROGRAM_DRAIN_S, self._hurry.is_set)
        drain(self.workers, DRAIN_S, self._hurry.is_set)
        if self.broker is not None:
            self.broker.stop()
