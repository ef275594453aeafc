"""Databases for tests, with their tables: copies of one that was migrated once a process (0.01 s instead of 0.4 s)."""

import tempfile
from functools import lru_cache
from pathlib import Path

from sqlalchemy import make_url

from store import schema
from store.database import Database


def ready(url: str) -> str:
    """Make the database of `url` with its tables, unless there is a SQLite file already; the URL again."""
    address = make_url(url)
    if address.get_backend_name() != "sqlite":
        migrate(url)
        return url
    file = Path(address.database or "")
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_migrated())
    return url


def ready_home(home: Path) -> None:
    """Give a home its database, as its first command would."""
    ready(f"sqlite:///{home}/pixmill.db")


def migrate(url: str) -> None:
    """Run the migrations on an empty database; one that has its tables stays as it is."""
    database = Database(url)
    try:
        schema.ensure(database)
    finally:
        database.close()


@lru_cache(maxsize=1)
def _migrated() -> bytes:
    """The file of a database that only its migrations ever wrote to."""
    with tempfile.TemporaryDirectory(prefix="pixmill-tables-") as folder:
        file = Path(folder) / "pixmill.db"
        migrate(f"sqlite:///{file}")
        return file.read_bytes()
