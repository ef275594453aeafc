"""The trainings that the project measures itself by, on the shared data folder, by the command line.

usage: ./do bench trainings [pets] [caltech] [scratch] [fashion] [cifar] [kills]   (none named: all, about half an hour)
pets, caltech: a new head on MobileNetV2. scratch: EfficientNetV2B0 from nothing with every augmentation, two epochs.
fashion: fashion_cnn on all of Fashion-MNIST, twice with one seed. cifar: the small networks in their order. kills: a
run that is killed five times at random against one that is left alone.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from bench.bulk import MODEL, REPOSITORY, SHARED, run

COLUMNS = "epoch, loss, accuracy, val_loss, val_accuracy, learning_rate"
CURVE = "SELECT " + COLUMNS + " FROM v_run_curve WHERE run_id = {} ORDER BY epoch"
RESTARTS = "SELECT epoch FROM v_run_curve WHERE run_id = {} AND restarted = 1"
KILLS = 5


def sql(home: Path, query: str) -> list[dict[str, Any]]:
    """Rows of a query."""
    return [json.loads(line) for line in run("cli", "sql", query, "--json", home=home).splitlines()]


def unpack(home: Path, name: str) -> Path:
    """A data set of the shared folder, unpacked once."""
    folder = home.parent / name.partition(".")[0]
    if not folder.is_dir():
        with tarfile.open(SHARED / name) as archive:
            archive.extractall(home.parent, filter="data")
    return folder


def train(home: Path, data: Path, name: str, *options: object) -> dict[str, Any]:
    """Train by the command line, and say what came out."""
    began = time.perf_counter()
    run("cli", "finetune", data, "--name", name, *options, home=home)
    (row,) = sql(home, "SELECT * FROM v_runs ORDER BY run_id DESC LIMIT 1")
    told = f"accuracy {row['accuracy']:.4f}, best epoch {row['best_epoch']} of {row['epochs']}"
    print(f"{name}: {told}, {time.perf_counter() - began:.0f} s", flush=True)
    return row


def pets(home: Path) -> None:
    row = train(home, unpack(home, "cats_dogs.tar"), "pets", "--base", "mobilenet_v2", "--mode", "head")
    assert row["accuracy"] >= 0.97


def caltech(home: Path) -> None:
    row = train(home, unpack(home, "caltech20.tar"), "caltech", "--base", "mobilenet_v2", "--allow-leaks")
    assert row["accuracy"] >= 0.96


def scratch(home: Path) -> None:
    data = unpack(home, "caltech20.tar")
    # 681 pictures are 22 batches of 32: in batches of 8 two epochs are enough steps to see the loss fall.
    gentle = ("--set", "batch_size=8", "--set", "optimizer.learning_rate=0.03")
    row = train(home, data, "scratch", "--preset", "efficientnetv2_b0", "--epochs", 2, "--allow-leaks", *gentle)
    losses = [epoch["loss"] for epoch in sql(home, CURVE.format(row["run_id"]))]
    print(f"scratch: losses {losses}")
    assert losses[1] < losses[0]


def fashion(home: Path) -> None:
    data = unpack(home, "fashion_mnist.tar.xz")
    rows = [train(home, data, "fashion", "--preset", "fashion_cnn", "--epochs", 15, "--allow-leaks") for _ in range(2)]
    first, second = (sql(home, CURVE.format(row["run_id"])) for row in rows)
    assert first == second, "the same seed, another history"
    run("cli", "evaluate", data / "test", "--model", "fashion", "--no-reuse", "--json", home=home)
    query = "SELECT e.job_id, e.images, e.accuracy FROM evaluations e JOIN models m ON m.id = e.model_id"
    figures = sql(home, query + " WHERE m.name = 'fashion' ORDER BY e.job_id")
    print(f"fashion: {figures}")
    assert len({row["accuracy"] for row in figures}) == 1
    assert rows[0]["accuracy"] >= 0.89


def cifar(home: Path) -> None:
    data = unpack(home, "cifar10_subset.tar")
    rows = [
        train(home, data, preset, "--preset", preset, "--allow-leaks")
        for preset in ("cifar_cnn", "cifar_vgg", "cifar_vgg_bn", "cnn_l2")
    ]
    plain, vgg, normalised, _l2 = (row["accuracy"] for row in rows)
    assert plain < vgg < normalised


def kills(home: Path) -> None:
    data = unpack(home, "cifar10_subset.tar")
    options = ("--preset", "cifar_vgg_bn", "--epochs", 12, "--allow-leaks")
    calm = train(home, data, "calm", *options)
    environment = {**os.environ, "PIXMILL_HOME": str(home), "PIXMILL_LEASE_S": "6", "PIXMILL_CHECKPOINT_S": "5"}
    words = [sys.executable, "-P", "-m", "cli", "finetune", data, "--name", "wild", *options]
    chance = random.Random(time.time_ns())
    with subprocess.Popen([str(word) for word in words], env=environment, cwd=REPOSITORY) as process:
        killed = reached = 0
        while process.poll() is None and killed < KILLS:
            time.sleep(1)
            (row,) = sql(home, "SELECT COUNT(*) AS n FROM epochs WHERE run_id = (SELECT MAX(id) FROM runs)")
            if row["n"] > reached:  # it has gone further since the last kill
                time.sleep(chance.uniform(0, 10))
                reached = row["n"]
                killed += _kill_one(home, chance)
    assert process.returncode == 0, process.returncode
    (wild,) = sql(home, "SELECT * FROM v_runs ORDER BY run_id DESC LIMIT 1")
    same = sql(home, CURVE.format(calm["run_id"])) == sql(home, CURVE.format(wild["run_id"]))
    weights = [_weights(home, name) for name in ("calm", "wild")]
    restarts = sql(home, RESTARTS.format(wild["run_id"]))
    print(f"kills: {killed} kills, restarts at {[row['epoch'] for row in restarts]}; same history: {same}; ", end="")
    print(f"same best epoch: {calm['best_epoch'] == wild['best_epoch']}; same weights: {weights[0] == weights[1]}")
    assert same
    assert weights[0] == weights[1]


def _kill_one(home: Path, chance: random.Random) -> int:
    """Kill the trainer, or one of the two processes of the worker that started it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            training = "worker.training.trainer" in words or words[2:5] == ["-m", "worker", "train"]
            if training and process.environ().get("PIXMILL_HOME") == str(home):
                found.append(process)
        except psutil.Error:
            continue
    if not any("worker.training.trainer" in process.cmdline() for process in found):
        return 0  # between two attempts
    chance.choice(found).send_signal(signal.SIGKILL)
    return 1


def _weights(home: Path, name: str) -> bytes:
    with zipfile.ZipFile(home / "models" / name / "1" / "model.keras") as archive:
        return archive.read("model.weights.h5")


BARS: dict[str, Callable[[Path], None]] = {
    "pets": pets,
    "caltech": caltech,
    "scratch": scratch,
    "fashion": fashion,
    "cifar": cifar,
    "kills": kills,
}


def main(names: list[str]) -> None:
    """Run the bars that are named, or all."""
    with tempfile.TemporaryDirectory(prefix="pixmill-bench-") as place:
        home = Path(place) / "home"
        home.mkdir()
        if not names or {"pets", "caltech"} & set(names):
            run("cli", "models", "import", MODEL, home=home)
        for name in names or BARS:
            BARS[name](home)


if __name__ == "__main__":
    main(sys.argv[1:])
