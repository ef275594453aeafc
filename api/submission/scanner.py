"""The threads that look through sources, and what becomes of a job whose source is no good."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from api.context import Context
from api.problems import Problem, problem_of
from api.submission.asked import Asked
from api.submission.planning import Planner
from api.submission.turns import Stopped, Turns
from store import scanning
from store.errors import ScanLost, StoreError

log = logging.getLogger(__name__)

THREADS = 8  # of which two work at a time on what is large; the others are for what is small
WAITING = 1000  # scans; more are refused for now
CHUNK = 2000  # items a transaction: on SQLite others write in between


@dataclass
class Ticket:
    """One scan. Whoever waits for it gets its problem; once nobody does, the job itself tells it."""

    job_id: int
    asked: Asked
    done: Future[None] = field(default_factory=Future)
    unwanted: threading.Event = field(default_factory=threading.Event)
    is_told: bool = False  # the client knows of the job: it may not vanish any more
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self) -> bool:
        """Say that the client will be told of the job; False where the scan is over already."""
        with self._lock:
            if not self.done.done():
                self.is_told = True
            return self.is_told

    def drop(self) -> None:
        """Say that nobody wants the job any more: its scan ends soon, and removes it."""
        with self._lock:
            self.is_told = False
        self.unwanted.set()

    def end(self, problem: Problem | None, when_told: Callable[[], object], when_not: Callable[[], object]) -> None:
        """Finish, with a problem or without."""
        with self._lock:
            if problem is not None:
                with suppress(StoreError):  # it is taken over later, and tried again
                    when_told() if self.is_told else when_not()
                self.done.set_exception(problem)
            else:
                self.done.set_result(None)


class Scanner:
    """Scans by a few threads; small ones go past large ones."""

    def __init__(self, context: Context, accepted: Callable[[Ticket], None]) -> None:
        """`accepted` is called with each ticket whose job workers may have."""
        self._context, self._accepted = context, accepted
        self._planner = Planner(context, Turns())
        self._tickets: queue.Queue[Ticket | None] = queue.Queue(WAITING)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.live: dict[int, Ticket] = {}

    def check_room(self) -> None:
        """Raise Problem 503 where too many scans wait."""
        if len(self.live) >= WAITING:
            raise Problem("unavailable", f"{WAITING} submissions are being looked through; try again soon.")

    def add(self, ticket: Ticket) -> None:
        """Scan when a thread is free."""
        with self._lock:
            self.live[ticket.job_id] = ticket
            if len(self._threads) < min(THREADS, len(self.live)):
                thread = threading.Thread(target=self._run, name=f"scan-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._tickets.put(ticket)

    def stop(self) -> None:
        """Leave off; what is half done begins again in another process, or at the next start."""
        for _ in self._threads:
            with suppress(queue.Full):
                self._tickets.put_nowait(None)
        for thread in self._threads:
            thread.join(timeout=1.5 / max(1, len(self._threads)))

    def _run(self) -> None:
        while (ticket := self._tickets.get()) is not None and not self._context.stopping.is_set():
            try:
                self._scan(ticket)
            finally:
                self.live.pop(ticket.job_id, None)

    def _scan(self, ticket: Ticket) -> None:
        database, job_id = self._context.database, ticket.job_id

        def is_wanted() -> bool:
            return not (ticket.unwanted.is_set() or self._context.stopping.is_set())

        problem: Problem | None = None
        try:
            with ExitStack() as stack:
                plan = self._planner.plan(ticket.asked, is_wanted, stack)
                scanning.fill(database, job_id, plan.job, plan.items, plan.ignored, chunk=CHUNK)
            self._accepted(ticket)
        except Stopped:
            problem = Problem("conflict", f"Job {job_id} was removed while its images were looked for.")
            if not ticket.unwanted.is_set():  # the process stops: the scan is begun again elsewhere
                ticket.done.set_exception(Problem("unavailable", "The server is stopping."))
                return
        except ScanLost as error:
            ticket.done.set_exception(Problem("conflict", str(error)))
            return
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                log.exception("the scan of job %s failed", job_id)
                problem = Problem("internal", f"Job {job_id} could not be looked through: {type(error).__name__}.")
        reason = str(problem.detail) if problem is not None else ""
        ticket.end(
            problem,
            when_told=lambda: scanning.fail_scan(database, job_id, reason),
            when_not=lambda: scanning.discard(database, job_id),
        )
