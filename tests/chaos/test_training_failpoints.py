"""A training whose trainer or worker is killed around its checkpoints and its model ends as any other.

One run on each database is killed around its checkpoints, over and over; both must come out the same, bit by bit. That
this is what a run comes to which nobody disturbed is shown by tests/e2e/training/test_kills.py. The place between a
model and its row comes by once in a training, so there is one for each round.
"""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.armed import CODE, ROUNDS, Points, quantiles
from tests.databases import ready
from tests.running import Home, eventually, running
from tests.trainings import QUICK, write_dataset

# Each lets a checkpoint pass first: that is progress, and a training that makes some is tried again at once.
CHECKPOINTS = ("checkpoint.before", "checkpoint.written", "checkpoint.after")
REGISTERED = "model.registered"
TRAINER_S = 300.0  # for a trainer that starts on a machine that does many other things; five seconds elsewhere
REST_S = 900.0  # for what is left of a training when nobody disturbs it any more, on such a machine
EPOCHS = 60 + 90 * ROUNDS
FEW, SOME = 3, 40
STEADY = ("--set", "optimizer.learning_rate=0.0001")
LONG = (*QUICK, "--epochs", str(EPOCHS), *STEADY)
CURVE = "SELECT epoch, loss, accuracy, val_loss, val_accuracy FROM v_run_curve WHERE run_id = 1 ORDER BY epoch"

recoveries: dict[str, list[float]] = defaultdict(list)
made: list[tuple[list[dict[str, Any]], bytes]] = []  # the curve and the weights of every run


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Path]:
    yield write_dataset(tmp_path_factory.mktemp("data") / "fruit")
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print()  # noqa: T201  a report
        for name, seconds in recoveries.items():
            print(f"{name:18} {quantiles(seconds)}")  # noqa: T201


@pytest.mark.slow
@pytest.mark.timeout(5 * TRAINER_S)
def test_a_training_killed_at_each_of_its_points_makes_one_model(tmp_path: Path, dataset: Path) -> None:
    """The short dose: every point once, in one training."""
    home, points = armed(tmp_path, ready(f"sqlite:///{tmp_path}/pixmill.db"))
    with running(home, "finetune", dataset, "--name", "fruit", *QUICK, "--epochs", str(SOME), *STEADY) as command:
        for name in CHECKPOINTS:
            kill(home, points, name, "after 1 kill")
        kill(home, points, REGISTERED, "kill")
        _out, err = command.communicate(timeout=REST_S)
    assert command.returncode == 0, err
    check(home, kills=len(CHECKPOINTS) + 1)
    assert [row["epoch"] for row in home.sql(CURVE)] == list(range(1, SOME + 1))


@pytest.mark.long
@pytest.mark.timeout(4 * TRAINER_S * ROUNDS)
def test_a_training_killed_around_its_checkpoints_makes_the_same_model_once(
    database_url: str, tmp_path: Path, dataset: Path
) -> None:
    home, points = armed(tmp_path, database_url)
    with running(home, "finetune", dataset, "--name", "fruit", *LONG) as command:
        for name in CHECKPOINTS * ROUNDS:
            kill(home, points, name, "after 1 kill")
        _out, err = command.communicate(timeout=REST_S)
    assert command.returncode == 0, err
    check(home, kills=len(CHECKPOINTS) * ROUNDS)
    assert [row["epoch"] for row in home.sql(CURVE)] == list(range(1, EPOCHS + 1))
    made.append((home.sql(CURVE), weights(home)))
    assert made[0] == made[-1]


@pytest.mark.long
@pytest.mark.timeout(2 * TRAINER_S * ROUNDS)
def test_a_worker_killed_between_a_model_and_its_row_makes_it_once(
    database_url: str, tmp_path: Path, dataset: Path
) -> None:
    home, points = armed(tmp_path, database_url)
    for n in range(ROUNDS):
        with running(home, "finetune", dataset, "--name", f"fruit{n}", *QUICK, "--epochs", str(FEW)) as command:
            kill(home, points, REGISTERED, "kill")
            _out, err = command.communicate(timeout=TRAINER_S)
        assert command.returncode == 0, err
    check(home, kills=ROUNDS)


def armed(folder: Path, url: str) -> tuple[Home, Points]:
    """A home whose processes come by the points."""
    points = Points(folder / "points")
    points.folder.mkdir(parents=True)
    home = Home(
        folder,
        {
            "PIXMILL_DATABASE_URL": url,
            "PIXMILL_FAILPOINTS": str(points.folder),
            "PIXMILL_CHECKPOINT_S": "0.2",
            "PYTHONPATH": CODE,
            "PIXMILL_LEASE_S": "6",
        },
    )
    return home, points


def kill(home: Home, points: Points, name: str, action: str) -> None:
    """Kill whoever comes by a point next, and note how long the run waited for its next attempt."""
    points.arm(name, action)
    recoveries[name].append(recovered(home, points.wait(name, TRAINER_S).time))


def recovered(home: Home, killed_at: float) -> float:
    """Seconds from a kill to the next attempt at the run."""
    again = f"""SELECT MIN(a.started_at) AS at FROM attempts a JOIN shards s ON s.id = a.shard_id
        WHERE s.queue = 'train' AND a.started_at > {killed_at}"""
    eventually(lambda: home.sql(again)[0]["at"] is not None, TRAINER_S, "the next attempt")
    return float(home.sql(again)[0]["at"]) - killed_at


def check(home: Home, kills: int) -> None:
    """One model for each run, nothing open."""
    eventually(lambda: not home.processes(), 20, "the end of every process of this home")
    for run in home.sql("SELECT run AS name, state, model FROM v_runs"):
        assert (run["state"], run["model"]) == ("done", f"{run['name']}@1")
        versions = (entry.name for entry in (home.path / "models" / run["name"]).iterdir())
        assert [version for version in versions if version.isdecimal()] == ["1"]
    assert home.sql("SELECT DISTINCT state FROM jobs") == [{"state": "done"}]
    assert home.sql("SELECT COUNT(*) AS n FROM shards WHERE state <> 'done' OR token IS NOT NULL") == [{"n": 0}]
    assert home.sql("SELECT COUNT(*) AS n FROM attempts WHERE ended_at IS NULL") == [{"n": 0}]
    ended = home.sql("SELECT COUNT(*) AS n FROM attempts WHERE outcome IN ('lost', 'failed')")
    assert ended[0]["n"] >= kills


def weights(home: Home) -> bytes:
    """The weights inside a model file: the archive around them carries the time of day."""
    with zipfile.ZipFile(home.path / "models" / "fruit" / "1" / "model.keras") as archive:
        content: bytes = archive.read("model.weights.h5")
    return content
