"""Beginnings and patterns of file names in SQL, the same on both databases.

Case counts, and bytes decide the order: SQLite's own way, the collation of the column in PostgreSQL.
"""

from typing import Any

from sqlalchemy import ColumnElement, Text, and_, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.sql.functions import FunctionElement

LAST = 0x10FFFF  # of Unicode


class _alike(FunctionElement[bool]):  # noqa: N801  a SQL expression
    """Three clauses: the text, a pattern for SQLite's GLOB, one for PostgreSQL's LIKE."""

    inherit_cache = True


@compiles(_alike, "sqlite")
def _sqlite_alike(element: _alike, compiler: Any, **options: Any) -> str:
    value, pattern, _ = element.clauses
    return f"({compiler.process(value, **options)} GLOB {compiler.process(pattern, **options)})"


@compiles(_alike, "postgresql")
def _postgresql_alike(element: _alike, compiler: Any, **options: Any) -> str:
    value, _, pattern = element.clauses
    return f"({compiler.process(value, **options)} LIKE {compiler.process(pattern, **options)})"


def starts_with(column: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    """Whether a text begins so, in words that an index can answer."""
    return and_(column >= prefix, *before_end(column, prefix))


def before_end(column: ColumnElement[str], prefix: str) -> tuple[ColumnElement[bool], ...]:
    """Whether a text comes before all that is behind those that begin so."""
    end = _after(prefix)
    return () if end is None else (column < end,)


def _after(prefix: str) -> str | None:
    """The first text behind all that begin so; None where there is none."""
    kept = prefix.rstrip(chr(LAST))
    if not kept:
        return None
    code = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if code == 0xD800 else code)  # no text holds the surrogates in between


def matches(column: ColumnElement[str], glob: str) -> ColumnElement[bool]:
    """Whether a whole text is as the pattern says: `*` any characters, `?` one, everything else itself."""
    of_sqlite = glob.replace("[", "[[]")
    of_postgresql = "".join({"*": "%", "?": "_"}.get(c, "\\" + c if c in "%_\\" else c) for c in glob)
    return _alike(column, _text(of_sqlite), _text(of_postgresql))


def _text(value: str) -> BindParameter[str]:
    return bindparam(None, value, Text(), unique=True)


def literal_prefix(glob: str) -> str:
    """What every text begins with that is as the pattern says."""
    ends = [place for place in (glob.find("*"), glob.find("?")) if place >= 0]
    return glob[: min(ends)] if ends else glob
