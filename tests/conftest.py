"""Fixtures that every part of the suite shares: databases, the shared data, a home."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from store.database import Database
from tests.databases import ready
from tests.servers import new_postgres_database, postgres_server

if TYPE_CHECKING:
    from tests.freezing import Freezer

# How long an example takes says nothing of it on a machine that does other things too.
settings.register_profile("pixmill", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pixmill")

REPOSITORY = Path(__file__).parents[1]

# What takes longest begins first, so that no process ends long after the others: each takes whole files, in this order.
FIRST = (
    "tests/e2e/training",
    "tests/models/test_pulling.py",
    "tests/e2e",
    "tests/chaos",
    "tests/models/training",
    "tests/models",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the long tests to the front, and leave out what is of the long dose unless PIXMILL_LONG=1 asks for it."""

    def place(item: pytest.Item) -> int:
        name = item.nodeid
        return next((place for place, start in enumerate(FIRST) if name.startswith(start)), len(FIRST))

    items.sort(key=place)
    if os.environ.get("PIXMILL_LONG") != "1":
        left_out = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if not item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images and a real model; skips where a machine does not have it."""
    folder = Path(os.environ.get("PIXMILL_SHARED_DATA", REPOSITORY.parent / "shared" / "data")).resolve()
    if not folder.is_dir():
        if os.environ.get("PIXMILL_REQUIRE_SHARED") == "1":
            pytest.fail("PIXMILL_REQUIRE_SHARED=1, but the shared data folder is absent")
        pytest.skip("shared data folder is absent (PIXMILL_SHARED_DATA can name it)")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real PostgreSQL 18 server; databases in it are made by `database_url`."""
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def freezable() -> Iterator["Freezer"]:
    """A PostgreSQL server that tests may make stand still; whoever does makes it go on again."""
    from tests.freezing import freezer

    with freezer() as server:
        yield server


ENGINES = ("sqlite", "postgresql")


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database with the current tables on each of the two engines."""
    if request.param == "sqlite":
        return ready(f"sqlite:///{tmp_path}/pixmill.db")
    return new_postgres_database(request.getfixturevalue("postgres"))


@pytest.fixture(params=ENGINES)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database without tables on each of the two engines."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/pixmill.db"
    return new_postgres_database(request.getfixturevalue("postgres"), tables=False)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with the current schema."""
    made = Database(database_url)
    yield made
    made.close()
