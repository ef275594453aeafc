"""Sends what webhooks are owed: each delivery leased in SQL, sent signed, settled; again later where that failed."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from api.context import Context
from api.webhooks import signing
from api.webhooks.posting import Answer, Poster
from store import hooks
from store.errors import StoreError
from store.hooks import Due

log = logging.getLogger(__name__)

# Before attempts 2 … 8; with up to a tenth more, so that not all come back at once. In sum 18.7 hours.
RETRY_S = (5.0, 60.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0)
ATTEMPTS = len(RETRY_S) + 1
TICK_S = 1.0
TROUBLE_S = 5.0  # while the database cannot be used
SENDERS = 8  # calls under way at once; half of them for one owner
LEASE_S = 60.0  # far longer than a call may take
STOP_S = 0.8  # for the thread, and for the calls under way
KEPT_S = 14 * 86_400.0  # how long the log keeps a delivery that was settled
PRUNE_S = 3600.0


class Sender:
    """The thread that sends. Several processes may each have one: no two lease the same delivery."""

    def __init__(self, context: Context, poster: Poster | None = None, now: Callable[[], float] = time.time) -> None:
        """Starts nothing. `now` (seconds since 1970) is what goes into the signature."""
        self._database = context.database
        self._poster = poster or Poster(allow_private=context.settings.allow_private_webhooks)
        self._now = now
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._calls: set[threading.Thread] = set()
        self._is_stopped = False
        self._pruned = time.monotonic()

    def start(self) -> None:
        """Begin to send."""
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Lease nothing more, and give the calls under way a moment: one that is cut off is sent again, by its id."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_S)
        deadline = time.monotonic() + STOP_S
        for call in list(self._calls):
            call.join(max(0.0, deadline - time.monotonic()))
        self._is_stopped = True

    def wake(self) -> None:
        """Look now whether there is something to send."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                started = self.turn()
                wait = 0.0 if started else TICK_S
            except StoreError as error:
                log.warning("Webhooks wait: %s", error)
                wait = TROUBLE_S
            except Exception:  # the thread is there for as long as the process
                log.exception("Webhooks wait")
                wait = TROUBLE_S
            self._wake.wait(wait)

    def turn(self) -> int:
        """Make deliveries of new events, and start to send what is due; returns how many calls were started."""
        hooks.spread(self._database)
        self._prune()
        started = 0
        while len(self._calls) < SENDERS and not self._stopping.is_set():
            leased = hooks.due(self._database, 1, lease_s=LEASE_S, per_owner=SENDERS // 2)
            if not leased:
                break
            self._begin(leased[0])
            started += 1
        return started

    def _begin(self, due: Due) -> None:
        """Send one in a thread of its own. Raises RuntimeError where there is none to be had: it stays due."""
        call = threading.Thread(target=self._send, args=(due,), name="webhook", daemon=True)
        self._calls.add(call)
        try:
            call.start()
        except RuntimeError:
            self._calls.discard(call)
            hooks.give_back(self._database, due.delivery)
            raise

    def _send(self, due: Due) -> None:
        try:
            self.deliver(due)
        except StoreError as error:  # the lease ends, and it is sent again with the same id
            log.warning("Delivery %s could not be settled: %s", due.delivery.message_id, error)
        finally:
            self._calls.discard(threading.current_thread())
            self._wake.set()

    def deliver(self, due: Due) -> Answer:
        """Make one attempt and write how it ended. Raises StoreError."""
        delivery = due.delivery
        if delivery.attempts > ATTEMPTS:  # the last attempt's process died before it could say so
            answer = Answer(error=f"given up after {ATTEMPTS} attempts")
        else:
            body = delivery.body.encode()
            signed = signing.headers(due.secret, delivery.message_id, int(self._now()), body)
            headers = {"Content-Type": "application/json", "User-Agent": "Pixmill-Webhooks/1", **signed}
            answer = self._poster.post(due.url, headers, body)
        if self._is_stopped:  # the database is closed; the lease ends, and it is sent again with the same id
            return answer
        wait = None if answer.ok else _wait(delivery.attempts, answer)
        kept = hooks.settle(self._database, delivery, answer.ok, answer.status, answer.error, wait)
        if answer.is_gone and kept:
            hooks.change(self._database, delivery.webhook_id, active=False)
        said = answer.error or "taken"
        log.info("webhook %s: %s, attempt %d: %s", delivery.webhook_id, delivery.kind, delivery.attempts, said)
        return answer

    def _prune(self) -> None:
        if time.monotonic() - self._pruned > PRUNE_S:
            self._pruned = time.monotonic()
            hooks.prune(self._database, KEPT_S)


def _wait(attempts: int, answer: Answer) -> float | None:
    """Seconds until the next attempt; None where there is none."""
    if attempts >= ATTEMPTS or answer.is_gone:
        return None
    wait = RETRY_S[attempts - 1] * random.uniform(1.0, 1.1)  # noqa: S311  no secret: it only spreads the load
    return max(wait, answer.retry_after_s or 0.0)
