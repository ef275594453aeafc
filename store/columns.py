"""What the tables are made of: the metadata, types, and the conditions of partial indexes."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    ColumnElement,
    Index,
    Integer,
    MetaData,
    Text,
    column,
    false,
    literal_column,
)

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
