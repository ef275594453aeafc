"""Times for people: how long, and when."""

from datetime import UTC, datetime


def clock(seconds: float) -> str:
    """Seconds as `0:42` or `3:10:05`."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def moment(seconds: float) -> str:
    """A time since 1970 as `2026-11-21 22:31`, in this machine's zone."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def between(start: float, end: float) -> float:
    """Seconds from one time to another, each taken to the millisecond, as records tell them: everywhere the same."""
    return (round(end * 1000) - round(start * 1000)) / 1000
