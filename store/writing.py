"""Rows on their way into a table."""

from collections.abc import Sequence
from typing import Any


def without_empty(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows without the columns that are None in all of them, which become NULL anyway.

    Python's SQLite driver looks for a way to adapt each None that it binds, which takes longer than to bind a value: an
    item mostly has seven of them. For columns without a default in the database. `rows`: all with the same
    keys, of which the first row's order is kept.
    """
    if not rows:
        return []
    filled = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    return [{name: row[name] for name in filled} for row in rows]
