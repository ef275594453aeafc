"""A join whose left side is read first, whatever the database thinks of it."""

from __future__ import annotations

import itertools
from typing import Any

from sqlalchemy import FromClause, Join
from sqlalchemy.ext.compiler import compiles


class InOrder(Join):
    """An inner join, or with `isouter` a left one, in the order in which it is written.

    No database knows how large one job is, and left to itself may begin with all the items of a job. SQLite's CROSS
    JOIN is an inner join that is not reordered (sqlite.org/optoverview.html, "Manual control of query plans"). A
    lateral subquery of PostgreSQL is run for each row of the left side, and OFFSET 0 keeps the planner from taking it
    apart. What is looked up is asked for its place in the table (no row is at (0,0)), which no index has. Without that
    the planner, to whom all jobs are of one size, may pass over a job's whole part of an index that has the columns in
    question, for each row.
    """

    inherit_cache = True


@compiles(InOrder, "sqlite")
def _sqlite(join: InOrder, compiler: Any, **options: Any) -> str:
    left, right, on = _parts(join, compiler, **options)
    return f"{left} {'LEFT' if join.isouter else 'CROSS'} JOIN {right} ON {on}"


@compiles(InOrder, "postgresql")
def _postgresql(join: InOrder, compiler: Any, **options: Any) -> str:
    left, right, on = _parts(join, compiler, **options)
    looked_up = " ".join(("SELECT * FROM", right, "WHERE", on, f"AND {right}.ctid <> '(0,0)'::tid", "OFFSET 0"))
    return f"{left} {'LEFT' if join.isouter else 'INNER'} JOIN LATERAL ({looked_up}) AS {right} ON true"


def _parts(join: InOrder, compiler: Any, from_linter: Any = None, **options: Any) -> tuple[str, str, str]:
    """Its left side, its right side and its condition in SQL."""
    if from_linter is not None:  # it warns of tables that nothing connects
        from_linter.edges.update(itertools.product(_tables(join.left), _tables(join.right)))
    left = compiler.process(join.left, from_linter=from_linter, **options)
    right = compiler.process(join.right, from_linter=from_linter, **options)
    return left, right, compiler.process(join.onclause, **options)


def _tables(side: FromClause) -> list[FromClause]:
    return [*_tables(side.left), *_tables(side.right)] if isinstance(side, Join) else [side]
