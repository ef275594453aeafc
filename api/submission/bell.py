"""The doorbell beside the requests: hints are published by a thread of its own, which a dead broker cannot reach."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress

from api.context import Context

RETRY_S = 2.0
WAITING = 10_000  # hints; more are as good as none, since workers look for work by themselves


class Bell:
    """Rings for jobs. A broker that is down or frozen costs this thread its patience and nobody else's."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._hints: queue.Queue[tuple[int | None, str] | None] = queue.Queue(WAITING)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, which brings Celery in first."""
        self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
        self._thread.start()

    def ring(self, job_id: int, queue_name: str) -> None:
        """Leave a hint and go on at once."""
        try:
            self._hints.put_nowait((job_id, queue_name))
        except queue.Full:
            return  # what lies there already brings the workers

    def stop(self) -> None:
        """End the thread; hints that are left are as good as lost ones."""
        self._stopping.set()
        with suppress(queue.Full):
            self._hints.put_nowait(None)
        if self._thread is not None:
            self._thread.join(timeout=1.5)

    def _run(self) -> None:
        dispatcher = self._context.dispatcher  # half a second of imports
        while not self._stopping.is_set():
            hint = self._hints.get()
            if hint is None:
                return
            if not dispatcher.ring(*hint):
                self._make_up({hint[1]})

    def _make_up(self, owed: set[str]) -> None:
        """The broker is away: one hint for each queue is enough once it is back, as a worker takes all that is due."""
        while not self._stopping.wait(RETRY_S):
            while not self._hints.empty():
                if hint := self._hints.get_nowait():
                    owed.add(hint[1])
            owed = {name for name in owed if not self._context.dispatcher.ring(None, name)}
            if not owed:
                return
