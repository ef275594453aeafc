"""When each token was last used, written now and then instead of at every request."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from store import tokens
from store.errors import StoreError

if TYPE_CHECKING:
    from api.context import Context

log = logging.getLogger(__name__)

EVERY_S = 30.0


class Touches:
    """Collects uses and writes them in a thread of its own. A part of the context."""

    def __init__(self, context: Context) -> None:
        self._database = context.database
        self._used: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="touches", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def note(self, token_id: str) -> None:
        """A token was used now."""
        with self._lock:
            self._used[token_id] = time.time()

    def flush(self) -> None:
        """Write what was noted. A database that is away costs a time, never a request."""
        with self._lock:
            used, self._used = self._used, {}
        try:
            if used:
                tokens.touch(self._database, used)
        except StoreError as error:
            log.info("the last use of %d tokens was not written: %s", len(used), error)

    def stop(self) -> None:
        """Write the rest and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._flush_anyway()
        self._flush_anyway()

    def _flush_anyway(self) -> None:
        try:
            self.flush()
        except Exception:  # the thread is there for as long as the process
            log.exception("the last use of some tokens was not written")
