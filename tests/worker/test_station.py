"""One worker's loop, in this process, with the stand-in engine and a real database."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import worker.heartbeat
from models.engines.fake import FakeEngine
from models.registry import Registry
from store import jobs
from store.claims import Claimer, claim, give_up
from store.database import Database
from store.errors import DatabaseUnavailable, StoreError
from store.insights import job as read_job
from store.results import stream
from store.rows import JobRow, NewResult
from store.states import JobState
from store.sweep import sweep
from store.tables import shards
from tests.databases import ready
from tests.running import fake_model, write_images
from worker.devices import CPU
from worker.heartbeat import STALLED
from worker.settings import Settings
from worker.slices import Slices
from worker.sources.opening import open_source
from worker.station import LOAD_ATTEMPTS, Station
from worker.submission import Choices, Scan, submit_classify
from worker.warm import Loaded, WarmModels


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    fake_model(tmp_path / "home")
    return Settings(home=tmp_path / "home", engine="fake")


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(ready(settings.database))
    yield database
    database.close()


def submit(database: Database, settings: Settings, folder: Path) -> int:
    version = Registry(settings.models_folder).get("fake")
    return submit_classify(database, Scan(open_source([str(folder)])), version, Choices(reuse=False))


def drained(database: Database, station: Station, job_id: int) -> JobRow:
    station.drain()
    sweep(database)
    return read_job(database, job_id)


def test_a_drain_empties_the_queue_of_every_job(database: Database, settings: Settings, tmp_path: Path) -> None:
    write_images(tmp_path / "one", 150)
    write_images(tmp_path / "two", 10, start=500)
    ids = [submit(database, settings, tmp_path / name) for name in ("one", "two")]
    station = Station(settings, CPU, lambda: False)
    station.drain()
    assert [read_job(database, job_id).state for job_id in ids] == [JobState.DONE, JobState.DONE]


def test_after_a_failed_commit_nothing_stays_leased_and_the_work_is_done_again(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "photos", 100)
    job_id = submit(database, settings, tmp_path / "photos")
    station = Station(settings, CPU, lambda: False)

    def broken(*_: Any, **__: Any) -> None:
        raise DatabaseUnavailable("pulled out")

    with monkeypatch.context() as patch:
        patch.setattr("worker.slices.commit_slice", broken)
        with pytest.raises(DatabaseUnavailable):
            station.drain()
    station.abandon(DatabaseUnavailable("pulled out"))
    sweep(database)
    row = drained(database, station, job_id)
    assert (row.state, row.classified) == (JobState.DONE, 100)
    assert len(list(stream(database, job_id))) == 100


@pytest.mark.parametrize("comes_back", ["at once", "later"])
def test_a_database_that_went_away_costs_no_attempt(
    comes_back: str, database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise shards would be halved, and images set aside in the end, for what no image can help."""
    write_images(tmp_path / "photos", 100)
    job_id = submit(database, settings, tmp_path / "photos")
    station = Station(settings, CPU, lambda: False)
    away = DatabaseUnavailable("pulled out")

    def broken(*_: Any, **__: Any) -> None:
        raise away

    for _ in range(6):
        with monkeypatch.context() as patch:
            patch.setattr("worker.slices.commit_slice", broken)
            with pytest.raises(DatabaseUnavailable):
                station.drain()
            if comes_back == "later":
                patch.setattr("worker.station.release", broken)
            with suppress(DatabaseUnavailable):
                station.abandon(away)
        station.place.owes = True
        station.place.take()
        sweep(database)
        assert shard_facts(database) == {("ready", 0)}
    assert drained(database, station, job_id).state is JobState.DONE


def test_rows_that_the_database_refuses_are_counted_and_not_tried_for_ever(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage is not counted. What can never be written is, also where the worker is at its next shard at once."""
    write_images(tmp_path / "photos", 100)
    submit(database, settings, tmp_path / "photos")
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    from worker import tasks

    def refuse(*_: Any, **__: Any) -> None:
        raise StoreError("a value over a limit")

    station = Station(settings, CPU, lambda: False)
    monkeypatch.setattr(tasks, "station", lambda: station)
    monkeypatch.setattr("worker.slices.commit_slice", refuse)
    assert not tasks._drained()
    tasks._drained()  # at once, before a sweeper comes by
    sweep(database)
    assert shard_facts(database) == {("ready", 1)}


def shard_facts(database: Database) -> set[tuple[str, int]]:
    with database.read() as connection:
        return {(row.state, row.attempt) for row in connection.execute(select(shards))}


def test_a_model_that_cannot_be_loaded_costs_the_next_job_nothing(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.station.LOAD_RETRY_S", 0.0)
    write_images(tmp_path / "photos", 3)
    moods = iter([False] * LOAD_ATTEMPTS + [False])
    load = WarmModels.get

    def moody(self: WarmModels, model_id: int) -> Loaded:
        if next(moods, True):
            return load(self, model_id)
        raise MemoryError

    monkeypatch.setattr(WarmModels, "get", moody)
    station = Station(settings, CPU, lambda: False)
    for state in (JobState.FAILED, JobState.DONE):
        assert drained(database, station, submit(database, settings, tmp_path / "photos")).state is state


def test_a_worker_whose_model_is_never_ready_ends(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or its lease would be renewed for ever: loading is progress, but not without end."""
    monkeypatch.setattr("worker.station.LOADING_S", 0.3)
    monkeypatch.setattr("worker.station.LOAD_RETRY_S", 0.0)
    monkeypatch.setattr(worker.heartbeat, "BEATS", 1200)
    write_images(tmp_path / "photos", 3)
    job_id = submit(database, settings, tmp_path / "photos")
    ended, statuses = threading.Event(), []

    def leave(status: int) -> None:
        statuses.append(status)
        ended.set()

    def hang(_self: WarmModels, _model_id: int) -> Loaded:
        assert ended.wait(30)
        raise MemoryError

    monkeypatch.setattr("worker.heartbeat.os._exit", leave)
    monkeypatch.setattr(WarmModels, "get", hang)
    Station(settings.model_copy(update={"stall_s": 0.3}), CPU, lambda: False).drain()
    assert statuses[0] == STALLED
    assert read_job(database, job_id).state is JobState.FAILED


def test_a_worker_that_is_told_to_stop_gives_its_shard_back(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    write_images(tmp_path / "photos", 2000)
    job_id = submit(database, settings, tmp_path / "photos")
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        return asked > 20

    Station(settings, CPU, stopping).drain()
    row = read_job(database, job_id)
    assert 0 < row.classified < 2000
    with database.read() as connection:
        held = connection.exec_driver_sql("SELECT COUNT(*) FROM shards WHERE state = 'leased'").scalar()
    assert held == 0


def test_a_paused_job_is_put_down_and_another_goes_on(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.heartbeat, "BEATS", 1200)
    write_images(tmp_path / "long", 3000)
    write_images(tmp_path / "short", 5, start=9000)
    long_id = submit(database, settings, tmp_path / "long")
    predict, calls = FakeEngine.predict, 0

    def slow(self: FakeEngine, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            jobs.pause(database, long_id)
        if calls > 3:
            time.sleep(0.02)
        return predict(self, batch)

    monkeypatch.setattr(FakeEngine, "predict", slow)
    station = Station(settings, CPU, lambda: False)
    station.drain()
    row = read_job(database, long_id)
    assert row.state is JobState.PAUSED
    assert 0 < row.classified < 3000
    short_id = submit(database, settings, tmp_path / "short")
    assert drained(database, station, short_id).state is JobState.DONE
    jobs.resume(database, long_id)
    assert drained(database, station, long_id).classified == 3000


def test_warm_models_stay_within_their_budget_and_the_oldest_goes(settings: Settings) -> None:
    loads: list[int] = []
    version = Registry(settings.models_folder).get("fake")

    def load(model_id: int) -> Loaded:
        loads.append(model_id)
        engine = FakeEngine(("a", "b"))
        engine.memory_bytes = 40
        return Loaded(version, engine, 16)

    warm = WarmModels(load, 100)
    first = warm.get(1)
    for model_id in (2, 1, 3):
        warm.get(model_id)
    assert loads == [1, 2, 3]
    assert warm.ids == [3, 1]
    assert warm.get(1) is first
    warm.get(2)
    assert loads == [1, 2, 3, 2]


def test_a_model_that_this_machine_cannot_load_now_costs_no_image_its_name(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "photos", 3)
    job_id = submit(database, settings, tmp_path / "photos")

    def broken(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("worker.warm.load_engine", broken)
    monkeypatch.setattr("worker.station.LOAD_RETRY_S", 0.0)
    row = drained(database, Station(settings, CPU, lambda: False), job_id)
    assert (row.state, row.failed, row.pending) == (JobState.FAILED, 0, 3)
    assert "Input/output error" in str(row.error)


def test_a_job_whose_images_are_all_gone_stops_early_and_its_worker_goes_on_with_another(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk that they were on is not mounted any more: hundreds of rows say so, not all of a large shard."""
    monkeypatch.setattr("store.scanning.shard_size", lambda count, _: count)
    write_images(tmp_path / "gone", 1)
    for n in range(1, 3000):
        (tmp_path / "gone" / f"{n:06}.png").hardlink_to(tmp_path / "gone" / "000000.png")
    write_images(tmp_path / "photos", 3)
    gone, other = (submit(database, settings, tmp_path / name) for name in ("gone", "photos"))
    shutil.rmtree(tmp_path / "gone")
    station = Station(settings, CPU, lambda: False)
    row = drained(database, station, gone)
    assert (row.state, row.classified) == (JobState.FAILED, 0)
    assert str(row.error).startswith("Stopped early: all of the first ")
    assert f"images failed as missing, for example {tmp_path}/gone/000000.png: There is no file" in str(row.error)
    assert 200 <= row.failed < 2500
    assert read_job(database, other).state is JobState.DONE
    with database.read() as connection:
        held = connection.exec_driver_sql("SELECT COUNT(*) FROM shards WHERE state IN ('leased', 'ready')").scalar()
    assert held == 0
    jobs.resume(database, gone)
    row = drained(database, station, gone)
    assert (row.state, row.failed) == (JobState.DONE_WITH_ERRORS, 3000)


class Freed:
    """A station that has just freed a dead predecessor's shards."""

    @property
    def place(self) -> "Freed":
        return self

    def check(self) -> None:
        return

    def take(self) -> bool:
        return True


def test_the_loss_of_the_broker_does_not_put_a_worker_down(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    from worker import tasks

    broken: list[Exception] = []
    monkeypatch.setattr(tasks, "_break", broken.append)
    monkeypatch.setattr(tasks, "station", Freed)
    monkeypatch.setattr(tasks, "device", lambda: CPU)
    tasks._get_ready()
    tasks._ready()
    assert broken == []


def test_rows_of_an_earlier_lease_never_count_for_a_later_one(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    write_images(tmp_path / "photos", 3)
    submit(database, settings, tmp_path / "photos")
    slices = Slices(database)
    leases = []
    for _ in range(2):
        lease = claim(database, Claimer("w"))
        assert lease
        leases.append(lease)
        slices.hold(lease)
        slices.open(lease, 3)
        if len(leases) == 1:
            give_up(database, lease, "expired")
            sweep(database)
    row = NewResult(0, "ok", label="ant", score=1.0, topk="[]")
    slices.forget({leases[0].token})
    assert slices.leases() == [leases[1]]
    slices.add([(leases[0].token, row)])
    slices.add([(leases[1].token, replace(row, idx=n)) for n in range(3)])
    sweep(database)
    assert read_job(database, leases[0].job_id).state is JobState.DONE
