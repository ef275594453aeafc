"""TensorBoard and MLflow are told what the epochs are told; a missing extra is named; trouble ends no training."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from worker.reporting.logged import flattened
from worker.reporting.tracking import TrackingChoice, TrackingUnavailable, open_trackers

# MLflow and TensorBoard's reader bring warnings of their own and much state: each in a process of its own.
EPOCH = """
from dataclasses import dataclass

@dataclass
class Line:
    epoch: int; phase: str = "head"; loss: float = 1.0; accuracy: float = 0.5; top5: float = 0.9
    val_loss: float | None = 1.5; val_accuracy: float | None = 0.4; val_top5: float | None = None
    learning_rate: float = 0.001; images_per_s: float = 100.0; seconds: float = 2.0; is_best: bool = True
"""


def _run(code: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", EPOCH + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tensorboard_reads_the_curve_of_all_attempts_and_tensorflow_is_not_imported(tmp_path: Path) -> None:
    told = _run(
        """
        import sys
        from pathlib import Path
        from worker.reporting.tracking import TrackingChoice, open_trackers
        for epochs in ([1, 2, 3], [3, 4]):  # the second attempt begins again with epoch 3
            (log,) = open_trackers(TrackingChoice(Path(sys.argv[1])), "birds/../x", "abcdef0123", {"a": {"b": 1}})
            for epoch in epochs:
                log.epoch(Line(epoch, loss=1.0 / epoch + (epochs[0] == 1)))
            log.finish({"accuracy": 0.75}) if epochs[0] == 3 else None
        assert "tensorflow" not in sys.modules
        assert [path.name for path in Path(sys.argv[1]).iterdir()] == ["birds_.._x-abcdef01"]
        import tensorboard.compat.tensorflow_stub, types
        sys.modules["tensorboard.compat.notf"] = types.ModuleType("notf")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        (folder,) = Path(sys.argv[1]).iterdir()
        read = EventAccumulator(str(folder)).Reload()
        tags = read.Tags()["scalars"]
        print(sorted(tags))
        print([(one.step, round(one.value, 3)) for one in read.Scalars("loss/training")])
        print([round(one.value, 3) for one in read.Scalars("evaluation/accuracy")])
        """,
        tmp_path,
    ).splitlines()
    assert "'loss/training', 'loss/validation'" in told[0]
    assert "top5/validation" not in told[0]
    assert told[1] == "[(1, 2.0), (2, 1.5), (3, 0.333), (4, 0.25)]"
    assert told[2] == "[0.75]"


def test_mlflow_has_one_run_for_all_attempts_with_recipe_metrics_and_end(tmp_path: Path) -> None:
    told = _run(
        """
        import sys
        from worker.reporting.tracking import TrackingChoice, open_trackers
        choice = TrackingChoice(mlflow_uri=sys.argv[1])
        for epochs in ([1, 2], [2, 3]):
            (log,) = open_trackers(choice, "birds", "uid-1", {"mode": "head", "optimizer": {"name": "adam"}})
            for epoch in epochs:
                log.epoch(Line(epoch, loss=1.0 / epoch))
        log.finish({"accuracy": 0.75}, "cancelled")
        from mlflow.tracking import MlflowClient
        client = MlflowClient(sys.argv[1])
        (run,) = client.search_runs([client.get_experiment_by_name("pixmill").experiment_id])
        print(run.info.run_name, run.info.status, run.data.params, run.data.metrics["evaluation.accuracy"])
        print(sorted({(one.step, round(one.value, 3)) for one in client.get_metric_history(run.info.run_id, "loss")}))
        """,
        f"sqlite:///{tmp_path / 'ml.db'}",
    ).splitlines()
    assert told[0] == "birds KILLED {'mode': 'head', 'optimizer.name': 'adam'} 0.75"
    assert told[1] == "[(1, 1.0), (2, 0.5), (3, 0.333)]"


@pytest.mark.long
def test_mlflow_that_is_away_is_said_at_the_start_and_waited_for_later(tmp_path: Path) -> None:
    told = _run(
        """
        import sys
        from worker.reporting.tracking import TrackingChoice, TrackingUnavailable, open_trackers
        try:
            open_trackers(TrackingChoice(mlflow_uri="http://127.0.0.1:9"), "birds", "uid", {})
        except TrackingUnavailable as error:
            print("cannot be used" in str(error))
        (log,) = open_trackers(TrackingChoice(mlflow_uri=sys.argv[1]), "birds", "uid", {})
        from mlflow.exceptions import MlflowException
        def away(*args, **more):
            raise MlflowException("away")
        whole, log._client.log_batch = log._client.log_batch, away
        log.epoch(Line(1))
        log._client.log_batch = whole
        log.epoch(Line(2))
        print([one.step for one in log._client.get_metric_history(log._run, "loss")])
        """,
        f"sqlite:///{tmp_path / 'ml.db'}",
    ).splitlines()
    assert told == ["True", "[1, 2]"]


@pytest.mark.parametrize("choice", [TrackingChoice(Path("x")), TrackingChoice(mlflow_uri="sqlite:///x")])
def test_a_missing_extra_is_named(choice: TrackingChoice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(TrackingUnavailable, match=r"pixmill\[(tensorboard|mlflow)\]"):
        open_trackers(choice, "birds", "uid", {})


def test_nothing_chosen_is_nothing_opened_and_nothing_imported() -> None:
    assert open_trackers(TrackingChoice(), "birds", "uid", {}) == []
    code = "import sys, worker.reporting.tracking; print({'mlflow', 'tensorboard'} & set(sys.modules))"
    assert _run(code).strip() == "set()"


def test_a_recipe_is_flattened_to_dotted_names() -> None:
    assert dict(flattened({"a": 1, "b": {"c": None, "d": {"e": "x"}}})) == {"a": "1", "b.d.e": "x"}
