"""Moments for people and programs: seconds since 1970 as RFC 3339."""

from datetime import UTC, datetime
from functools import lru_cache


def seconds(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time. Raises ValueError for text that is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"expected a time with its zone, like 2026-11-22T01:30:00Z, got {text!r}")
    return moment.timestamp()


def rfc3339(seconds: float) -> str:
    """A time in UTC as `2026-11-22T01:30:00.123Z`; milliseconds, as the views have them."""
    # Rounded first: a database's clock gives 0.5999999, and cut off that would be another millisecond than the views'.
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{_to_the_second(whole)}.{milliseconds:03}Z"


@lru_cache(maxsize=4096)  # results come in hundreds a second
def _to_the_second(whole: int) -> str:
    return datetime.fromtimestamp(whole, UTC).isoformat()[:19]
