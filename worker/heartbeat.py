"""The thread that keeps leases alive while progress is made, and brings back pause, cancel and loss."""

import logging
import os
import threading
import time
from collections.abc import Callable

from store.claims import renew
from store.database import Database
from store.errors import StoreError
from store.failpoints import reach
from store.rows import Lease
from store.states import CLAIMABLE

log = logging.getLogger(__name__)

BEATS = 12  # per lease: eleven may be missed, and a pause or cancel is noticed within one
STALLED = 75  # exit status: the process hung; the pool starts another


class Heartbeat:
    """Renews the leases of one drain. Use it as a context manager around the work."""

    def __init__(
        self,
        database: Database,
        leases: Callable[[], list[Lease]],
        progress: Callable[[], int],
        *,
        stall_s: float,
        lease_s: float,
    ) -> None:
        self._database = database
        self._lease_s = lease_s
        self._leases = leases
        self._progress = progress
        self._stall_s = stall_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self.halt = threading.Event()  # set: the job is paused, cancelled or lost; stop taking new items
        self.lost: set[str] = set()  # tokens

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        last_count, last_change = -1, time.monotonic()
        while not self._ended.wait(self._lease_s / BEATS):
            count = self._progress()
            if count != last_count:
                last_count, last_change = count, time.monotonic()
            elif time.monotonic() - last_change > self._stall_s:
                # A hung device call cannot be interrupted from here; the lease ends and another process takes over.
                log.error("no progress for %.0f s: giving up this process", self._stall_s)
                os._exit(STALLED)
            self._beat()

    def _beat(self) -> None:
        leases = self._leases()
        if not leases:
            return
        try:
            reach("renew.before")
            states = renew(self._database, leases, self._lease_s)
        except StoreError as error:
            log.warning("could not renew leases: %s", error)  # they last for eleven more beats
            return
        for lease in leases:
            state = states[lease.token]
            if state is None:
                self.lost.add(lease.token)
            elif state not in CLAIMABLE:
                self.halt.set()
