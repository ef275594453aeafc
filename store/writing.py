"""Many rows on their way into a table, in the way that costs each database the least."""

from collections.abc import Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

from pydantic_core import to_json
from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    LargeBinary,
    Table,
    Text,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
)  # fmt: skip
from sqlalchemy.dialects import postgresql, sqlite

Row = Mapping[str, Any]


def insert_rows(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows, all with the same keys; a key that the table has already is an IntegrityError.

    No column may have a default in the database and be None in all of them: which are empty is left to be NULL.
    """
    filled = without_empty(rows)
    if not filled:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(_from_json(table, tuple(filled[0])), {"rows": _json(filled)})
    else:
        connection.execute(_plain(table), filled)


def put_rows(connection: Connection, table: Table, rows: Sequence[Row], newer: tuple[str, ...]) -> None:
    """Insert rows, all with the same keys and none empty; of one that is there already, set the columns `newer`.

    They are locked in the order in which they are given.
    """
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(_from_json(table, tuple(rows[0]), newer), {"rows": _json(rows)})
    else:
        connection.execute(_plain(table, newer), rows)


def without_empty(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The same rows without the columns that are None in all of them, which become NULL anyway.

    Python's SQLite driver looks for a way to adapt each None that it binds, which takes longer than to bind a value: an
    item mostly has seven of them. `rows`: all with the same keys, of which the first row's order is kept.
    """
    if not rows:
        return []
    filled = [name for name in rows[0] if list(map(itemgetter(name), rows)).count(None) < len(rows)]
    return [{name: row[name] for name in filled} for row in rows]


@cache
def _plain(table: Table, newer: tuple[str, ...] = ()) -> Insert:
    return _or_newer(sqlite.insert(table), table, newer)


@cache
def _from_json(table: Table, names: tuple[str, ...], newer: tuple[str, ...] = ()) -> Insert:
    """One statement for any number of rows, which come as one text.

    Row by row, each is a message to PostgreSQL, a statement run there and an answer: to commit a slice of results so
    takes about twice the CPU, here and there (./do bench inserts).
    """
    given = [column(name, Text() if _is_bytes(table, name) else table.c[name].type) for name in names]
    text = cast(bindparam("rows", type_=Text), postgresql.JSON)
    rows = func.json_to_recordset(text).table_valued(*given).render_derived("given", with_types=True)
    values = [_value(table, name, rows.c[name]) for name in names]
    return _or_newer(postgresql.insert(table).from_select(names, select(*values)), table, newer)


def _or_newer(fresh: sqlite.Insert | postgresql.Insert, table: Table, newer: tuple[str, ...]) -> Insert:
    """The same statement, which sets these columns of a row that is there already."""
    if not newer:
        return fresh
    values = {name: fresh.excluded[name] for name in newer}
    return fresh.on_conflict_do_update(index_elements=list(table.primary_key), set_=values)


def _value(table: Table, name: str, given: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.decode(given, literal_column("'hex'")) if _is_bytes(table, name) else given


def _is_bytes(table: Table, name: str) -> bool:
    return isinstance(table.c[name].type, LargeBinary)


def _json(rows: Sequence[Row]) -> str:
    """Rows as one text: bytes as hexadecimal digits, numbers that are not finite by their names."""
    return to_json(rows, bytes_mode="hex", inf_nan_mode="strings").decode()
