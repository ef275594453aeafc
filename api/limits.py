"""How much one token may ask for: a bucket of requests for each, filled at its rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from api.problems import Problem

if TYPE_CHECKING:
    from api.context import Context

MOST_BUCKETS = 10_000  # beyond that, full buckets are forgotten: they say nothing


@dataclass(slots=True)
class Bucket:
    """What is left of one token's requests, and when that was counted."""

    left: float
    at: float


class Meter:
    """Counts requests per token in this process. Thread-safe. A part of the context."""

    def __init__(self, _: Context | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._lock = threading.Lock()
        self._now = now

    def take(self, token_id: str, per_minute: int) -> dict[str, str]:
        """Count one request; returns the headers that tell what is left. Raises Problem 429.

        The bucket holds a minute's requests and fills evenly (draft-ietf-httpapi-ratelimit-headers-10).
        """
        with self._lock:
            now = self._now()
            bucket = self._buckets.setdefault(token_id, Bucket(per_minute, now))
            rate = per_minute / 60
            bucket.left = min(per_minute, bucket.left + (now - bucket.at) * rate)
            bucket.at = now
            allowed = bucket.left >= 1
            if allowed:
                bucket.left -= 1
            left, wait = int(bucket.left), ceil((1 - bucket.left) / rate)
            self._forget()
        headers = {
            "RateLimit-Policy": f'"requests";q={per_minute};w=60',
            "RateLimit": f'"requests";r={left};t={ceil((per_minute - left) / rate)}',
        }
        if not allowed:
            detail = f"Expected at most {per_minute} requests per minute with this token."
            raise Problem("rate-limited", detail, headers=headers, retry_after=max(1, wait))
        return headers

    def _forget(self) -> None:
        """Drop those that have been full for a while; called with the lock held."""
        if len(self._buckets) > MOST_BUCKETS:
            old = self._now() - 60
            self._buckets = {token: bucket for token, bucket in self._buckets.items() if bucket.at > old}
