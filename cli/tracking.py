"""Passing a run's history on to TensorBoard or MLflow while it is followed, or later: it is all in the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.desk import Desk
from cli.errors import CommandError

if TYPE_CHECKING:
    from store.run_rows import RunRow
    from worker.reporting.tracking import Tracker

LOOK_S = 1.0  # between two looks for new epochs


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to log to besides the database."""

    tensorboard: Path | None = None
    mlflow: str | None = None

    @property
    def is_anywhere(self) -> bool:
        """Whether there is anything to log to."""
        return self.tensorboard is not None or self.mlflow is not None


NOWHERE = Destination()


@contextmanager
def tracked(desk: Desk, run: RunRow, destination: Destination) -> Iterator[Callable[[], None]]:
    """Log a run: each epoch once it is there, and the final figures if it has ended when this ends.

    Yields a function to be called now and then. Raises CommandError where a package is missing or MLflow is away.
    """
    if not destination.is_anywhere:
        yield lambda: None
        return
    log = RunLog(desk, run, open_trackers(run, destination))
    yield log.look
    log.finish()


def open_trackers(run: RunRow, destination: Destination) -> list[Tracker]:
    """The trackers of a destination. Raises CommandError."""
    from worker.reporting.tracking import TrackingChoice, TrackingUnavailable
    from worker.reporting.tracking import open_trackers as open_them

    choice = TrackingChoice(destination.tensorboard, destination.mlflow)
    try:
        return open_them(choice, run.name, run.uid, run.recipe)
    except TrackingUnavailable as error:
        raise CommandError(str(error)) from error


class RunLog:
    """What of a run was passed on already."""

    def __init__(self, desk: Desk, run: RunRow, trackers: list[Tracker]) -> None:
        self._desk = desk
        self._run = run
        self._trackers = trackers
        self._told: set[tuple[int, int]] = set()
        self._due = 0.0

    def look(self) -> None:
        """Pass on the epochs that are new; looks at most once a second."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + LOOK_S
            self._pass_on()

    def _pass_on(self) -> None:
        for epoch in self._desk.epochs(self._run.id):
            if (epoch.epoch, epoch.attempt) not in self._told:
                self._told.add((epoch.epoch, epoch.attempt))
                for tracker in self._trackers:
                    tracker.epoch(epoch)

    def finish(self) -> int:
        """Pass on the rest, and the final figures of a run that is over; returns how many epochs were passed on."""
        self._pass_on()
        run = self._desk.run(str(self._run.id))
        figures = {"best_value": run.best_value, "accuracy": run.accuracy, "top5": run.top5}
        over = run.state in ("done", "failed", "cancelled")
        for tracker in self._trackers:
            tracker.finish(
                {key: value for key, value in figures.items() if value is not None}, run.state if over else "running"
            )
        return len(self._told)
