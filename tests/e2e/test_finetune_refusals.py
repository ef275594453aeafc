"""Trainings and evaluations that cannot be are refused before anything is queued, in words, with the right code."""

import shutil
from pathlib import Path

from tests.e2e.conftest import Refused
from tests.running import LABELS, Home
from tests.trainings import write_classes

ARCHITECTURE = ("--preset", "fashion_cnn")


def assert_nothing_is_queued(home: Home) -> None:
    assert home.sql("SELECT id FROM jobs") == []
    assert not home.processes()


def test_data_that_cannot_be_trained_on_is_told_before_it_is_queued(
    fake_home: Home, tmp_path: Path, refused: Refused
) -> None:
    write_classes(tmp_path / "good", 3)
    write_classes(tmp_path / "alone", 3, names=("apple",))
    write_classes(tmp_path / "few", 3)
    for extra in list((tmp_path / "few" / "brick").iterdir())[1:]:
        extra.unlink()
    (tmp_path / "flat").mkdir()
    for n, file in enumerate((tmp_path / "good" / "apple").iterdir()):
        shutil.copy(file, tmp_path / "flat" / f"{n}.png")
    (tmp_path / "splits.csv").write_text(
        "file_name,label,split\ngood/apple/0000.png,a,train\ngood/brick/0000.png,b,later\n"
    )
    (tmp_path / "empty").mkdir()
    begin = ("--name", "n", *ARCHITECTURE)
    refused(
        fake_home,
        [
            (("finetune", tmp_path / "god", *begin), 4, "good"),
            (("finetune", tmp_path / "empty", *begin), 2, "empty"),
            (("finetune", tmp_path / "alone", *begin), 2, "two classes"),
            (("finetune", tmp_path / "few", *begin), 2, "brick"),
            (("finetune", tmp_path / "flat", *begin), 2, "folder for each class"),
            (("finetune", tmp_path / "splits.csv", *begin), 2, "later"),
            # The base knows ant … eel, and its last layer is to stay.
            (("finetune", tmp_path / "good", "--name", "n", "--base", "fake", "--set", "keep_head=true"), 2, "apple"),
            (("evaluate", tmp_path / "good", "--model", "fake"), 2, "apple"),
            (("evaluate", tmp_path / "flat", "--model", "fake"), 2, "folder for each class"),
            (("evaluate", tmp_path / "good", "--model", "fakee"), 4, "Did you mean fake"),
        ],
    )
    assert_nothing_is_queued(fake_home)


def test_choices_that_do_not_fit_are_told_before_it_is_queued(
    fake_home: Home, tmp_path: Path, refused: Refused
) -> None:
    write_classes(tmp_path / "good", 3)
    (tmp_path / "r.toml").write_text('preset = "fashion_cnn"\nepoch = 3\n')
    data = ("finetune", tmp_path / "good")
    named = (*data, "--name", "n")
    refused(
        fake_home,
        [
            ((*data, *ARCHITECTURE), 2, "--name NAME"),
            ((*data, "--name", "a/b", *ARCHITECTURE), 2, "a/b"),
            (named, 2, "--base MODEL"),
            ((*named, "--base", "fake", *ARCHITECTURE), 2, "exclude each other"),
            ((*named, "--base", "fakee"), 4, "Did you mean fake"),
            ((*named, "--preset", "fashion_cn"), 2, "Did you mean fashion_cnn"),
            ((*named, *ARCHITECTURE, "--mode", "head"), 2, "leave --mode away"),
            ((*named, *ARCHITECTURE, "--mode", "quick"), 2, "two_phase"),
            ((*named, *ARCHITECTURE, "--set", "optimizer.lr=1"), 2, "no key 'optimizer.lr'"),
            ((*named, "--recipe", tmp_path / "r.toml"), 2, "Did you mean epochs"),
            ((*named, "--recipe", tmp_path / "none.toml"), 4, "none.toml"),
            ((*named, *ARCHITECTURE, "--epochs", "+3"), 2, "--continue"),
            ((*named, *ARCHITECTURE, "--device", "7"), 2, "no device '7'"),
            ((*named, *ARCHITECTURE, "--detach", "--tensorboard", tmp_path), 2, "runs log"),
            ((*named, "--continue", "n"), 2, "leave DATASET"),
            (("finetune", "--continue", "n", "--epochs", "+1"), 4, "n"),
            (("evaluate",), 2, "--job JOB"),
        ],
    )
    assert_nothing_is_queued(fake_home)


def test_a_split_that_is_not_there_cannot_be_evaluated(fake_home: Home, tmp_path: Path, refused: Refused) -> None:
    write_classes(tmp_path / "data" / "train", 2, names=LABELS[:3])
    refused(fake_home, [(("evaluate", tmp_path / "data", "--model", "fake", "--split", "test"), 2, "train")])
    assert_nothing_is_queued(fake_home)


def test_a_detached_training_waits_and_can_be_looked_at(home: Home, tmp_path: Path) -> None:
    write_classes(tmp_path / "good", 3)
    recipe = tmp_path / "r.toml"
    recipe.write_text('preset = "fashion_cnn"\nepochs = 2\n')
    done = home.run("finetune", tmp_path / "good", "--name", "n", "--recipe", recipe, "--epochs", 4, "--detach")
    assert done.stdout == "1\n"
    assert "jobs follow 1" in done.stderr
    (run,) = home.json("runs", "list", "--json")
    assert (run["state"], run["epochs_planned"], run["recipe"]["preset"]) == ("queued", 4, "fashion_cnn")
    assert "waits for a worker" in home.run("jobs", "show", 1).stdout
    going_on = home.run("finetune", "--continue", "n", "--epochs", "+1", code=2)
    assert "not finished" in going_on.stderr
    assert home.json("jobs", "cancel", 1, "--json")[0]["run"]["state"] == "cancelled"
    assert "no checkpoint" in home.run("finetune", "--continue", "n", "--epochs", "+1", code=2).stderr
