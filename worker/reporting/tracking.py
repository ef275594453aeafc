"""Loggers that pass a training's epochs on to TensorBoard and MLflow, for those who already look at them there."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from worker.reporting.logged import TrackingUnavailable
from worker.reporting.rows import EpochLine

__all__ = ["Tracker", "TrackingChoice", "TrackingUnavailable", "open_trackers"]

# Read by MLflow when it is imported. It would report its use to its makers, and ask a server that is away for minutes;
# who sets these keeps them.
_MLFLOW = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class Tracker(Protocol):
    """Is fed with epochs while a training goes, and with its last metrics when it ends.

    What goes wrong then is logged and never ends a training: the database has its history.
    """

    def epoch(self, epoch: EpochLine) -> None:
        """Log one finished epoch; may be called again with the same one after a restart."""

    def finish(self, metrics: Mapping[str, float], state: str = "done") -> None:
        """Log the final metrics and close. `state` is the run's: done, failed or cancelled."""


@dataclass(frozen=True, slots=True)
class TrackingChoice:
    """Where to log to; None: not there."""

    tensorboard_folder: Path | None = None
    mlflow_uri: str | None = None  # "sqlite:///…" or "http://…"
    mlflow_experiment: str = "pixmill"


def open_trackers(choice: TrackingChoice, name: str, uid: str, recipe: Mapping[str, Any]) -> list[Tracker]:
    """Open what was chosen for the run `name`; `uid` finds the same MLflow run again after a restart.

    Raises TrackingUnavailable: an extra is not installed (named), or MLflow cannot be reached.
    """
    trackers: list[Tracker] = []
    if choice.tensorboard_folder is not None:
        _require("tensorboard", "tensorboard")
        from worker.reporting.tensorboard_log import TensorBoardLog

        trackers.append(TensorBoardLog(choice.tensorboard_folder / f"{_file_name(name)}-{uid[:8]}", recipe))
    if choice.mlflow_uri is not None:
        _require("mlflow", "mlflow")
        for setting, value in _MLFLOW.items():
            os.environ.setdefault(setting, value)
        from worker.reporting.mlflow_log import MlflowLog

        trackers.append(MlflowLog(choice.mlflow_uri, choice.mlflow_experiment, name, uid, recipe))
    return trackers


def _require(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise TrackingUnavailable(
            f"Logging to {package} was asked for, but it is not installed here. Install the extra: pixmill[{extra}]."
        )


def _file_name(name: str) -> str:
    return "".join(char if char.isalnum() or char in "-_.@" else "_" for char in name).lstrip(".") or "run"
