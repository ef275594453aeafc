"""Tokens that were looked up a moment ago: most requests come in rows, and each costs no query of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING

from store import tokens
from store.tokens import TokenRow

if TYPE_CHECKING:
    from api.context import Context

KNOWN_S = 1.0  # how long a token that was revoked elsewhere may still be used
MOST = 1_000  # tokens that are remembered


class KnownTokens:
    """The tokens of the last second, by a hash of their secret. Thread-safe. A part of the context."""

    def __init__(self, context: Context, now: Callable[[], float] = time.monotonic) -> None:
        self._database = context.database
        self._now = now
        self._found: dict[bytes, tuple[float, TokenRow]] = {}
        self._lock = threading.Lock()

    def recent(self, secret: str) -> TokenRow | None:
        """The token, if it was looked up within KNOWN_S. Waits for nothing."""
        with self._lock:
            at, row = self._found.get(_key(secret), (0.0, None))
        return row if row is not None and self._now() - at < KNOWN_S else None

    def look_up(self, secret: str) -> TokenRow | None:
        """The token as the database has it now; None where it has none. Raises StoreError."""
        asked = self._now()  # before the query: an answer is as old as its question
        row = tokens.find(self._database, secret)
        if row is not None:
            with self._lock:
                if len(self._found) >= MOST:
                    self._found.clear()
                self._found[_key(secret)] = asked, row
        return row

    def forget(self) -> None:
        """Look every token up again: one was revoked here."""
        with self._lock:
            self._found.clear()


def _key(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()
