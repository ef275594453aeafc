"""A join whose left side is read first, whatever the database thinks of it."""

from __future__ import annotations

import itertools
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Join
from sqlalchemy.ext.compiler import compiles


class InOrder(Join):
    """An inner join in the order in which it is written.

    SQLite knows no job's size and takes each for small; left to itself it may begin with all the items of a job. Its
    CROSS JOIN is an inner join that is not reordered (sqlite.org/optoverview.html, "Manual control of query plans").
    PostgreSQL has statistics, and keeps its own choice.
    """

    inherit_cache = True

    def then(self, right: FromClause, on: ColumnElement[bool]) -> InOrder:
        """One more table, read after these."""
        return InOrder(self, right, on)


@compiles(InOrder, "sqlite")
def _sqlite(join: InOrder, compiler: Any, from_linter: Any = None, **options: Any) -> str:
    if from_linter is not None:  # it warns of tables that nothing connects
        from_linter.edges.update(itertools.product(_tables(join.left), _tables(join.right)))
    left = compiler.process(join.left, from_linter=from_linter, **options)
    right = compiler.process(join.right, from_linter=from_linter, **options)
    return f"{left} CROSS JOIN {right} ON {compiler.process(join.onclause, **options)}"


def _tables(side: FromClause) -> list[FromClause]:
    return [*_tables(side.left), *_tables(side.right)] if isinstance(side, Join) else [side]
