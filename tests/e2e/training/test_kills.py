"""A training that is killed, paused, hung or told to stop in the middle ends as the one that was left alone.

The tests share a home: run 1 was left alone. An epoch of these pictures takes some hundredths of a second, so there are
many: a kill has to meet them.
"""

import signal
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.training.conftest import training_home
from tests.running import Home, command_of, eventually, running
from tests.servers import new_postgres_database
from tests.trainings import CURVE, QUICK
from worker.supervisor import DRAIN_S

EPOCHS = 150
WORKER = ("worker", "--devices", "cpu")
# Read by a worker's processes: their heartbeats' clock is ahead by as many seconds as the file says.
AHEAD = """
import os, sys, time

class Clock:
    @staticmethod
    def monotonic():
        with open(os.path.join(os.path.dirname(__file__), "ahead")) as file:
            return time.monotonic() + float(file.read() or 0)

if sys.orig_argv[2:4] == ["-m", "worker"]:
    from worker import heartbeat
    heartbeat.time = Clock
"""
ENDS = "SELECT outcome FROM attempts a JOIN shards s ON s.id = a.shard_id WHERE s.job_id = {} ORDER BY a.n"
LONG = (*QUICK, "--epochs", str(EPOCHS), "--set", "optimizer.learning_rate=0.0001")


@pytest.fixture(scope="module")
def calm(common_home: Home, dataset: Path) -> Home:
    """The common home, with run 1: calm@1."""
    common_home.environment["PIXMILL_CHECKPOINT_S"] = "0.5"
    common_home.run("finetune", dataset, "--name", "calm", *LONG)
    assert epochs(common_home, 1) == EPOCHS
    return common_home


@pytest.fixture
def on_postgresql(calm: Home, tmp_path: Path, postgres: str) -> Iterator[Home]:
    """Another home, whose database is PostgreSQL."""
    for home in training_home(tmp_path / "home"):
        home.environment |= calm.environment | {"PIXMILL_DATABASE_URL": new_postgres_database(postgres)}
        yield home


def epochs(home: Home, run: int) -> int:
    return int(home.sql(f"SELECT COUNT(*) AS n FROM epochs WHERE run_id = {run}")[0]["n"])


def newest_with_epochs(home: Home, reached: int) -> int:
    """Wait until a run that goes on has more epochs than that; its number."""
    newest = "SELECT id FROM runs WHERE state NOT IN ('done', 'failed', 'cancelled') ORDER BY id DESC LIMIT 1"
    eventually(lambda: bool(home.sql(newest)), 60, "the run")
    (run,) = home.sql(newest)
    eventually(lambda: epochs(home, run["id"]) > reached, 150, "some epochs")
    return int(run["id"])


def weights(home: Home, model: str) -> bytes:
    """The weights inside a model file: the archive around them carries the time of day."""
    with zipfile.ZipFile(home.path / "models" / model / "1" / "model.keras") as archive:
        content: bytes = archive.read("model.weights.h5")
    return content


def trainer_of(home: Home) -> psutil.Process:
    (trainer,) = [p for p in home.processes() if "worker.training.trainer" in command_of(p)]
    return trainer


def train_with_a_kill(home: Home, run: int, reached: int, *arguments: object) -> None:
    """Train to the end, the trainer killed after so many epochs."""
    with running(home, "finetune", *arguments) as process:
        eventually(lambda: epochs(home, run) > reached, 150, "some epochs")
        trainer_of(home).kill()
        _out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err


def check_the_same(calm: Home, calm_run: int, wild: Home, run: int) -> None:
    """Two runs have one history and one best epoch; the second is the work of several attempts."""
    assert wild.sql(CURVE.format(run)) == calm.sql(CURVE.format(calm_run))
    best = "SELECT best_epoch, best_value FROM runs WHERE id = {}"
    assert wild.sql(best.format(run)) == calm.sql(best.format(calm_run))
    attempts = wild.sql(f"SELECT COUNT(DISTINCT attempt) AS n FROM epochs WHERE run_id = {run}")
    assert attempts[0]["n"] >= 2  # a third where a slow machine loses a lease
    restarts = wild.sql(f"SELECT epoch FROM v_run_curve WHERE run_id = {run} AND restarted = 1")
    assert len(restarts) == attempts[0]["n"] - 1


def test_a_run_killed_in_the_middle_ends_as_if_it_had_not_been(calm: Home, dataset: Path) -> None:
    train_with_a_kill(calm, 2, 20, dataset, "--name", "wild", *LONG)
    check_the_same(calm, 1, calm, 2)
    assert weights(calm, "wild") == weights(calm, "calm")


def test_a_trainer_that_hangs_is_ended_after_a_quarter_of_an_hour_and_its_run_goes_on(
    calm: Home, dataset: Path, tmp_path: Path
) -> None:
    """Not after `stall_s`, two minutes: it may be compiling a large network. See docs/outages.md."""
    ahead = tmp_path / "ahead"
    ahead.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(AHEAD)
    home = Home(calm.path, calm.environment | {"PYTHONPATH": str(tmp_path)})
    with running(home, "finetune", dataset, "--name", "hung", *LONG) as process:
        run = newest_with_epochs(home, 20)
        trainer = trainer_of(home)
        worker = trainer.parent()
        assert worker is not None
        trainer.suspend()
        time.sleep(2)  # what it had said before is written down
        ahead.write_text("840")
        time.sleep(3)  # six beats of the lease
        assert trainer.is_running()
        assert worker.is_running()
        ahead.write_text("1800")
        eventually(lambda: not trainer.is_running() and not worker.is_running(), 20, "the end of both")
        _out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    eventually(lambda: not home.processes(), 5, "the end of all")
    assert "no progress for 900 s: giving up this process" in (home.path / "logs/worker-train-cpu.log").read_text()
    check_the_same(calm, 1, home, run)
    assert weights(calm, "hung") == weights(calm, "calm")


def test_a_worker_that_is_told_to_stop_writes_a_checkpoint_in_time_and_the_next_one_goes_on(
    calm: Home, dataset: Path
) -> None:
    with running(calm, *WORKER) as supervisor:
        job = int(calm.run("finetune", dataset, "--name", "stopped", *LONG, "--detach").stdout)
        run = newest_with_epochs(calm, 20)
        before = time.monotonic()
        supervisor.send_signal(signal.SIGTERM)
        supervisor.communicate(timeout=60)
        assert time.monotonic() - before < DRAIN_S
        assert supervisor.returncode == 0
    eventually(lambda: not calm.processes(), 5, "the end of all, the trainer too")
    reached = epochs(calm, run)
    assert 20 < reached < EPOCHS
    assert calm.sql(f"SELECT state, attempt FROM shards WHERE job_id = {job}") == [{"state": "ready", "attempt": 1}]
    assert calm.sql(ENDS.format(job)) == [{"outcome": "released"}]
    assert calm.sql(f"SELECT checkpoint_epoch FROM runs WHERE id = {run}") == [{"checkpoint_epoch": reached}]
    with running(calm, *WORKER):
        eventually(lambda: calm.sql(f"SELECT state FROM jobs WHERE id = {job}") == [{"state": "done"}], 180, "its end")
    assert calm.sql(ENDS.format(job)) == [{"outcome": "released"}, {"outcome": "done"}]
    assert calm.sql(f"SELECT id FROM runs WHERE job_id = {job}") == [{"id": run}]
    check_the_same(calm, 1, calm, run)
    assert weights(calm, "stopped") == weights(calm, "calm")


@pytest.mark.long
def test_the_same_on_postgresql(calm: Home, on_postgresql: Home, dataset: Path) -> None:
    train_with_a_kill(on_postgresql, 1, 20, dataset, "--name", "wild", *LONG)
    check_the_same(calm, 1, on_postgresql, 1)
    assert weights(on_postgresql, "wild") == weights(calm, "calm")


@pytest.mark.long
def test_a_head_on_a_registered_model_and_then_all_of_it_in_one_run(calm: Home, dataset: Path) -> None:
    """Two phases and one history; a trainer that dies in the second one goes on there."""
    calm.environment["PIXMILL_CHECKPOINT_S"] = "0.2"
    both = ("--base", "calm@1", "--mode", "two_phase", "--epochs", "3", "--set", "second_phase.epochs=100")
    calm.run("finetune", dataset, "--name", "whole", *both)
    (first,) = calm.sql("SELECT MAX(id) AS id FROM runs")
    train_with_a_kill(calm, first["id"] + 1, 20, dataset, "--name", "cut", *both)
    check_the_same(calm, first["id"], calm, first["id"] + 1)
    phases = [row["phase"] for row in calm.sql(f"SELECT phase FROM epochs WHERE run_id = {first['id']} ORDER BY epoch")]
    assert phases == ["head"] * 3 + ["tune"] * 100
    assert weights(calm, "whole") == weights(calm, "cut")
    assert calm.json("models", "show", "whole", "--json")[0]["lineage"]["base"] == "calm@1"


def test_a_paused_run_goes_on_and_a_cancelled_one_keeps_its_best(home: Home, dataset: Path) -> None:
    slow = (*QUICK, "--epochs", "4000")
    with running(home, "worker", "--devices", "cpu"):
        job = int(home.run("finetune", dataset, "--name", "fruit", *slow, "--detach").stdout)
        eventually(lambda: epochs(home, 1) > 2, 150, "the first epochs")
        home.run("jobs", "pause", job)
        eventually(lambda: home.sql("SELECT state FROM shards") == [{"state": "ready"}], 60, "the run is given back")
        reached = epochs(home, 1)
        (pointer,) = home.sql("SELECT checkpoint_epoch FROM runs")
        assert pointer["checkpoint_epoch"] >= reached - 1
        home.run("jobs", "resume", job, "--detach")
        eventually(lambda: epochs(home, 1) > reached + 5, 150, "further epochs")
        home.run("jobs", "cancel", job, "--keep-best", "--detach")
        eventually(lambda: home.sql("SELECT state FROM v_runs") == [{"state": "cancelled"}], 150, "the end of the run")
    (run,) = home.sql("SELECT model, best_epoch, accuracy FROM v_runs")
    assert run["model"] == "fruit@1"
    assert run["accuracy"] > 0.5
    assert reached <= epochs(home, 1) < 4000
