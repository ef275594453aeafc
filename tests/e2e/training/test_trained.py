"""A labelled folder becomes a model that serves, with a history in SQL: the whole way, by the command line.

The tests share a home: run 1 made fruit@1 of a folder with two broken files, and evaluated it as job 2.
"""

import shutil
from pathlib import Path

import pytest

from tests.killing import worker_parents
from tests.running import Home, command_of, eventually, running
from tests.trainings import CURVE, NAMES, QUICK, write_classes

WITH_ERRORS = 6


@pytest.fixture(scope="module")
def data(dataset: Path) -> Path:
    broken = dataset.parent / "with broken files"
    shutil.copytree(dataset, broken)
    (broken / "train" / "apple" / "half.png").write_bytes((dataset / "train/apple/0000.png").read_bytes()[:80])
    (broken / "train" / "brick" / "text.jpg").write_text("no picture at all")
    return broken


@pytest.fixture(scope="module")
def home(common_home: Home, data: Path) -> Home:
    """The common home, with run 1."""
    done = train(common_home, data, "--name", "fruit", *QUICK, "--epochs", "6")
    assert (done["run"], done["state"], done["model"]) == (1, "done", "fruit@1")
    return common_home


def train(home: Home, *arguments: object) -> dict[str, object]:
    """Train to the end, with the two broken files told; what the command says of it."""
    (done,) = home.json("finetune", *arguments, "--json", code=WITH_ERRORS)
    return done


def test_a_folder_of_classes_becomes_a_model_with_a_history_a_report_and_rows(home: Home, dataset: Path) -> None:
    named = home.sql("SELECT path, error_code FROM v_failures WHERE job_id = 1 ORDER BY path")
    assert [(Path(row["path"]).name, row["error_code"]) for row in named] == [
        ("half.png", "truncated"),
        ("text.jpg", "not_image"),
    ]

    (run,) = home.sql("SELECT * FROM v_runs WHERE run_id = 1")
    assert (run["state"], run["model"], run["epochs"]) == ("done", "fruit@1", 6)
    curve = home.sql(CURVE.format(1))
    assert [row["epoch"] for row in curve] == list(range(1, 7))
    assert curve[-1]["loss"] < curve[0]["loss"]

    # The figure of the run, of its evaluation job, and of plain SQL over the rows are the same, to the last digit.
    (evaluation,) = home.sql("SELECT job_id, accuracy FROM evaluations WHERE run_id = 1 ORDER BY job_id LIMIT 1")
    (counted,) = home.sql(
        "SELECT 1.0 * SUM(label = true_label) / COUNT(*) AS accuracy, COUNT(*) AS n FROM v_results "
        f"WHERE job_id = {evaluation['job_id']} AND status = 'ok'"
    )
    assert counted["n"] == 36
    assert evaluation["accuracy"] == counted["accuracy"] == run["accuracy"] >= 0.9
    again = home.json("evaluate", dataset / "test", "--model", "fruit@1", "--no-reuse", "--json")[0]
    assert again["accuracy"] == run["accuracy"]

    report = home.path / "models" / "fruit" / "1" / "report"
    page = (report / "index.html").read_text()
    assert "fruit@1" in page
    assert all(name in page for name in NAMES)
    assert {"curve.svg", "confusion.svg"} <= {file.name for file in report.iterdir()}
    card = (report.parent / "card.md").read_text()
    assert f"{run['accuracy']:.3f}"[:4] in card or f"{run['accuracy']:.1%}" in card

    # The next folder is served at once, by name.
    rows = home.json("classify", dataset / "test" / "cloud", "--model", "fruit@1", "--json")
    assert sum(row["label"] == "cloud" for row in rows) >= 10
    lineage = home.json("models", "show", "fruit@1", "--json")[0]["lineage"]
    assert (lineage["kind"], lineage["run_id"]) == ("run", 1)


def test_a_finished_run_goes_on_for_more_epochs_with_the_same_history(home: Home, data: Path) -> None:
    short = train(home, data, "--name", "short", *QUICK, "--epochs", "3")["run"]
    further = train(home, "--continue", short, "--epochs", "+3")["run"]
    assert home.sql(CURVE.format(short)) == home.sql(CURVE.format(1))[:3]
    assert home.sql(CURVE.format(further)) == home.sql(CURVE.format(1))
    assert home.sql(f"SELECT model FROM v_runs WHERE run_id = {further}") == [{"model": "short@2"}]


def test_two_versions_are_compared_by_what_changed(home: Home, data: Path) -> None:
    worse = train(home, data, "--name", "fruit", *QUICK, "--epochs", "1", "--set", "seed=9")["run"]
    compared = home.json("runs", "compare", "1", worse, "--json")[0]
    assert {"epochs", "seed"} <= set(compared["settings"])
    changed = home.sql(
        "SELECT path, label_a, label_b FROM v_model_diff WHERE model_a = 'fruit@1' AND model_b = 'fruit@2'"
    )
    flips = home.sql(
        "SELECT COUNT(DISTINCT a.path) AS n FROM v_results a JOIN v_results b ON a.path = b.path "
        "AND a.label <> b.label WHERE a.model = 'fruit@1' AND b.model = 'fruit@2'"
    )
    assert len({row["path"] for row in changed}) == flips[0]["n"] > 0


@pytest.mark.long
def test_kept_crops_and_a_kept_last_layer_are_choices_of_a_recipe(home: Home, data: Path) -> None:
    more = ("--set", "augmentation.feature_crops=2", "--set", "keep_head=true", "--epochs", "2")
    further = train(home, data, "--name", "further", "--base", "fruit@1", *more)["run"]
    (first,) = home.sql("SELECT MIN(val_loss) AS loss FROM epochs WHERE run_id = 1")
    (last,) = home.sql(f"SELECT MIN(val_loss) AS loss FROM epochs WHERE run_id = {further}")
    assert last["loss"] <= first["loss"] * 1.2  # it went on from the layer that was there, not from nothing
    assert train(home, data, "--name", "fresh", "--base", "fruit@1", "--epochs", "1")["model"] == "fresh@1"
    unknown = data.parent / "others"
    write_classes(unknown, 5, names=("apple", "zebra"))
    refused = home.run("finetune", unknown, "--name", "x", "--base", "fruit@1", "--set", "keep_head=true", code=2)
    assert "zebra" in refused.stderr


def test_classifying_goes_on_beside_a_training_and_keeps_its_memory(home: Home, data: Path, tmp_path: Path) -> None:
    write_classes(tmp_path / "more", 30, start=20_000)

    def submit(*arguments: object) -> int:
        return int(home.run(*arguments, "--detach").stdout)

    def ended(job: int) -> bool:
        return str(home.sql(f"SELECT state FROM jobs WHERE id = {job}")[0]["state"]).startswith("done")

    with running(home, "worker", "--devices", "cpu"):
        eventually(lambda: len(worker_parents(home)) == 2, 90, "both workers")
        first = submit("classify", tmp_path / "more", "--model", "fruit@1", "--no-reuse")
        eventually(lambda: ended(first), 150, "the first job")
        before = classify_memory(home)
        training = submit("finetune", data, "--name", "beside", *QUICK, "--epochs", "3")
        eventually(lambda: ended(training), 180, "training")
        last = submit("classify", tmp_path / "more", "--model", "fruit@1", "--no-reuse")
        eventually(lambda: ended(last), 150, "the last job")
        assert classify_memory(home) - before < 60e6
        assert not [p for p in home.processes() if "worker.training.trainer" in command_of(p)]


def classify_memory(home: Home) -> int:
    """Resident bytes of the classify worker's child."""
    (parent,) = [p for p in worker_parents(home) if command_of(p)[4] == "classify"]
    return int(sum(child.memory_info().rss for child in parent.children(recursive=True)))
