"""What the database measures is what is measured from the rows, and two runs are compared by it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from store.catalog import register_model
from store.database import Database
from store.evaluations import predictions
from tests.cli.histories import LABELS, History, evaluated, finished_run
from worker.comparing import compare_runs, comparison_record
from worker.measuring import calibration_records, evaluation_record, measure
from worker.reporting.metrics import Evaluation, Prediction, evaluate


def from_rows(database: Database, job: int) -> Evaluation:
    rows = predictions(database, job)
    return evaluate([Prediction("", row.true_label, row.label, row.score, row.topk, row.idx) for row in rows], LABELS)


def rounded(value: Any) -> Any:
    """The last digits of a sum depend on its order."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 12) if isinstance(value, float) else value


ANSWERS = [
    ("robin", "robin", "wren", "wren"),
    ("robin", "wren", "wren", "wren"),
    ("wren", "wren", "wren", "wren"),
    ("wren", "wren", "robin", "robin"),
]


@pytest.mark.parametrize("answers", ANSWERS, ids=["right", "one wrong", "one class", "all wrong"])
def test_the_database_and_the_rows_give_the_same_figures(database: Database, answers: tuple[str, ...]) -> None:
    model = register_model(database, ("birds", 1), "d" * 64, LABELS, "{}", "/models/birds/1")
    job = evaluated(database, model, answers)
    found, expected = measure(database, job), from_rows(database, job)
    assert found is not None
    assert rounded(evaluation_record(found)) == rounded(evaluation_record(expected))
    assert found.worst_pairs() == expected.worst_pairs()
    assert [row["images"] for row in calibration_records(found)] == [one.images for one in expected.calibration]
    assert found.k == 2  # answers of a model with two classes


def test_labels_that_the_model_does_not_know_follow_its_own(database: Database) -> None:
    model = register_model(database, ("birds", 1), "d" * 64, ("wren",), "{}", "/models/birds/1")
    found = measure(database, evaluated(database, model, ("wren",) * 4))
    assert found is not None
    assert found.labels == ("wren", "robin")
    assert found.correct == 2


def test_a_training_and_an_empty_job_have_nothing_to_measure(database: Database) -> None:
    run = finished_run(database, History())
    assert run.job_id is not None
    assert measure(database, run.job_id) is None


def test_two_runs_are_compared_in_settings_figures_and_images(database: Database) -> None:
    one = finished_run(database, History(answers=("robin", "wren", "wren", "wren")))
    other = finished_run(database, History(version=2, learning_rate=0.5, answers=("robin", "robin", "robin", "wren")))
    found = comparison_record(one, other, compare_runs(database, one, other))
    assert found["settings"]["optimizer.learning_rate"] == {"a": 1e-3, "b": 0.5}
    assert found["metrics"]["evaluated accuracy"] == {"a": 0.75, "b": 0.75}
    assert found["flips"] == {"right_to_wrong": 1, "wrong_to_right": 1}
    assert [flip["path"] for flip in found["right_to_wrong"]] == ["/photos/2.jpg"]
    assert [flip["path"] for flip in found["wrong_to_right"]] == ["/photos/1.jpg"]


def test_measuring_and_comparing_need_no_numerical_package() -> None:
    program = "import worker.measuring, worker.comparing, sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"numpy", "sklearn", "PIL"} & set(json.loads(done.stdout))
