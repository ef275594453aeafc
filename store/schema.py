"""The schema's version: which one a database has, and moving it to the one this Pixmill works with."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import inspect, text

from store.database import SCANS, Database
from store.errors import DatabaseUnavailable, SchemaMismatch

HEAD = "0003"  # the newest migration; a constant because asking Alembic takes 0.3 s (a test compares the two)
_LOCK_KEY = 7_063_712_345  # any constant: PostgreSQL's advisory lock for migrations


def current(database: Database) -> str | None:
    """The version of the database's schema; None where it has no Pixmill tables yet."""
    with database.read() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return version


def check(database: Database) -> None:
    """Raise SchemaMismatch, with what to do, unless the database has exactly the schema of this Pixmill."""
    found = current(database)
    if found == HEAD:
        return
    if found is None:
        raise SchemaMismatch(f"The database {database.where} is empty. Run `pixmill db upgrade` to create its tables.")
    if found > HEAD:
        raise SchemaMismatch(
            f"The database {database.where} has schema {found}; this Pixmill works with {HEAD}. "
            "It was made by a newer version: upgrade Pixmill, or point PIXMILL_DATABASE_URL elsewhere."
        )
    raise SchemaMismatch(
        f"The database {database.where} has schema {found}; this Pixmill works with {HEAD}. "
        "Make a copy of it, then run `pixmill db upgrade`."
    )


def ensure(database: Database) -> None:
    """Create the tables of an empty database; raise SchemaMismatch for one of another version."""
    if current(database) is None:
        upgrade(database)
    check(database)


def upgrade(database: Database, revision: str = "head") -> None:
    """Run migrations up to `revision`. Safe to call from several processes at once: they wait for each other."""
    _migrate(database, revision, "upgrade")


def downgrade(database: Database, revision: str) -> None:
    """Take migrations back down to `revision` ("base" for all)."""
    _migrate(database, revision, "downgrade")


def _migrate(database: Database, revision: str, direction: str) -> None:
    from alembic import command  # slow to import, and needed only here
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with _one_at_a_time(database), database.write(durable=True) as connection:
        if not database.is_sqlite:
            connection.execute(text(SCANS))
        config.attributes["connection"] = connection
        getattr(command, direction)(config, revision)


@contextmanager
def _one_at_a_time(database: Database) -> Iterator[None]:
    """Hold the migration lock: a file beside a SQLite database, an advisory lock in PostgreSQL."""
    if not database.is_sqlite:
        # Others wait in it for as long as the migration takes.
        with database.read("SET LOCAL idle_in_transaction_session_timeout = 0") as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK_KEY})
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK_KEY})
        return
    import fcntl

    database.prepare_folder()
    try:
        handle = os.open(f"{database.url.database}.migrate-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DatabaseUnavailable(f"The folder of {database.where} is not writable: {error.strerror}.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
