"""Submissions of one process: jobs opened, scanned, rung for; what others left half done, taken over."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress

from pydantic import ValidationError

from api.context import Context
from api.problems import Problem
from api.submission.asked import Asked, asked_again
from api.submission.bell import Bell
from api.submission.planning import Planner
from api.submission.scanner import Scanner, Ticket
from api.submission.turns import Turns
from api.uploads.folders import remove_expired
from store import requests, scanning, uploads
from store.errors import StoreError
from store.requests import KeyFreed, RequestKey
from worker.estimate import Look, look

log = logging.getLogger(__name__)

WAIT_S = 0.8  # for a scan; then the answer says `scanning`
LOOK_AFTER_S = 20.0  # between two rounds of housekeeping
KEYS_EVERY = 180  # rounds between two looks at old keys: an hour
LOOKS = 2  # dry runs at a time


class Submissions:
    """Takes jobs, by whichever request thread, and brings them to workers."""

    def __init__(self, context: Context) -> None:
        """Start nothing."""
        self._context = context
        self.bell = Bell(context)
        self._scanner = Scanner(context, self._accepted)
        self._planner = Planner(context, Turns())
        self._looks = threading.Semaphore(LOOKS)
        self._keeper: threading.Thread | None = None

    def start(self) -> None:
        """Start the doorbell and the housekeeping; the latter begins with scans that a dead process left."""
        self.bell.start()
        self._keeper = threading.Thread(target=self._keep_house, name="keeper", daemon=True)
        self._keeper.start()

    def stop(self) -> None:
        """Stop all threads; nothing that was promised is lost by it."""
        self._scanner.stop()
        self.bell.stop()
        if self._keeper is not None:
            self._keeper.join(timeout=0.5)

    def open(self, asked: Asked, key: RequestKey | None = None) -> Ticket:
        """Write the job down, durably, and begin to look through its source. Raises Problem, KeyTaken, StoreError."""
        self._scanner.check_room()
        if asked.upload_id is not None and uploads.seal(self._context.database, asked.upload_id) is None:
            raise Problem("not-found", f"There is no upload {asked.upload_id}.")
        try:
            job_id = scanning.open_job(self._context.database, asked.draft(), asked.to_json(), key)
        except KeyFreed as error:
            raise Problem("in-flight", str(error), retry_after=1) from None
        ticket = Ticket(job_id, asked)
        try:
            if asked.upload_id is not None:
                uploads.bind(self._context.database, asked.upload_id, job_id)
        except StoreError:
            self._scanner.give_up(ticket)
            raise
        self._scanner.add(ticket)
        return ticket

    async def settle(self, ticket: Ticket) -> None:
        """Return when the job is accepted, or after a while. Raises the Problem that a quick look found."""
        waited = asyncio.wrap_future(ticket.done)
        done, _ = await asyncio.wait({waited}, timeout=WAIT_S)
        if not done and ticket.tell():
            waited.add_done_callback(_forget)
            return
        await waited

    def ticket(self, job_id: int) -> Ticket | None:
        """The scan of a job that this process is at, or has waiting."""
        return self._scanner.live.get(job_id)

    def abort(self, job_id: int) -> bool:
        """End a scan of this process and remove its job; False where it is not scanned here."""
        ticket = self._scanner.live.get(job_id)
        if ticket is None:
            return False
        ticket.drop()
        with suppress(Exception):  # whatever it ended with, it ended
            ticket.done.exception(timeout=5)
        return True

    def look(self, asked: Asked) -> Look:
        """What a job of this would hold, looked at for a few seconds. Raises Problem, SourceError, InvalidRecipe."""
        if not self._looks.acquire(blocking=False):
            raise Problem("unavailable", f"{LOOKS} dry runs are under way; try again soon.")
        try:
            with ExitStack() as stack:
                return look(self._planner.source(asked, lambda: not self._context.stopping.is_set(), stack))
        finally:
            self._looks.release()

    def _accepted(self, ticket: Ticket) -> None:
        self.bell.ring(ticket.job_id, ticket.asked.queue)

    def _keep_house(self) -> None:
        rounds = 0
        while True:
            self._do("take over scans", self._take_over)
            self._do("go on with scans", self._scanner.try_again)
            self._do("keep scans", self._keep_scans)
            self._do("tidy uploads", lambda: remove_expired(self._context))
            if rounds % KEYS_EVERY == 0:
                self._do("forget old keys", lambda: requests.expire(self._context.database))
            rounds += 1
            if self._context.stopping.wait(LOOK_AFTER_S):
                return

    def _do(self, what: str, chore: Callable[[], object]) -> None:
        """One thing of a round: what goes wrong in it concerns no other, and no later round."""
        try:
            chore()
        except StoreError as error:
            log.info("housekeeping waits to %s: %s", what, error)
        except OSError as error:
            log.warning("housekeeping could not %s: %s", what, error)
        except Exception:  # the thread is there for as long as the process
            log.exception("housekeeping could not %s", what)

    def _keep_scans(self) -> None:
        for job_id in list(self._scanner.live):
            scanning.keep(self._context.database, job_id)

    def _take_over(self) -> None:
        busy = frozenset(self._scanner.live)
        for job_id, request in scanning.abandoned(self._context.database, busy=busy):
            if not scanning.take_over(self._context.database, job_id):
                continue
            try:
                asked = asked_again(request)
            except (ValidationError, KeyError, TypeError) as error:
                log.warning("job %s was asked for in a way that is not understood any more: %s", job_id, error)
                scanning.fail_scan(self._context.database, job_id, "The server was updated meanwhile: submit it again.")
                continue
            log.info("job %s: its scan is taken over", job_id)
            self._scanner.add(Ticket(job_id, asked, is_told=True))


def _forget(done: asyncio.Future[None]) -> None:
    """Nobody waits any more: what went wrong is told by the job."""
    if not done.cancelled():
        done.exception()
