"""Waiting for PostgreSQL: as long as it works on a question, however long that takes, and no longer.

No limit of time fits a look-up, an export and a migration alike, and none that the server keeps helps where the server
stands still. So whoever hears nothing for a while asks the server, over another connection, whether it is at work on
the question. Where it does not answer that either, or knows nothing of the question, the connection is closed. What the
question did is then as unknown as after any lost connection: `store.commits` asks by token, everything else is fenced.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Generator, Mapping
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import ConnectionTimeout
from psycopg.waiting import wait

T = TypeVar("T")

SILENCE_S = 3.0  # without a byte from the server before it is asked what it does
ASK_S = 5  # for its answer to that, in whole seconds: a busy machine takes some to open a connection
AGAIN_S = 2.0  # a server that was found silent is not tried again for so long: who asks meanwhile is told at once
LOOK_S = 0.1  # between two looks at Ctrl-C and at the clock

_STATE = "SELECT pg_backend_pid(), (SELECT state FROM pg_stat_activity WHERE pid = %s)"


class Unanswered(psycopg.OperationalError):
    """The server does not answer any more; nobody knows what it did last."""


class Server:
    """What the connections to one server share: how to reach it, and whether it was silent a moment ago."""

    def __init__(self) -> None:
        self._silent_until = 0.0
        self._lock = threading.Lock()

    def connect(self, *arguments: Any, **parameters: Any) -> Patient:
        """A connection that does not wait for ever. Raises psycopg.OperationalError."""
        if time.monotonic() < self._silent_until:
            raise Unanswered("it did not answer a moment ago")
        try:
            made = Patient.connect(*arguments, **parameters)
        except ConnectionTimeout:
            self._note_silence()
            raise
        made.server, made.parameters = self, {**parameters, "conninfo": arguments[0] if arguments else ""}
        return made

    def works_for(self, connection: Patient) -> bool:
        """Whether the server is at work on what this connection asked; True where that cannot be known."""
        with self._lock:
            if time.monotonic() < self._silent_until:
                return False
            try:
                with _Hasty.connect(**_same_server(connection)) as other:
                    mine, state = other.execute(_STATE, [connection.info.backend_pid]).fetchone() or (0, None)
                    is_direct = mine == other.info.backend_pid
            except psycopg.OperationalError as error:
                # A refusal is an answer too: it has no connection left, or is about to end.
                if not isinstance(error, Unanswered | ConnectionTimeout) and "FATAL" in str(error):
                    return True
                self._note_silence()
                return False
            # A pooler in between has numbers of its own; then nothing is known.
            return not is_direct or (state is not None and not state.startswith("idle"))

    def _note_silence(self) -> None:
        self._silent_until = time.monotonic() + AGAIN_S


class Patient(psycopg.Connection[Any]):
    """A connection that waits for its server while it works, and closes itself where the server is gone."""

    server: Server | None = None  # until it is there
    parameters: Mapping[str, Any] = {}

    def wait(self, gen: PQGen[T], interval: float = LOOK_S, timeout: float | None = None) -> T:
        """Wait for the end of an exchange with the server. Raises Unanswered."""
        return super().wait(self._watched(gen), interval, timeout)

    def _watched(self, gen: PQGen[T]) -> Generator[Any, Any, T]:
        """The same exchange; it is looked at whenever it was silent for a while."""
        try:
            heard = time.monotonic()
            step = next(gen)
            while True:
                is_ready = yield step
                now = time.monotonic()
                if is_ready:
                    heard = now
                elif now - heard > SILENCE_S:
                    self._check_server(now - heard)
                    heard = time.monotonic()
                step = gen.send(is_ready)
        except StopIteration as end:
            result: T = end.value
            return result

    def _check_server(self, silent_s: float) -> None:
        """Go on, or close the connection. Raises Unanswered."""
        if self.server is None or self.server.works_for(self):
            return
        if select.select([self.pgconn.socket], [], [], 0)[0]:  # the answer came while we asked
            return
        self.pgconn.finish()
        raise Unanswered(f"it has not answered for {silent_s + ASK_S:.0f} s")


class _Hasty(psycopg.Connection[Any]):
    """A connection that waits for nothing longer than ASK_S."""

    def wait(self, gen: PQGen[T], interval: float = LOOK_S, timeout: float | None = None) -> T:
        begun = time.monotonic()
        try:
            return wait(gen, self.pgconn.socket, interval, ASK_S if timeout is None else timeout)
        except psycopg.OperationalError as error:
            if time.monotonic() - begun < ASK_S:
                raise
            self.pgconn.finish()
            raise Unanswered("it did not answer") from error


def _same_server(connection: Patient) -> dict[str, Any]:
    """How to reach the very server that a connection is to: not by name, which may lead to another one by now."""
    found = {**connection.parameters, "connect_timeout": ASK_S, "options": "", "autocommit": True}
    if address := connection.info.hostaddr:
        found |= {"host": connection.info.host, "hostaddr": address, "port": connection.info.port}
    return found
