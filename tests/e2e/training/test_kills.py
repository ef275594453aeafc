"""A training that is killed or paused in the middle ends as the one that was left alone.

The tests share a home: run 1 was left alone. An epoch of these pictures takes some hundredths of a second, so there are
many: a kill has to meet them.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.training.conftest import training_home
from tests.running import Home, command_of, eventually, running
from tests.servers import new_postgres_database
from tests.trainings import CURVE, QUICK

EPOCHS = 150
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


def weights(home: Home, model: str) -> bytes:
    """The weights inside a model file: the archive around them carries the time of day."""
    with zipfile.ZipFile(home.path / "models" / model / "1" / "model.keras") as archive:
        content: bytes = archive.read("model.weights.h5")
    return content


def train_with_a_kill(home: Home, run: int, reached: int, *arguments: object) -> None:
    """Train to the end, the trainer killed after so many epochs."""
    with running(home, "finetune", *arguments) as process:
        eventually(lambda: epochs(home, run) > reached, 150, "some epochs")
        (trainer,) = [p for p in home.processes() if "worker.training.trainer" in command_of(p)]
        trainer.kill()
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
