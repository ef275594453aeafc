"""Many trainings, one after another, in one worker: what its child keeps of them.

usage: ./do bench training_memory [TRAININGS] [fake|real]
Prints the child's resident megabytes: before it has trained, and after each training, ten a line. `fake`: the engine
that classifies for the evaluation is the tests' stand-in. There is no bar; what it should show is a level that stays.
"""

import sys
import tempfile
from pathlib import Path

import psutil

from tests.databases import ready_home
from tests.killing import worker_parents
from tests.running import Home, command_of, eventually, running
from tests.trainings import QUICK, write_dataset

MB = 1e6


def children_of(home: Home) -> list[psutil.Process]:
    """The training worker's child, as soon as it is there."""
    parents = [one for one in worker_parents(home) if command_of(one)[4] == "train"]
    return [child for parent in parents for child in parent.children() if "train" in command_of(child)]


def train(home: Home, data: Path, number: int) -> None:
    """One short training, to its end."""
    words = ("finetune", data, "--name", f"fruit{number}", *QUICK, "--epochs", "1", "--detach")
    job = int(home.run(*words).stdout)
    eventually(lambda: home.sql(f"SELECT finished_at FROM jobs WHERE id = {job}")[0]["finished_at"], 300, "its end")
    (row,) = home.sql(f"SELECT state FROM jobs WHERE id = {job}")
    assert row["state"] == "done", row


def main(trainings: int, engine: str) -> None:
    """Train so many; print the memory."""
    with tempfile.TemporaryDirectory(prefix="pixmill-bench-") as folder:
        home = Home(Path(folder) / "home", {"PIXMILL_ENGINE": "fake"} if engine == "fake" else {})
        ready_home(home.path)
        data = write_dataset(Path(folder) / "fruit")
        with running(home, "worker", "--devices", "cpu", "--queues", "classify,train"):
            eventually(lambda: len(children_of(home)) == 1, 120, "the training worker")
            (child,) = children_of(home)
            print(f"before: {child.memory_info().rss / MB:.0f} MB", flush=True)
            for number in range(1, trainings + 1):
                train(home, data, number)
                assert child.is_running(), "the child was replaced"
                mark = "\n" if number % 10 == 0 else " "
                print(f"{child.memory_info().rss / MB:6.0f}", end=mark, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60, sys.argv[2] if len(sys.argv) > 2 else "real")
