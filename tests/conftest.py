"""Fixtures that every part of the suite shares: databases, the shared data, a home."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from store.database import Database
from tests.databases import ready
from tests.servers import new_postgres_database, postgres_server

if TYPE_CHECKING:
    from tests.freezing import Freezer

# How long an example takes says nothing of it on a machine that does other things too.
settings.register_profile("pixmill", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pixmill")

# A shell has what it starts in its background ignore Ctrl-C, and programs under test would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Several tests with TensorFlow in them run at once: threads of each for every core would only wait for each other.
for threads in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(threads, "1")

REPOSITORY = Path(__file__).parents[1]

# A process takes one group of tests after the other, in this order; a file that is not here is a group of its own.
# Tests with TensorFlow in them keep every core busy: two groups have them all, and run beside tests that wait.
GROUPS = {
    "tests/e2e/training": "trainings",
    "tests/e2e/test_demo.py": "trainings",
    "tests/e2e/test_up_readme.py": "trainings",
    "tests/e2e/test_real_model.py": "trainings",
    "tests/models/test_pulling.py": "networks",
    "tests/models/training": "networks",
    "tests/models/test_hostile_models.py": "networks",
    "tests/models/test_importing.py": "networks",
}
FIRST = (*GROUPS, "tests/chaos/test_chaos.py", "tests/e2e", "tests/chaos", "tests/models")


def group_of(test: str) -> str:
    """The group of a test, by its id."""
    return next((group for start, group in GROUPS.items() if test.startswith(start)), test.split("::", maxsplit=1)[0])


class Grouped(LoadFileScheduling):  # type: ignore[misc]  # xdist has no type information
    """Whole groups, as they come, to whichever process is free."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)  # where the tests run in one process there is nothing to schedule
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Grouped:
    return Grouped(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put what takes longest to the front; leave out the long dose unless PIXMILL_LONG=1 asks for it."""
    if os.environ.get("PIXMILL_LONG") != "1":
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    starts = list(enumerate(FIRST))
    items.sort(key=lambda item: next((n for n, start in starts if item.nodeid.startswith(start)), len(FIRST)))


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
