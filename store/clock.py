"""The database's own clock as a SQL expression, so that no worker's clock decides about a lease."""

from typing import Any

from sqlalchemy import Double
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class db_now(FunctionElement[float]):  # noqa: N801  a SQL function, named like SQLAlchemy's own
    """Seconds since 1970 in UTC by the clock of the database server (of this host, for SQLite)."""

    type = Double()
    inherit_cache = True


@compiles(db_now, "sqlite")
def _sqlite(*_: Any, **__: Any) -> str:
    # Works on every SQLite; unixepoch('subsec') would need 3.42.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(db_now, "postgresql")
def _postgresql(*_: Any, **__: Any) -> str:
    # clock_timestamp, not now: inside a long transaction the lease must count from the statement.
    return "extract(epoch from clock_timestamp())::double precision"
