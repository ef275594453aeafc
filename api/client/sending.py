"""Many files on their way to a server: several at once, told of in their order."""

from __future__ import annotations

import io
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue

from typing_extensions import override

from api.client.files import Sending

AT_ONCE = 8  # files under way: small ones wait for the server's answers, not for the wire
WINDOW = 4 * AT_ONCE  # that are handed out before the oldest has arrived
STOP_S = 2.0  # for those under way when it is given up

Send = Callable[[Sending, threading.Event], None]  # sends one file, until the event says that it is given up


class Abandoned(Exception):
    """The sending of this file was given up."""


class Letter(io.FileIO):
    """A file that is being sent. Reading it raises Abandoned once that was given up."""

    def __init__(self, path: Path, given_up: threading.Event) -> None:
        super().__init__(path, "rb")
        self._given_up = given_up

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        if self._given_up.is_set():
            raise Abandoned
        return super().read(-1 if size is None else size) or b""


def in_order(send: Send, files: Iterable[Sending], at_once: int = AT_ONCE) -> Generator[int]:
    """Send files by several threads; yields how many have arrived, in their order. Raises what the first failed with.

    Whoever leaves before the end, by an error or Ctrl-C, does not wait for large files: their threads are let go.
    """
    crew = _Crew(send, at_once)
    waiting: deque[Future[None]] = deque()
    count = 0
    try:
        for sending in files:
            waiting.append(crew.hand_out(sending))
            while waiting and (waiting[0].done() or len(waiting) >= WINDOW):
                waiting.popleft().result()
                yield (count := count + 1)
        while waiting:
            waiting.popleft().result()
            yield (count := count + 1)
    except BaseException:
        crew.give_up()
        raise
    finally:
        crew.dismiss(waiting)


class _Crew:
    """Threads that send, as many as there is work for. Daemons: an upload that hangs does not keep a program alive."""

    def __init__(self, send: Send, most: int) -> None:
        self._send, self._most = send, most
        self._work: SimpleQueue[tuple[Sending, Future[None]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._given_up = threading.Event()

    def hand_out(self, sending: Sending) -> Future[None]:
        future: Future[None] = Future()
        self._work.put((sending, future))
        if len(self._threads) < self._most:
            thread = threading.Thread(target=self._run, name="pixmill-send", daemon=True)
            thread.start()
            self._threads.append(thread)
        return future

    def give_up(self) -> None:
        self._given_up.set()

    def dismiss(self, waiting: Iterable[Future[None]]) -> None:
        """Let all threads end; what still waits is not sent."""
        for future in waiting:
            future.cancel()
        for _ in self._threads:
            self._work.put(None)
        deadline = time.monotonic() + STOP_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            sending, future = work
            if not future.set_running_or_notify_cancel():
                continue
            try:
                self._send(sending, self._given_up)
            except BaseException as error:  # noqa: BLE001  it is raised where the result is asked for
                future.set_exception(error)
            else:
                future.set_result(None)
