"""Runs at the edges: nothing to validate on, blanks in names, damaged neighbours, lost checkpoints."""

import shutil
from pathlib import Path

import pytest

from tests.running import Home, eventually, running
from tests.trainings import QUICK, write_classes, write_dataset


def test_a_set_too_small_to_hold_anything_back_is_trained_on_beside_a_damaged_model(home: Home, tmp_path: Path) -> None:
    """Names with blanks and brackets, no validation, no test, and a broken folder in the registry."""
    write_classes(tmp_path / "tiny", 3, names=("apple ", "[bold red]brick"))
    (home.path / "models" / "broken" / "1").mkdir(parents=True)
    home.run("finetune", tmp_path / "tiny", "--name", "tiny", *QUICK, "--epochs", "2", "--set", "split.validation=0")
    (run,) = home.sql("SELECT state, model, accuracy FROM v_runs")
    assert run == {"state": "done", "model": "tiny@1", "accuracy": None}
    shutil.rmtree(home.path / "models" / "broken")
    labels = home.json("models", "show", "tiny", "--json")[0]["labels"]
    assert labels == ["[bold red]brick", "apple"]


def test_a_class_without_a_readable_file_is_refused_with_what_was_found(home: Home, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", train=6, test=2)
    (data / "train" / "rotten").mkdir()
    for number in range(6):
        (data / "train" / "rotten" / f"{number}.png").write_text("no picture")
    refused = home.run("finetune", data, "--name", "x", *QUICK, "--epochs", "1", code=1)
    assert "rotten" in refused.stderr
    assert home.sql("SELECT COUNT(*) AS n FROM v_failures") == [{"n": 6}]
    assert home.sql("SELECT state FROM v_runs") == [{"state": "failed"}]
    assert not list((home.path / "runs").glob("*/*.npy"))


@pytest.mark.long
def test_a_lost_checkpoint_begins_the_history_anew_and_cannot_be_continued(home: Home, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", train=10, test=3)
    with running(home, "worker", "--devices", "cpu"):
        job = int(home.run("finetune", data, "--name", "x", *QUICK, "--epochs", "3000", "--detach").stdout)
        eventually(lambda: home.sql("SELECT COUNT(*) AS n FROM epochs")[0]["n"] > 20, 150, "some epochs")
        home.run("jobs", "pause", job)
        eventually(lambda: home.sql("SELECT state FROM shards") == [{"state": "ready"}], 60, "the run is given back")
        for attempts in (home.path / "runs").glob("*/attempts"):
            shutil.rmtree(attempts)
        home.run("jobs", "resume", job, "--detach")
        eventually(lambda: _epochs_of_attempt(home, 2) > 0, 150, "the second attempt")
        assert _epochs_of_attempt(home, 1) == 0
        home.run("jobs", "cancel", job, "--keep-best", "--detach")
        eventually(lambda: home.sql("SELECT state FROM v_runs") == [{"state": "cancelled"}], 150, "the end")
    for attempts in (home.path / "runs").glob("*/attempts"):
        shutil.rmtree(attempts)
    refused = home.run("finetune", "--continue", "1", "--epochs", "+1", code=1)
    assert "runs recipe 1" in refused.stderr


def _epochs_of_attempt(home: Home, attempt: int) -> int:
    return int(home.sql(f"SELECT COUNT(*) AS n FROM epochs WHERE attempt = {attempt}")[0]["n"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--preset", "efficientnetv2_m", "--mode", "full"), "no published weights"),
        (("--preset", "efficientnetv2_b0", "--mode", "head", "--set", "pretrained=false"), "learn nothing"),
        (("--preset", "fashion_cnn", "--mode", "head"), "without pretrained weights"),
        (("--preset", "fashion_cnn", "--set", "optimizer.learning_rate=inf"), "learning_rate"),
        (("--preset", "fashion_cnn", "--set", "mode=[1]"), "mode"),
        (("--preset", "fashion_cnn", "--set", "batch_size=true"), "batch_size"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_queued(
    home: Home, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    write_classes(tmp_path / "data", 4)
    refused = home.run("finetune", tmp_path / "data", "--name", "x", *options, code=2)
    assert said in refused.stderr
    assert not (home.path / "pixmill.db").exists() or not home.sql("SELECT * FROM jobs")
