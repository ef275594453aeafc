"""Counters: what only ever grows and cannot be counted in the tables."""

from collections.abc import Mapping

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from store.tables import counters

LEASE_EXPIRIES = "lease_expiries"  # leases that ended without a sign of life
DISK_FULL = "disk_full"  # times that the database had no space left, and then had some
FENCED_COMMITS = "fenced_commits"  # commits that came after their lease was lost
WATCHDOG_RESTARTS = "watchdog_restarts"  # of workers that took no work though there was some


def images_name(model_id: int | None, status: str) -> str:
    """The counter of a model's results that are gone from the tables; `status` is ok or failed."""
    return f"images/{model_id or 0}/{status}"


def count_up(connection: Connection, grown: Mapping[str, int]) -> None:
    """Add to counters; last of all that a transaction locks."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    rows = [{"name": name, "n": n} for name, n in sorted(grown.items()) if n > 0]
    if rows:
        statement = dialect.insert(counters)
        more = {"n": counters.c.n + statement.excluded.n}
        connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=more), rows)


def read_counters(connection: Connection) -> dict[str, int]:
    """All of them, by name."""
    return {name: int(n) for name, n in connection.execute(select(counters.c.name, counters.c.n))}
