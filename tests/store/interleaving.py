"""Two actions on one database, interleaved on purpose: one stands still at a statement while the other runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event, text

from store.database import Database
from store.errors import StoreError

PATIENCE_S = 60.0
POLL_S = 0.004
SQLITE_LOOK_S = 0.03  # a writer of SQLite that has not come in by then is waiting for the one who stands still
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


class Acting(threading.Thread):
    """One action in a thread of its own; `outcome` is what it returned or raised."""

    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._act = act
        self.outcome: Any = None

    def run(self) -> None:
        try:
            self.outcome = self._act()
        except (StoreError, AssertionError) as error:
            self.outcome = error


class Halt:
    """Makes one thread stand still before its `at`th statement, counted from 0, until `go`."""

    def __init__(self, at: int, *, only_transactions: bool) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()
        self._left = at
        self._only_transactions = only_transactions  # a transaction that writes SQLite keeps everybody else waiting
        self.thread: int | None = None

    def before(self, _: Connection, __: Any, statement: str, *___: Any) -> None:
        """Called before every statement of every thread."""
        if threading.get_ident() != self.thread or self.reached.is_set():
            return
        if self._only_transactions and not statement.startswith("BEGIN"):
            return
        if self._left == 0:
            self.reached.set()
            assert self.go.wait(PATIENCE_S)
        self._left -= 1


@contextmanager
def _watched(database: Database, halt: Halt) -> Iterator[None]:
    event.listen(database.engine, "before_cursor_execute", halt.before)
    try:
        yield
    finally:
        event.remove(database.engine, "before_cursor_execute", halt.before)


def interleave(
    database: Database, first: Callable[[], Any], second: Callable[[], Any], at: int
) -> tuple[Any, Any] | None:
    """Run `first` up to its statement `at`, then `second` until it has ended or waits, then both to their ends.

    Returns their outcomes; None where `first` has fewer statements (then `second` did not run).
    """
    halt = Halt(at, only_transactions=database.is_sqlite)

    def halting() -> Any:
        halt.thread = threading.get_ident()
        return first()

    one, two = Acting(halting), Acting(second)
    with _watched(database, halt):
        one.start()
        while one.is_alive() and not halt.reached.wait(POLL_S):
            pass
        if not halt.reached.is_set():
            return None
        two.start()
        _until_it_waits(database, two)
        halt.go.set()
        for thread in (one, two):
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "two actions wait for each other for ever"
    return one.outcome, two.outcome


def _until_it_waits(database: Database, thread: threading.Thread) -> None:
    if database.is_sqlite:
        thread.join(SQLITE_LOOK_S)
        return
    with database.engine.connect() as connection:
        until = time.monotonic() + PATIENCE_S
        while thread.is_alive() and time.monotonic() < until:
            thread.join(POLL_S)
            waits = connection.scalar(text(_WAITING))
            connection.rollback()
            if waits:
                return
