"""The threads that look through sources, and what becomes of a job whose source is no good."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
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
from store.errors import DatabaseUnavailable, ScanLost, StoreError

log = logging.getLogger(__name__)

THREADS = 8  # of which two work at a time on what is large; the others are for what is small
WAITING = 1000  # scans; more are refused for now
TRIES = 10  # of a scan that the database breaks off; then that is the job's problem
CHUNK = 2000  # items a transaction: on SQLite others write in between


@dataclass
class Ticket:
    """One scan. Whoever waits for it gets its problem; once nobody does, the job itself tells it."""

    job_id: int
    asked: Asked
    done: Future[None] = field(default_factory=Future)
    unwanted: threading.Event = field(default_factory=threading.Event)
    is_told: bool = False  # the client knows of the job: it may not vanish any more
    tries: int = 0
    _is_decided: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)  # held for a moment only: the event loop takes it

    def tell(self) -> bool:
        """Say that the client will be told of the job; False where the scan is over, or is about to be."""
        with self._lock:
            if not self._is_decided:
                self.is_told = True
            return self.is_told

    def drop(self) -> None:
        """Say that nobody wants the job any more: its scan ends soon, and removes it."""
        with self._lock:
            self.is_told = False
        self.unwanted.set()

    def decide(self, *, unless_told: bool = False) -> bool:
        """Let nobody be told from here on, unless somebody was and the scan is to go on; whether somebody was."""
        with self._lock:
            self._is_decided = self._is_decided or not (unless_told and self.is_told)
            return self.is_told

    def end(self, problem: Problem | None = None) -> None:
        """Finish, with a problem or without."""
        if self.done.done():
            return
        if problem is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(problem)


class Scanner:
    """Scans by a few threads; small ones go past large ones."""

    def __init__(self, context: Context, accepted: Callable[[Ticket], None]) -> None:
        """`accepted` is called with each ticket whose job workers may have."""
        self._context, self._accepted = context, accepted
        self._planner = Planner(context, Turns())
        self._tickets: queue.Queue[Ticket | None] = queue.Queue(WAITING)
        self._threads: list[threading.Thread] = []
        self._owed: deque[Ticket] = deque()  # the database was away at their end
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
                self._hire()
        self._tickets.put(ticket)

    def _hire(self) -> None:
        """One more thread. Where there is none to be had, the next ticket tries again, and so does housekeeping."""
        thread = threading.Thread(target=self._run, name=f"scan-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            log.warning("no thread can be started to look through sources: %s", error)
            return
        self._threads.append(thread)

    def give_up(self, ticket: Ticket) -> None:
        """Remove a job that nobody was told of: now, or once the database is back."""
        ticket.end(Problem("unavailable", f"Job {ticket.job_id} could not be taken; send it again."))
        with self._lock:
            self.live[ticket.job_id] = ticket
        self._settle(ticket, self._discard(ticket))

    def try_again(self) -> None:
        """Go on with what the database was away for, and with what no thread could be started for."""
        with self._lock:
            if self.live and not self._threads:
                self._hire()
        for _ in range(len(self._owed)):
            ticket = self._owed.popleft()
            if not ticket.done.done():
                self._tickets.put(ticket)
                continue
            is_gone = self._discard(ticket)
            self._settle(ticket, is_gone)
            if not is_gone:
                return

    def stop(self) -> None:
        """Leave off; what is half done begins again in another process, or at the next start."""
        for _ in self._threads:
            with suppress(queue.Full):
                self._tickets.put_nowait(None)
        for thread in self._threads:
            thread.join(timeout=1.5 / max(1, len(self._threads)))

    def _run(self) -> None:
        while (ticket := self._tickets.get()) is not None and not self._context.stopping.is_set():
            is_over = True
            try:
                is_over = self._scan(ticket)
            except Exception:  # the thread serves others; the job gives no sign of life, and is taken over
                log.exception("the scan of job %s broke off", ticket.job_id)
                ticket.end(Problem("internal", f"Job {ticket.job_id} could not be looked through."))
            self._settle(ticket, is_over)

    def _settle(self, ticket: Ticket, is_over: bool) -> None:
        if is_over:
            self.live.pop(ticket.job_id, None)
        else:
            self._owed.append(ticket)

    def _scan(self, ticket: Ticket) -> bool:
        """Look through one source; False where the database is away, so that this ticket is to come again."""
        problem: Problem | None = None
        try:
            self._fill(ticket)
        except Stopped:
            problem = Problem("conflict", f"Job {ticket.job_id} was removed while its images were looked for.")
            if not ticket.unwanted.is_set():  # the process stops: the scan is begun again elsewhere
                ticket.end(Problem("unavailable", "The server is stopping."))
                return True
        except ScanLost as error:
            ticket.end(Problem("conflict", str(error)))
            return True
        except DatabaseUnavailable as error:
            if ticket.tries < TRIES and ticket.decide(unless_told=True):
                log.info("the scan of job %s begins again later: %s", ticket.job_id, error)
                return False
            problem = problem_of(error)
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                log.exception("the scan of job %s failed", ticket.job_id)
                problem = Problem(
                    "internal", f"Job {ticket.job_id} could not be looked through: {type(error).__name__}."
                )
        return self._end(ticket, problem)

    def _fill(self, ticket: Ticket) -> None:
        database, job_id = self._context.database, ticket.job_id

        def is_wanted() -> bool:
            return not (ticket.unwanted.is_set() or self._context.stopping.is_set())

        ticket.tries += 1
        if ticket.tries > 1:
            scanning.begin_again(database, job_id)
        with ExitStack() as stack:
            plan = self._planner.plan(ticket.asked, is_wanted, stack)
            scanning.fill(database, job_id, plan.job, plan.items, plan.ignored, chunk=CHUNK)
        self._accepted(ticket)

    def _end(self, ticket: Ticket, problem: Problem | None) -> bool:
        """Let the client know, or the job; False where the database is away."""
        is_told = ticket.decide()
        if problem is None:
            ticket.end()
        elif not is_told:
            is_gone = self._discard(ticket)
            ticket.end(problem)
            return is_gone
        else:
            try:
                scanning.fail_scan(self._context.database, ticket.job_id, str(problem.detail))
            except StoreError as error:
                log.info("the scan of job %s, which failed, begins again later: %s", ticket.job_id, error)
                return False
            ticket.end(problem)
        return True

    def _discard(self, ticket: Ticket) -> bool:
        try:
            scanning.discard(self._context.database, ticket.job_id)
        except StoreError as error:
            log.info("job %s, which was refused, is removed later: %s", ticket.job_id, error)
            return False
        return True
