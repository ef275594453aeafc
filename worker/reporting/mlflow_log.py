"""Passes a training's epochs on to an MLflow server or database."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from worker.reporting.logged import TrackingUnavailable, flattened, measured
from worker.reporting.rows import EpochLine

log = logging.getLogger(__name__)
_STATES = {"done": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}
_UID = "pixmill.run"
_LONGEST = 500  # characters of a parameter that every store takes
_AT_ONCE = 100  # parameters that a server takes


class MlflowLog:
    """One MLflow run for one training, whatever its attempts. Metrics that cannot be sent wait for the next time."""

    def __init__(self, uri: str, experiment: str, name: str, uid: str, recipe: Mapping[str, Any]) -> None:
        try:
            self._client = MlflowClient(uri)
            self._run = self._find(experiment, uid) or self._create(experiment, name, uid, recipe)
        except (MlflowException, OSError) as error:
            raise TrackingUnavailable(
                f"MLflow at {uri!r} cannot be used: {str(error).splitlines()[0]} "
                "Give the address of a server (http://…) or of a database (sqlite:///FILE)."
            ) from error
        self._waiting: list[Metric] = []

    def epoch(self, epoch: EpochLine) -> None:
        """Log one finished epoch."""
        self._send(list(measured(epoch)), epoch.epoch)

    def finish(self, metrics: Mapping[str, float], state: str = "done") -> None:
        """Log the final metrics and end the run."""
        self._send([(f"evaluation.{name}", value) for name, value in metrics.items()], 0)
        try:
            self._client.set_terminated(self._run, _STATES.get(state, "FINISHED"))
        except (MlflowException, OSError) as error:
            log.warning("MLflow could not be told that the run has ended: %s", error)

    def _find(self, experiment: str, uid: str) -> str | None:
        known = self._client.get_experiment_by_name(experiment)
        if known is None:
            return None
        runs = self._client.search_runs([known.experiment_id], f"tags.`{_UID}` = '{uid}'", max_results=1)
        if not runs:
            return None
        self._client.update_run(runs[0].info.run_id, status="RUNNING")
        return str(runs[0].info.run_id)

    def _create(self, experiment: str, name: str, uid: str, recipe: Mapping[str, Any]) -> str:
        known = self._client.get_experiment_by_name(experiment)
        number = known.experiment_id if known else self._client.create_experiment(experiment)
        run = str(self._client.create_run(number, run_name=name, tags={_UID: uid}).info.run_id)
        params = [Param(key, value[:_LONGEST]) for key, value in flattened(recipe)]
        for start in range(0, len(params), _AT_ONCE):
            self._client.log_batch(run, params=params[start : start + _AT_ONCE])
        return run

    def _send(self, values: Sequence[tuple[str, float]], step: int) -> None:
        now = int(time.time() * 1000)
        self._waiting += [Metric(name, value, now, step) for name, value in values]
        try:
            while self._waiting:
                self._client.log_batch(self._run, metrics=self._waiting[:_AT_ONCE])
                del self._waiting[:_AT_ONCE]
        except (MlflowException, OSError) as error:
            log.warning("MLflow took no metrics; they wait for the next epoch: %s", error)
