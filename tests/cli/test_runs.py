"""`pixmill runs` and what `jobs` says of trainings, over rows that were written through the store."""

import json
import tomllib
from pathlib import Path

import pytest

from models.recipes import check_recipe
from store import runs
from store.database import Database
from store.evaluations import evaluation
from store.run_rows import Finding, RunRow
from tests.cli.conftest import Pixmill
from tests.cli.histories import History, accept_run, claim_run, finished_run, survey_run

FIRST = History(answers=("robin", "wren", "wren", "wren"))
SECOND = History(version=2, learning_rate=3e-3, losses=(0.8, 0.7, 0.3), answers=("robin", "robin", "robin", "wren"))


@pytest.fixture
def two(home_database: Database) -> tuple[RunRow, RunRow]:
    return finished_run(home_database, FIRST), finished_run(home_database, SECOND)


def test_a_home_without_runs_says_how_to_make_one(pixmill: Pixmill, home_database: Database) -> None:
    assert "finetune" in pixmill("runs", "list").err
    assert pixmill("runs", "list", "--json").out == ""


def test_before_the_first_job_there_are_no_runs_either(pixmill: Pixmill) -> None:
    told = pixmill("runs", "list")
    assert (told.code, told.out) == (0, "")
    assert pixmill("runs", "show", "1").code == 4


def test_runs_are_listed_with_what_came_out(pixmill: Pixmill, two: tuple[RunRow, RunRow]) -> None:
    lines = pixmill("runs", "list").out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["2", "finches", "done"], ["1", "finches", "done"]]
    assert "finches@2" in lines[1]
    assert "val_loss 0.3000" in lines[1]
    listed = [json.loads(line) for line in pixmill("runs", "list", "--json", "--limit", "1").out.splitlines()]
    assert [(run["run"], run["best_epoch"], run["base"]) for run in listed] == [(2, 3, "birds@1")]


@pytest.mark.parametrize(("named", "number"), [("1", 1), ("finches", 2), ("finches@1", 1), ("finches@2", 2)])
def test_a_run_is_found_by_number_name_and_model(
    pixmill: Pixmill, two: tuple[RunRow, RunRow], named: str, number: int
) -> None:
    assert pixmill("runs", "show", named, "--json").json["run"] == number


def test_an_unknown_run_is_not_found(pixmill: Pixmill, two: tuple[RunRow, RunRow]) -> None:
    for command in (("show", "9"), ("recipe", "owls"), ("compare", "1", "owls@1"), ("report", "finches@3")):
        told = pixmill("runs", *command)
        assert told.code == 4, told
        assert "runs list" in told.err


def test_a_run_is_shown_with_its_curve_and_its_classes(pixmill: Pixmill, two: tuple[RunRow, RunRow]) -> None:
    shown = pixmill("runs", "show", "1").out
    assert "finches@1 is ready" in shown
    assert "3 train · 2 validation (1 unreadable, 2 nearly identical to another)" in shown
    assert "Classes with few pictures: wren 2." in shown
    assert "★ best: epoch 2" in shown
    assert "accuracy 0.7500 (3 of 4)" in shown
    assert "robin → wren" in shown
    assert [line.split()[:3] for line in shown.splitlines() if line.startswith(("robin ", "wren "))] == [
        ["robin", "2", "1"],
        ["wren", "2", "2"],
    ]


def test_a_run_as_json_has_its_history_and_its_evaluation(pixmill: Pixmill, two: tuple[RunRow, RunRow]) -> None:
    told = pixmill("runs", "show", "1", "--json").json
    assert [epoch["val_loss"] for epoch in told["history"]] == [0.9, 0.4, 0.5]
    assert [epoch["is_best"] for epoch in told["history"]] == [False, True, False]
    assert told["evaluation"]["accuracy"] == 0.75
    assert {"true": "robin", "predicted": "wren", "images": 1} in told["evaluation"]["confusion"]
    assert told["images"] == {"train": 3, "val": 2, "test": 0}
    assert told["unreadable"] == 1


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_curve_is_drawn_into_a_file(
    pixmill: Pixmill, two: tuple[RunRow, RunRow], tmp_path: Path, ending: str
) -> None:
    told = pixmill("runs", "show", "1", "--plot", tmp_path / f"curve.{ending}")
    assert (told.code, told.out) == (0, ""), told.err
    head = (tmp_path / f"curve.{ending}").read_bytes()[:200]
    assert (b"<svg" in head or b"<?xml" in head) if ending == "svg" else head.startswith(b"\x89PNG")


def test_a_figure_that_cannot_be_is_refused(
    pixmill: Pixmill, two: tuple[RunRow, RunRow], home_database: Database, tmp_path: Path
) -> None:
    assert ".svg or .png" in pixmill("runs", "show", "1", "--plot", tmp_path / "curve.pdf").err
    assert pixmill("runs", "show", "1", "--plot", tmp_path / "nowhere" / "curve.svg").code == 4
    accept_run(home_database, History(name="owls"))
    told = pixmill("runs", "show", "owls", "--plot", tmp_path / "curve.svg")
    assert (told.code, "no curve" in told.err) == (2, True)


def test_a_recipe_comes_out_as_toml_that_makes_the_same_recipe(pixmill: Pixmill, two: tuple[RunRow, RunRow]) -> None:
    told = pixmill("runs", "recipe", "2")
    assert check_recipe(tomllib.loads(told.out)) == check_recipe(two[1].recipe)
    assert pixmill("runs", "recipe", "2", "--json").json == two[1].recipe


def test_a_report_is_found_copied_or_told_to_be_gone(
    pixmill: Pixmill, home_database: Database, two: tuple[RunRow, RunRow], tmp_path: Path
) -> None:
    gone = pixmill("runs", "report", "1")
    assert gone.code == 4
    assert "evaluate --job" in gone.err
    page = tmp_path / "report" / "index.html"
    page.parent.mkdir()
    page.write_text("<p>")
    accept_run(home_database, History(name="owls"))
    lease = claim_run(home_database)
    runs.set_evaluation(home_database, lease, two[0].evaluation_job_id or 0, str(page))
    assert pixmill("runs", "report", "owls").out.strip() == str(page)
    assert pixmill("runs", "report", "owls", "--out", tmp_path / "copy").code == 0
    assert (tmp_path / "copy" / "index.html").read_text() == "<p>"
    assert pixmill("runs", "report", "owls", "--out", tmp_path / "copy").code == 2


def test_two_runs_are_compared_by_their_best_epochs(pixmill: Pixmill, two: tuple[RunRow, RunRow]) -> None:
    told = pixmill("runs", "compare", "1", "2", "--json").json
    assert told["settings"] == {"optimizer.learning_rate": {"a": 0.001, "b": 0.003}}
    assert told["metrics"]["best epoch"] == {"a": 2, "b": 3}
    assert told["metrics"]["val_loss of it"] == {"a": 0.4, "b": 0.3}
    assert told["metrics"]["evaluated accuracy"] == {"a": 0.75, "b": 0.75}
    assert [flip["path"] for flip in told["right_to_wrong"]] == ["/photos/2.jpg"]
    assert [flip["path"] for flip in told["wrong_to_right"]] == ["/photos/1.jpg"]
    shown = pixmill("runs", "compare", "1", "2").out
    assert "optimizer.learning_rate" in shown
    assert "-0.1000" in shown
    assert "Right in run 1, wrong in run 2: 1" in shown


def test_runs_without_an_evaluation_can_be_compared_too(
    pixmill: Pixmill, home_database: Database, two: tuple[RunRow, RunRow]
) -> None:
    accept_run(home_database, History(name="owls"))
    told = pixmill("runs", "compare", "1", "owls", "--json").json
    assert told["metrics"]["evaluated accuracy"] == {"a": 0.75, "b": None}
    assert told["classes"] == []
    assert pixmill("runs", "compare", "1", "owls").code == 0
    assert "same run" in pixmill("runs", "compare", "2", "finches").err


def leak_run(database: Database, *, error: str = "1 picture is on both sides.") -> None:
    accept_run(database, History(name="leaky"))
    lease = claim_run(database)
    survey_run(database, lease, [Finding("leak", 3, 0, 0.0), Finding("leak", 4, 1, 2.5)])
    runs.fail_run(database, lease, error)


def test_a_run_that_the_gate_stopped_lists_the_leaks_and_says_what_to_do(
    pixmill: Pixmill, home_database: Database
) -> None:
    leak_run(home_database)
    told = pixmill("jobs", "follow", "1")
    assert told.code == 1
    assert "1 picture is on both sides." in told.err
    assert "/photos/3.jpg" in told.err
    assert "same bytes" in told.err
    assert "distance 2.5" in told.err
    assert "--allow-leaks" in told.err
    found = pixmill("runs", "findings", "leaky").out
    assert "/photos/4.jpg" in found
    assert [json.loads(line)["kind"] for line in pixmill("runs", "findings", "1", "--json").out.splitlines()] == [
        "leak",
        "leak",
    ]


def test_a_finished_training_with_an_unreadable_file_ends_with_failures(
    pixmill: Pixmill, two: tuple[RunRow, RunRow]
) -> None:
    told = pixmill("jobs", "follow", two[0].job_id)
    assert told.code == 6
    assert "truncated" in told.err
    assert "classify FOLDER --model finches" in told.err
    assert pixmill("jobs", "follow", two[0].job_id, "--json").json["run"]["model"] == "finches@1"


def test_a_waiting_training_is_paused_shown_and_cancelled(pixmill: Pixmill, home_database: Database) -> None:
    job_id = accept_run(home_database, History())
    assert "is paused" in pixmill("jobs", "pause", job_id).err
    shown = pixmill("jobs", "show", job_id).out
    assert "Run 1 of finches is paused: 0 of 4 epochs." in shown
    assert f"jobs resume {job_id}" in shown
    assert pixmill("jobs", "show", job_id, "--json").json["run"]["state"] == "paused"
    assert pixmill("jobs", "cancel", job_id, "--keep-best", "--json").json["state"] == "cancelled"  # nothing to keep
    assert pixmill("jobs", "list").out.splitlines()[1].split()[:3] == [str(job_id), "finetune", "cancelled"]


def test_the_best_of_a_job_that_classifies_cannot_be_kept(pixmill: Pixmill, two: tuple[RunRow, RunRow]) -> None:
    told = pixmill("jobs", "cancel", two[0].evaluation_job_id, "--keep-best")
    assert (told.code, "for trainings" in told.err) == (2, True)


def test_a_failed_training_is_tried_again_from_its_checkpoint(pixmill: Pixmill, home_database: Database) -> None:
    leak_run(home_database, error="the disk burned")
    told = pixmill("jobs", "retry", "1", "--detach")
    assert "goes on from its checkpoint" in told.err
    assert runs.find_run(home_database, 1).state == "queued"


def test_a_job_that_is_over_is_evaluated_where_it_has_labels(
    pixmill: Pixmill, home_database: Database, two: tuple[RunRow, RunRow], tmp_path: Path
) -> None:
    told = pixmill("evaluate", "--job", two[0].evaluation_job_id, "--report", tmp_path / "report")
    assert told.code == 0, told.err
    assert "finches@1: accuracy 0.7500 (3 of 4)" in told.out
    assert (tmp_path / "report" / "index.html").stat().st_size > 1000
    figures = pixmill("evaluate", "--job", two[0].evaluation_job_id, "--json").json
    assert (figures["accuracy"], figures["images"]) == (0.75, 4)
    assert Path(figures["report"]).is_relative_to(tmp_path / "home" / "reports")
    kept = evaluation(home_database, two[0].evaluation_job_id or 0)
    assert kept is not None
    assert (kept.run_id, kept.split, kept.accuracy) == (1, "val", 0.75)  # it stays the evaluation of its run
    assert pixmill("evaluate", "--job", two[0].job_id).code == 2
    assert pixmill("evaluate", "--job", "99").code == 4


def test_a_history_is_passed_on_to_tensorboard(pixmill: Pixmill, two: tuple[RunRow, RunRow], tmp_path: Path) -> None:
    told = pixmill("runs", "log", "1", "--tensorboard", tmp_path / "tb", "--json")
    assert told.json == {"run": 1, "epochs": 3}
    assert list((tmp_path / "tb").rglob("events.*"))
    assert pixmill("runs", "log", "1").code == 2
