"""What the tables are made of: the metadata, types, and the conditions of partial indexes."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    CheckConstraint,
    ColumnElement,
    Index,
    Integer,
    MetaData,
    Text,
    column,
    false,
    literal,
    literal_column,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.functions import FunctionElement

# Every constraint has a stable name, so that a migration can find it on both databases.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only for INTEGER PRIMARY KEY


class Unguessed(FunctionElement[int]):
    """A number that the planner does not see.

    PostgreSQL knows from its last ANALYZE how large which job is, and takes one that is newer for a single row: then
    every index of the job is as good as every other, a join as good as its worst order, and a worker looks at the whole
    job for each of its shards. Of a number that comes from a subquery it expects what jobs have on average.
    """

    type = BigInteger()
    inherit_cache = True


@compiles(Unguessed)
def _plain(number: Unguessed, compiler: Any, **options: Any) -> str:
    return str(compiler.process(number.clauses, **options))


@compiles(Unguessed, "postgresql")
def _in_subquery(number: Unguessed, compiler: Any, **options: Any) -> str:
    return f"(SELECT {compiler.process(number.clauses, **options)})"


class _OfJob(BigInteger):
    """The number of the job that a row of a large table belongs to; compared with a number, that is `Unguessed`."""

    class Comparator(BigInteger.Comparator[int]):
        def operate(self, op: operators.OperatorType, *other: Any, **options: Any) -> ColumnElement[Any]:
            if op is operators.eq and isinstance(other[0], int):
                other = (Unguessed(literal(other[0], BigInteger)),)
            return super().operate(op, *other, **options)

    comparator_factory = Comparator


def all_of(job_id: int) -> BindParameter[int]:
    """The number of a job of which every row is counted or deleted, for the planner to see.

    Of a job it does not know it takes the way along an index. What it expects on average may be the whole table.
    """
    return literal(job_id, BigInteger)


OfJob = _OfJob().with_variant(Integer, "sqlite")
# Names of files in the order of their bytes, as SQLite has it, whatever the server's language is.
Path = Text().with_variant(Text(collation="C"), "postgresql")

# Conditions of the partial indexes. A query is served by one only if it says the same of the column, and in literals.
IS_OK = column("status") == literal_column("'ok'")
IS_FAILED = column("status") == literal_column("'failed'")
IS_WRONG = column("agrees", Boolean) == false()
HAS_LABEL = column("label").is_not(None)


def states(name: str, *allowed: str) -> CheckConstraint:
    """A column that holds one of a few words."""
    return CheckConstraint(f"{name} IN ({', '.join(map(repr, allowed))})", name=name)


def partial(name: str, *columns: str, where: ColumnElement[bool]) -> Index:
    """An index over the rows for which a condition holds."""
    return Index(name, *columns, sqlite_where=where, postgresql_where=where)
