"""What a chaos run judges beside the database: each finding is there where its damage is planted, and not else."""

from __future__ import annotations

import signal
import socket
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from sqlalchemy import update

from store.catalog import register_model
from store.database import Database
from store.jobs import accept
from store.rows import NewItem, NewJob, NewRun
from store.tables import jobs, runs
from tests.chaos.dose import FAILED, Dose, _hurt, _odd_ends, _odd_versions
from tests.chaos.pace import Pace
from tests.chaos.report import Report
from tests.chaos.samples import HOUR_S, Sample, Samples, connections
from tests.chaos.world import LEASE_S, MOST_SKEW_S, Plan, wrong_clock


def world(folder: Path, *ends: tuple[int, int]) -> Any:
    """As much of a world as is looked at: one supervisor's ends, one finished training."""
    home = SimpleNamespace(path=folder)
    crews = SimpleNamespace(all=[SimpleNamespace(ends=list(ends), told={1, 2, 3})])
    return SimpleNamespace(failpoints=folder, crews=crews, home=home, rows=lambda _: [{"name": "fruit"}])


@pytest.mark.parametrize(("megabytes", "files", "found"), [(0, 0, 0), (200, 0, 1), (0, 100, 1)])
def test_a_kind_of_process_that_grows_is_told(tmp_path: Path, megabytes: int, files: int, found: int) -> None:
    samples = Samples(world(tmp_path))
    samples.all = [
        Sample("child", 7, at, at + 1, int(1e8 + 1e6 * megabytes * at / HOUR_S), 20 + int(files * at / HOUR_S))
        for at in range(0, 3600, 5)
    ]
    assert len(samples.grown()) == found


def test_processes_that_were_looked_at_for_moments_say_nothing_of_growth(tmp_path: Path) -> None:
    samples = Samples(world(tmp_path))
    samples.all = [
        Sample("child", pid, at, 400 + at, int(1e8 + 1e6 * at), 20) for pid in range(5) for at in range(0, 595, 5)
    ]
    assert samples.grown() == []
    assert "growth not known" in samples.summary()


def test_trainers_which_live_for_moments_are_in_the_summary(tmp_path: Path) -> None:
    samples = Samples(world(tmp_path))
    samples.all = [Sample("trainer", pid, 60 * pid + at, at, 7 * 10**8, 20) for pid in range(20) for at in (1, 6, 11)]
    assert "trainer: 60 samples of 20 processes, memory 700.0 to 700.0 MB" in samples.summary()


def test_connections_that_living_clients_hold_are_no_leak_of_the_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert connections(psutil.Process(), port) == set()
        with socket.create_connection(("127.0.0.1", port)) as one, closing(one.dup()):
            assert connections(psutil.Process(), port) == {one.getsockname()[1]}
        assert connections(psutil.Process(), port) == set()


def test_the_seed_says_whose_clock_is_wrong_and_by_how_much() -> None:
    plans = [Plan("sqlite", seed) for seed in range(200)]
    clocks = [wrong_clock(plan) for plan in plans]
    assert clocks == [wrong_clock(plan) for plan in plans]
    assert {device[:6] for device, _ in clocks} == {"GPU-a1", "GPU-b2", "GPU-c3", "GPU-d4"}
    seconds = [seconds for _, seconds in clocks]
    assert min(seconds) < -MOST_SKEW_S / 2
    assert max(seconds) > MOST_SKEW_S / 2
    assert all(1 <= abs(one) <= MOST_SKEW_S for one in seconds)
    assert any(abs(one) < LEASE_S for one in seconds)


def test_of_what_was_cancelled_only_a_training_without_its_model_did_not_succeed(database: Database) -> None:
    model = register_model(database, ("birds", 1), "d" * 64, ["robin"], "{}", "/models/birds/1")

    def training() -> NewJob:
        run = NewRun(name="finches", recipe={"mode": "head"}, seed=7, base_model_id=model)
        return NewJob(None, kind="finetune", queue="train", run=run)

    trained, untrained, sorted_ = (
        accept(database, job, iter([NewItem(b"a.jpg", label="robin")]))
        for job in (training(), training(), NewJob(model))
    )
    with database.write() as connection:
        connection.execute(update(runs).where(runs.c.job_id == trained).values(model_id=model))
        connection.execute(update(jobs).values(state="cancelled"))
        found = [row.id for row in connection.exec_driver_sql(FAILED)]
    assert sorted(found) == [untrained, sorted_]


def test_a_supervisor_that_ends_by_itself_is_told_unless_a_fault_did_it(tmp_path: Path) -> None:
    (tmp_path / "fired.log").write_text("sweep.before exit:1 11 1700000000.0\n")
    assert _odd_ends(world(tmp_path, (1, 0), (2, -signal.SIGKILL), (11, 1))) == []
    assert _odd_ends(world(tmp_path, (3, 1))) == ["a supervisor ended by itself with status 1"]
    assert _odd_ends(world(tmp_path, (12, 0))) == ["a supervisor ended by itself with status 0"]


def test_no_fault_comes_after_the_time_for_them(tmp_path: Path) -> None:
    here = SimpleNamespace(**vars(world(tmp_path)), plan=Plan("sqlite"))
    report = Report((1,), "sqlite")
    _hurt(here, Pace(here), Dose((1,), faults=5, until=time.monotonic()), report)  # type: ignore[arg-type]
    assert (report.happened, report.missed.total()) == ([], 0)


def test_a_second_version_of_a_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "models" / "fruit" / "1").mkdir(parents=True)
    assert _odd_versions(world(tmp_path)) == []
    (tmp_path / "models" / "fruit" / "2").mkdir()
    assert _odd_versions(world(tmp_path)) == ["the model fruit has the versions ['1', '2']"]
