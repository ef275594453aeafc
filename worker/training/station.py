"""A training worker: claims finetune jobs, starts a trainer for each, and writes down what it says.

No TensorFlow here: the trainer has it, and takes all of the device's memory with it when it ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from models.errors import ModelError
from store.claims import give_up, release
from store.errors import LeaseLost
from store.rows import Lease
from store.run_rows import RunRow, Wanted
from store.runs import fail_run, finish_run, previous_error, run_of_job, wanted
from store.sweep import finish_jobs
from worker.devices import Device
from worker.heartbeat import Heartbeat
from worker.memory import give_back
from worker.place import Place
from worker.room import NoRoom, Patience, lacking
from worker.settings import Settings
from worker.training.attempt import Attempt, TrainerDied, tidy
from worker.training.examination import Examination

log = logging.getLogger(__name__)

STALL_S = 900.0  # a trainer may compile a large network, or look through many pictures, without a word
LOOK_S = 1.0  # between two looks at what a person wants


class TrainingStation:
    """Works on finetune jobs on one device, one at a time. One thread uses it."""

    def __init__(self, settings: Settings, device: Device, stopping: Callable[[], bool]) -> None:
        self.place = Place(settings, device, "train", stopping)
        self._settings = settings
        self._stopping = stopping
        self._database = self.place.database
        self._patience = Patience(stopping, self.place.tell_trouble)
        self._lease: Lease | None = None
        self._signs = 0  # of life
        self._wanted: tuple[float, Wanted] = (0.0, "go")

    def drain(self) -> None:
        """Work until the queue is empty or the worker is to stop. Raises StoreError, and whatever a bug raises."""
        self.place.take()
        if not self.place.held:
            return
        while not self._stopping() and (lease := self._patience.through(self.place.claim)) is not None:
            self._lease = lease
            self._work(lease)
            self._lease = None
            give_back()  # its report is drawn here
        finish_jobs(self._database)
        self.place.report("idle")

    def abandon(self, error: Exception) -> None:
        """After `drain` raised: give up what it held. Raises StoreError while the database is away."""
        lease, self._lease = self._lease, None
        if lease is not None and lacking(error) is not None:
            release(self._database, lease)
        elif lease is not None:
            give_up(self._database, lease, f"{type(error).__name__}: {error}")

    def _work(self, lease: Lease) -> None:
        """One attempt at one run: train unless an earlier attempt has, then examine."""
        self._wanted = (0.0, "go")
        limits = {"stall_s": max(self._settings.stall_s, STALL_S), "lease_s": self._settings.lease_s}
        with Heartbeat(self._database, lambda: [lease], self._ticks, **limits):
            try:
                self._attempt(lease, run_of_job(self._database, lease.job_id))
            except LeaseLost:
                log.warning("run of job %d: the lease was lost", lease.job_id)
            except TrainerDied as error:
                log.warning("run of job %d: %s", lease.job_id, error)
                if error.is_bug and previous_error(self._database, lease) == str(error):
                    fail_run(self._database, lease, f"{error} (twice in a row)")
                else:
                    give_up(self._database, lease, str(error))
            except (NoRoom, OSError) as error:
                self._wait_for_room(lease, error)
            except ModelError as error:
                log.warning("run of job %d cannot go on: %s", lease.job_id, error)
                fail_run(self._database, lease, str(error))
        self._tidy(lease)

    def _tidy(self, lease: Lease) -> None:
        """The caches of a run that has ended go."""
        run = run_of_job(self._database, lease.job_id)
        if run.state in ("done", "failed", "cancelled"):
            tidy(self._settings, run)

    def _attempt(self, lease: Lease, run: RunRow) -> None:
        self.place.report("busy", model=run.name)
        if run.model_id is None:
            attempt = Attempt(self._settings, self.place.device, self._database, lease, run, self._patience)
            if not attempt.train(self._wish, self._sign):
                self._leave(lease)
                return
        examination = Examination(self._settings, self._database, lease, self._sign)
        if examination.run(run_of_job(self._database, lease.job_id), self._wish):
            finish_run(self._database, lease, "done")
        else:
            self._leave(lease)

    def _leave(self, lease: Lease) -> None:
        """Give the run back, to go on later or to be closed with its cancelled job."""
        wish = self._wish()
        if wish == "stop" and run_of_job(self._database, lease.job_id).checkpoint is None:  # there is nothing to keep
            finish_run(self._database, lease, "cancelled")
        elif wish != "lost":
            release(self._database, lease)

    def _wait_for_room(self, lease: Lease, error: Exception) -> None:
        """Give a run back for which a disk has no room, so that a person can end it, and look again a little later."""
        what = lacking(error)
        if what is None:
            raise error
        self._patience.through(lambda: release(self._database, lease))
        self._patience.wait(what)

    def _ticks(self) -> int:
        return time.monotonic_ns() if self._patience.is_waiting else self._signs

    def _sign(self) -> None:
        self._signs += 1

    def _wish(self) -> Wanted:
        """What a person wants of this run; asked of the database once a second at the most."""
        looked, wish = self._wanted
        now = time.monotonic()
        lease = self._lease
        if lease is not None and now - looked >= LOOK_S:
            wish = wanted(self._database, lease)
            self._wanted = (now, wish)
        return "pause" if wish == "go" and self._stopping() else wish
