"""A full disk: work waits with what it has, says what for, and goes on by itself."""

import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, event

from models.registry import Registry
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.errors import DatabaseFull
from store.insights import job as read_job
from store.rows import NewResult
from store.states import JobState
from store.sweep import sweep
from store.troubles import lacks_room
from tests.running import eventually, fake_model, write_images
from worker.devices import CPU
from worker.room import NoRoom, Patience, lacking
from worker.settings import Settings
from worker.sources.opening import open_source
from worker.station import Station
from worker.submission import Choices, Scan, submit_classify
from worker.sweeper import AFTER_FULL_S, Sweeper

IMAGES = 1500


@pytest.fixture
def settings(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr("worker.room.WAITS_S", (0.05,))
    fake_model(tmp_path / "home")
    return Settings(home=tmp_path / "home", engine="fake", database_url=database_url)


def submit(database: Database, settings: Settings, folder: Path, count: int = IMAGES) -> int:
    write_images(folder, count)
    version = Registry(settings.models_folder).get("fake")
    return submit_classify(database, Scan(open_source([str(folder)])), version, Choices(reuse=False))


class FullDisk:
    """Lets a database grow no further: SQLite's own limit of pages; PostgreSQL's answer, at the driver's boundary."""

    def __init__(self, database: Database) -> None:
        self.is_full = False
        self.refused = 0
        self._pages = 0
        if database.is_sqlite:
            event.listen(database.engine, "begin", self._limit)
            event.listen(database.engine, "handle_error", self._count)
        else:
            event.listen(database.engine, "do_executemany", self._refuse)
            event.listen(database.engine, "do_execute", self._refuse)

    def fill(self, database: Database) -> None:
        """From the next transaction on."""
        if database.is_sqlite:
            with database.read() as connection:
                self._pages = int(connection.exec_driver_sql("PRAGMA page_count").scalar_one()) + 4
        self.is_full = True

    def _limit(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={self._pages if self.is_full else 1 << 30}")

    def _count(self, _: Any) -> None:
        self.refused += 1

    def _refuse(self, _: Any, statement: str, *__: Any) -> None:
        if self.is_full and statement.startswith("INSERT INTO results"):
            self.refused += 1
            raise psycopg.errors.DiskFull('could not extend file "base/5/16385": No space left on device')


class Working:
    """A station that drains in a thread of its own, its disk full from the first commit on."""

    def __init__(self, settings: Settings) -> None:
        self.stop = threading.Event()
        self.station = Station(settings, CPU, self.stop.is_set)
        self.disk = FullDisk(self.station.place.database)
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._drain)

    def start(self, database: Database) -> None:
        self.disk.fill(database)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _drain(self) -> None:
        try:
            self.station.drain()
        except DatabaseFull as error:
            self.error = error


@pytest.fixture
def working(settings: Settings) -> Iterator[Working]:
    made = Working(settings)
    yield made
    made.disk.is_full = False
    made.stop.set()
    made.station.place.database.close()


def attempts(database: Database) -> list[tuple[str, int]]:
    """State and counted attempts of every shard, each pair once."""
    with database.read() as connection:
        query = "SELECT DISTINCT state, attempt FROM shards ORDER BY state, attempt"
        return [(state, attempt) for state, attempt in connection.exec_driver_sql(query)]


def test_a_full_database_costs_no_attempt_and_no_row_and_work_goes_on_when_there_is_space(
    database: Database, settings: Settings, working: Working, tmp_path: Path
) -> None:
    job_id = submit(database, settings, tmp_path / "photos")
    working.start(database)
    eventually(lambda: working.disk.refused > 3, what="a few tries")
    row = read_job(database, job_id)
    assert row.state is JobState.RUNNING
    assert str(row.trouble).startswith("No space left for the database ")
    assert "goes on by itself" in str(row.trouble)
    assert lacks_room(database)
    with database.read() as connection:  # each slice is there whole or not at all
        whole = connection.exec_driver_sql("SELECT (SELECT COUNT(*) FROM results), SUM(ok) FROM shards").one()
    assert whole[0] == whole[1] < IMAGES
    working.disk.is_full = False
    working.join()
    sweep(database)
    row = read_job(database, job_id)
    assert (working.error, row.state, row.classified, row.trouble) == (None, JobState.DONE, IMAGES, None)
    assert attempts(database) == [("done", 1)]
    assert not lacks_room(database)


def test_a_worker_that_is_to_stop_while_the_database_is_full_gives_its_shards_back_uncounted(
    database: Database, settings: Settings, working: Working, tmp_path: Path
) -> None:
    job_id = submit(database, settings, tmp_path / "photos")
    working.start(database)
    eventually(lambda: working.disk.refused > 0, what="a refusal")
    working.stop.set()
    working.join()
    assert working.error is not None
    working.station.abandon(working.error)
    sweep(database)
    assert {attempt for state, attempt in attempts(database) if state == "ready"} == {0}
    assert not [state for state, _ in attempts(database) if state not in ("ready", "done")]
    assert read_job(database, job_id).state is JobState.RUNNING


def test_a_model_that_finds_no_space_to_be_made_ready_is_tried_until_it_does(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(database, settings, tmp_path / "photos", 3)
    station, tries, said = Station(settings, CPU, lambda: False), 0, []
    load = station._warm.get

    def full(model_id: int) -> Any:
        nonlocal tries
        tries += 1
        if tries <= 5:
            said.append(read_job(database, job_id).trouble)
            raise OSError(errno.ENOSPC, "No space left on device", "/cache/openvino/model.xml")
        return load(model_id)

    monkeypatch.setattr(station._warm, "get", full)
    station.drain()
    sweep(database)
    station.place.database.close()
    row = read_job(database, job_id)
    assert (row.state, row.classified, row.trouble, tries) == (JobState.DONE, 3, None, 6)
    assert attempts(database) == [("done", 1)]
    assert "No space left for /cache/openvino/model.xml." in str(said[-1])


def test_the_sweeper_lets_workers_write_first_when_a_full_disk_has_space_again(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases have ended that nobody could renew; who has the work in hand is not robbed of it."""
    submit(database, settings, tmp_path / "photos", 3)
    sweeper = Sweeper(settings, (), 1)
    lease = claim(database, Claimer("w"))
    assert lease is not None
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE shards SET lease_until = 1")
    now = 1000.0
    monkeypatch.setattr("worker.sweeper.time.monotonic", lambda: now)

    def full(*_: Any) -> None:
        raise DatabaseFull("No space left.")

    with monkeypatch.context() as patch:
        patch.setattr("worker.sweeper.sweep", full)
        for _ in range(3):
            with pytest.raises(DatabaseFull):
                sweeper.sweep()
            patch.setattr("worker.sweeper.count_up", full)  # it is still full
    for later in (0.0, AFTER_FULL_S - 0.1):
        now = 1000.0 + later
        with pytest.raises(DatabaseFull, match="There is space again"):
            sweeper.sweep()
    commit_slice(database, lease, [NewResult(n, "ok", label="ant", score=1.0, topk="[]") for n in range(3)], last=True)
    now += AFTER_FULL_S
    sweeper.sweep()
    sweeper.close()
    assert read_job(database, lease.job_id).state is JobState.DONE


class Told:
    """What a Patience says, and whether it is to stop."""

    def __init__(self) -> None:
        self.said: list[str | None] = []
        self.stops = False

    def failing(self, times: int, error: Exception) -> Callable[[], str]:
        """Something that works after so many failures."""
        left = times

        def act() -> str:
            nonlocal left
            left -= 1
            if left >= 0:
                raise error
            return "done"

        return act


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.room.WAITS_S", (0.0,))


@pytest.mark.usefixtures("quick")
def test_patience_tells_what_it_waits_for_and_when_that_is_over() -> None:
    told = Told()
    patience = Patience(lambda: told.stops, told.said.append)
    assert patience.through(told.failing(2, DatabaseFull("full", "the database x"))) == "done"
    assert [text and text.partition(".")[0] for text in told.said] == [*["No space left for the database x"] * 2, None]
    told.said.clear()
    assert patience.through(told.failing(0, DatabaseFull("full"))) == "done"
    assert told.said == []


@pytest.mark.usefixtures("quick")
def test_patience_ends_with_the_worker_and_has_none_for_other_errors() -> None:
    told = Told()
    patience = Patience(lambda: told.stops, told.said.append)
    with pytest.raises(PermissionError):
        patience.through(told.failing(1, PermissionError(errno.EACCES, "no")))
    told.stops = True
    with pytest.raises(DatabaseFull):
        patience.through(told.failing(1, DatabaseFull("full")))


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (DatabaseFull("full", "the database /x.db"), "the database /x.db"),
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), "/a/b"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "files"),
        (
            OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"),
            "files",
        ),
    ],
)
def test_a_full_disk_is_told_from_other_errors(error: Exception, what: str) -> None:
    assert str(lacking(error)).startswith(f"No space left for {what}.")
    assert lacking(NoRoom("none")) == "none"
    assert lacking(OSError(errno.EIO, "Input/output error")) is None
    assert lacking(MemoryError()) is None
