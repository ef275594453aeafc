"""A labelled folder becomes a model that serves, with a history in SQL: the whole way, by the command line."""

import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.databases import ready_home
from tests.killing import worker_parents
from tests.running import Home, eventually, running
from tests.servers import new_postgres_database
from tests.trainings import NAMES, QUICK, write_classes, write_dataset

COLUMNS = "epoch, loss, accuracy, val_loss, val_accuracy, learning_rate"
CURVE = "SELECT " + COLUMNS + " FROM v_run_curve WHERE run_id = {} ORDER BY epoch"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """An empty home with real engines; nothing may be left running in it."""
    home = Home(tmp_path / "home", {"PIXMILL_LEASE_S": "6"})
    ready_home(home.path)
    yield home
    eventually(lambda: not home.processes(), 20, "the end of every process of this home")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "fruit")


def test_a_folder_of_classes_becomes_a_model_with_a_history_a_report_and_rows(home: Home, dataset: Path) -> None:
    broken = dataset.parent / "with broken files"
    shutil.copytree(dataset, broken)
    (broken / "train" / "apple" / "half.png").write_bytes((dataset / "train/apple/0000.png").read_bytes()[:80])
    (broken / "train" / "brick" / "text.jpg").write_text("no picture at all")

    done = home.json("finetune", broken, "--name", "fruit", *QUICK, "--epochs", "6", "--json", code=6)[0]
    assert done["state"] == "done"
    assert done["model"] == "fruit@1"
    named = home.sql("SELECT path, error_code FROM v_failures ORDER BY path")
    assert [(Path(row["path"]).name, row["error_code"]) for row in named] == [
        ("half.png", "truncated"),
        ("text.jpg", "not_image"),
    ]

    (run,) = home.sql("SELECT * FROM v_runs")
    assert (run["state"], run["model"], run["epochs"]) == ("done", "fruit@1", 6)
    curve = home.sql(CURVE.format(1))
    assert [row["epoch"] for row in curve] == list(range(1, 7))
    assert curve[-1]["loss"] < curve[0]["loss"]

    # The figure of the run, of its evaluation job, and of plain SQL over the rows are the same, to the last digit.
    (evaluation,) = home.sql("SELECT job_id, accuracy FROM evaluations")
    (counted,) = home.sql(
        "SELECT 1.0 * SUM(label = true_label) / COUNT(*) AS accuracy, COUNT(*) AS n FROM v_results "
        f"WHERE job_id = {evaluation['job_id']} AND status = 'ok'"
    )
    assert counted["n"] == 36
    assert evaluation["accuracy"] == counted["accuracy"] == run["accuracy"] >= 0.9
    again = home.json("evaluate", dataset / "test", "--model", "fruit", "--no-reuse", "--json")[0]
    assert again["accuracy"] == run["accuracy"]

    report = home.path / "models" / "fruit" / "1" / "report"
    page = (report / "index.html").read_text()
    assert "fruit@1" in page
    assert all(name in page for name in NAMES)
    assert {"curve.svg", "confusion.svg"} <= {file.name for file in report.iterdir()}
    card = (report.parent / "card.md").read_text()
    assert f"{run['accuracy']:.3f}"[:4] in card or f"{run['accuracy']:.1%}" in card

    # The next folder is served at once, by name.
    rows = home.json("classify", dataset / "test" / "cloud", "--model", "fruit", "--json")
    assert sum(row["label"] == "cloud" for row in rows) >= 10
    lineage = home.json("models", "show", "fruit", "--json")[0]["lineage"]
    assert (lineage["kind"], lineage["run_id"]) == ("run", 1)


def test_leaked_pictures_stop_the_job_with_their_names_until_they_are_allowed(home: Home, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "leaky", train=12, test=6)
    shutil.copyfile(data / "train/apple/0003.png", data / "test/apple/copied.png")
    refused = home.run("finetune", data, "--name", "fruit", *QUICK, "--epochs", "1", code=1)
    assert "copied.png" in refused.stderr
    assert "0003.png" in refused.stderr
    assert "--allow-leaks" in refused.stderr
    assert home.sql("SELECT state FROM v_runs") == [{"state": "failed"}]
    (finding,) = home.sql("SELECT path, other_path, split, other_split FROM v_findings WHERE kind = 'leak'")
    assert (Path(finding["path"]).name, finding["split"], finding["other_split"]) == ("copied.png", "test", "train")
    assert home.sql("SELECT COUNT(*) AS n FROM epochs") == [{"n": 0}]

    home.run("finetune", data, "--name", "fruit", *QUICK, "--epochs", "1", "--allow-leaks")
    assert home.sql("SELECT state FROM v_runs ORDER BY run_id") == [{"state": "failed"}, {"state": "done"}]


def epochs(home: Home, run: int = 1) -> int:
    return int(home.sql(f"SELECT COUNT(*) AS n FROM epochs WHERE run_id = {run}")[0]["n"])


def weights(home: Home, model: str) -> bytes:
    """The weights inside a model file: the archive around them carries the time of day."""
    with zipfile.ZipFile(home.path / "models" / model / "1" / "model.keras") as archive:
        content: bytes = archive.read("model.weights.h5")
    return content


# Long enough for a kill to meet it: an epoch of these pictures takes some hundredths of a second.
LONG = (*QUICK, "--epochs", "250", "--set", "optimizer.learning_rate=0.0001")


@pytest.mark.parametrize("server", [False, True], ids=["sqlite", "postgresql"])
def test_a_run_killed_in_the_middle_ends_as_if_it_had_not_been(
    home: Home, dataset: Path, server: bool, request: pytest.FixtureRequest
) -> None:
    if server:
        home.environment["PIXMILL_DATABASE_URL"] = new_postgres_database(request.getfixturevalue("postgres"))
    home.environment["PIXMILL_CHECKPOINT_S"] = "0.5"
    home.run("finetune", dataset, "--name", "calm", *LONG)
    with running(home, "finetune", dataset, "--name", "wild", *LONG) as process:
        eventually(lambda: epochs(home, 2) > 20, 60, "some epochs of the second run")
        trainers = [p for p in home.processes() if "worker.training.trainer" in p.cmdline()]
        assert len(trainers) == 1
        trainers[0].kill()
        _out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    calm, wild = home.sql(CURVE.format(1)), home.sql(CURVE.format(2))
    assert len(calm) == 250
    assert wild == calm
    best = home.sql("SELECT best_epoch, best_value FROM runs ORDER BY id")
    assert best[0] == best[1]
    assert weights(home, "wild") == weights(home, "calm")
    attempts = home.sql("SELECT COUNT(DISTINCT attempt) AS n FROM epochs WHERE run_id = 2")
    assert attempts == [{"n": 2}]
    restarts = home.sql("SELECT epoch FROM v_run_curve WHERE run_id = 2 AND restarted = 1")
    assert len(restarts) == 1


def test_a_paused_run_goes_on_and_a_cancelled_one_keeps_its_best(home: Home, dataset: Path) -> None:
    home.run("db", "upgrade")
    slow = (*QUICK, "--epochs", "4000")
    with running(home, "worker", "--devices", "cpu"):
        job = int(home.run("finetune", dataset, "--name", "fruit", *slow, "--detach").stdout)
        eventually(lambda: epochs(home) > 2, 60, "the first epochs")
        home.run("jobs", "pause", job)
        eventually(lambda: home.sql("SELECT state FROM shards") == [{"state": "ready"}], 30, "the run is given back")
        reached = epochs(home)
        (pointer,) = home.sql("SELECT checkpoint_epoch FROM runs")
        assert pointer["checkpoint_epoch"] >= reached - 1
        home.run("jobs", "resume", job, "--detach")
        eventually(lambda: epochs(home) > reached + 5, 60, "further epochs")
        home.run("jobs", "cancel", job, "--keep-best", "--detach")
        eventually(lambda: home.sql("SELECT state FROM v_runs") == [{"state": "cancelled"}], 60, "the end of the run")
    (run,) = home.sql("SELECT model, best_epoch, accuracy FROM v_runs")
    assert run["model"] == "fruit@1"
    assert run["accuracy"] > 0.5
    assert reached <= epochs(home) < 4000


def test_a_finished_run_goes_on_for_more_epochs_with_the_same_history(home: Home, dataset: Path) -> None:
    home.run("finetune", dataset, "--name", "fruit", *QUICK, "--epochs", "3")
    home.run("finetune", "--continue", "1", "--epochs", "+3")
    home.run("finetune", dataset, "--name", "whole", *QUICK, "--epochs", "6")
    first, further, whole = (home.sql(CURVE.format(run)) for run in (1, 2, 3))
    assert further[:3] == first
    assert further == whole
    assert home.sql("SELECT model FROM v_runs ORDER BY run_id")[1] == {"model": "fruit@2"}


def test_two_versions_are_compared_by_what_changed(home: Home, dataset: Path) -> None:
    home.run("finetune", dataset, "--name", "fruit", *QUICK, "--epochs", "1")
    home.run("finetune", dataset, "--name", "fruit", *QUICK, "--epochs", "8", "--set", "seed=9")
    compared = home.json("runs", "compare", "1", "2", "--json")[0]
    assert {"epochs", "seed"} <= set(compared["settings"])
    changed = home.sql(
        "SELECT path, label_a, label_b FROM v_model_diff WHERE model_a = 'fruit@1' AND model_b = 'fruit@2'"
    )
    flips = home.sql(
        "SELECT COUNT(*) AS n FROM v_results a JOIN v_results b ON a.path = b.path AND a.label <> b.label "
        "WHERE a.model = 'fruit@1' AND b.model = 'fruit@2'"
    )
    assert len(changed) == flips[0]["n"] > 0


def test_classifying_goes_on_beside_a_training_and_keeps_its_memory(home: Home, dataset: Path, tmp_path: Path) -> None:
    home.run("finetune", dataset, "--name", "fruit", *QUICK, "--epochs", "1")
    write_classes(tmp_path / "more", 30, start=20_000)
    with running(home, "worker", "--devices", "cpu"):
        eventually(lambda: len(worker_parents(home)) == 2, 30, "both workers")
        home.run("classify", tmp_path / "more", "--model", "fruit", "--detach")
        eventually(lambda: home.sql("SELECT state FROM jobs WHERE id = 3") == [{"state": "done"}], 60, "the first job")
        before = classify_memory(home)
        job = int(home.run("finetune", dataset, "--name", "fruit", *QUICK, "--epochs", "3", "--detach").stdout)
        eventually(lambda: home.sql(f"SELECT state FROM jobs WHERE id = {job}") == [{"state": "done"}], 90, "training")
        home.run("classify", tmp_path / "more", "--model", "fruit@1", "--no-reuse", "--detach")
        eventually(
            lambda: home.sql("SELECT COUNT(*) AS n FROM jobs WHERE state = 'done'") == [{"n": 5}], 60, "the last job"
        )
        assert classify_memory(home) - before < 60e6
        assert not [p for p in home.processes() if "worker.training.trainer" in p.cmdline()]


def classify_memory(home: Home) -> int:
    """Resident bytes of the classify worker's child."""
    (parent,) = [p for p in worker_parents(home) if p.cmdline()[4] == "classify"]
    return int(sum(child.memory_info().rss for child in parent.children(recursive=True)))


def test_a_head_on_a_registered_model_and_then_all_of_it_in_one_run(home: Home, dataset: Path) -> None:
    """Two phases and one history; a trainer that dies in the second one goes on there."""
    home.environment["PIXMILL_CHECKPOINT_S"] = "0.2"
    home.run("finetune", dataset, "--name", "fruit", *QUICK, "--epochs", "2")
    both = ("--base", "fruit", "--mode", "two_phase", "--epochs", "3", "--set", "second_phase.epochs=150")
    home.run("finetune", dataset, "--name", "calm", *both)
    with running(home, "finetune", dataset, "--name", "wild", *both) as process:
        eventually(lambda: epochs(home, 3) > 20, 60, "epochs of the second phase")
        for trainer in (p for p in home.processes() if "worker.training.trainer" in p.cmdline()):
            trainer.kill()
        _out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    calm, wild = home.sql(CURVE.format(2)), home.sql(CURVE.format(3))
    assert wild == calm
    phases = [row["phase"] for row in home.sql("SELECT phase FROM epochs WHERE run_id = 2 ORDER BY epoch")]
    assert phases == ["head"] * 3 + ["tune"] * 150
    assert weights(home, "calm") == weights(home, "wild")
    assert home.json("models", "show", "calm", "--json")[0]["lineage"]["base"] == "fruit@1"


def test_kept_crops_and_a_kept_last_layer_are_choices_of_a_recipe(home: Home, dataset: Path) -> None:
    home.run("finetune", dataset, "--name", "fruit", *QUICK, "--epochs", "6")
    more = ("--set", "augmentation.feature_crops=2", "--set", "keep_head=true", "--epochs", "2")
    home.run("finetune", dataset, "--name", "further", "--base", "fruit", *more)
    first, further = home.sql("SELECT MIN(val_loss) AS loss FROM epochs GROUP BY run_id ORDER BY run_id")
    assert further["loss"] <= first["loss"] * 1.2  # it went on from the layer that was there, not from nothing
    home.run("finetune", dataset, "--name", "fresh", "--base", "fruit", "--epochs", "1")
    unknown = dataset.parent / "others"
    write_classes(unknown, 5, names=("apple", "zebra"))
    refused = home.run("finetune", unknown, "--name", "x", "--base", "fruit", "--set", "keep_head=true", code=2)
    assert "zebra" in refused.stderr


def test_planted_faults_are_all_named_and_the_gate_holds(home: Home, shared_data: Path, tmp_path: Path) -> None:
    """Thirty unreadable files, twelve leaked copies (some encoded anew, some resized), a class of three pictures."""
    with tarfile.open(shared_data / "cats_dogs.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    data = tmp_path / "cats_dogs"
    for number in range(10):
        (data / "train" / "cats" / f"empty{number}.jpg").touch()
        (data / "train" / "dogs" / f"text{number}.jpg").write_text("no picture at all")
        whole = sorted((data / "train" / "dogs").glob("*.jpg"))[0].read_bytes()
        (data / "train" / "dogs" / f"half{number}.jpg").write_bytes(whole[: len(whole) // 2])
    originals = [file for file in sorted((data / "train" / "cats").glob("*.jpg")) if file.stat().st_size][:12]
    for number, original in enumerate(originals):
        copy = data / "test" / "cats" / f"leaked{number}.jpg"
        with Image.open(original) as image:
            if number % 3 == 0:
                shutil.copyfile(original, copy)
            elif number % 3 == 1:
                image.save(copy, quality=70)
            else:
                image.resize((image.width // 2, image.height // 2)).save(copy, quality=90)
    write_classes(data / "train", 3, names=("foxes",))
    write_classes(data / "test", 1, names=("foxes",), start=50)

    quick = ("--name", "pets", "--preset", "cifar_cnn", "--epochs", "1")
    home.run("finetune", data, *quick, code=1)
    assert home.sql("SELECT COUNT(*) AS n FROM epochs") == [{"n": 0}]
    home.run("finetune", data, *quick, "--allow-leaks", code=6)
    for run, job in ((1, 1), (2, 2)):
        failed = home.sql(f"SELECT error_code, COUNT(*) AS n FROM v_failures WHERE job_id = {job} GROUP BY error_code")
        assert {row["error_code"]: row["n"] for row in failed} == {"empty": 10, "not_image": 10, "truncated": 10}
        found = home.sql(f"SELECT kind, path, other_path FROM v_findings WHERE run_id = {run}")
        leaked = {(Path(row["path"]).stem, Path(row["other_path"]).name) for row in found if row["kind"] == "leak"}
        assert leaked == {(f"leaked{number}", original.name) for number, original in enumerate(originals)}
    small = home.sql("SELECT detail FROM v_findings WHERE kind = 'small_class' AND run_id = 2")
    assert "foxes" in small[0]["detail"]
