"""The loop: trains a network phase by phase, so that a run killed anywhere goes on as if nothing had happened."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from models.errors import InvalidModel
from models.recipes import Recipe
from models.training import checkpoints, variables
from models.training.checkpoints import Checkpoint
from models.training.course import Course, Phase
from models.training.history import Ending, Epoch, Observer, Outcome, Progress, Wish
from models.training.pace import Clock
from models.training.steps import Sums
from models.training.stopping import Patience

PROGRESS_S = 0.3

__all__ = ["CheckpointPlace", "Phase", "Trainer", "reopen"]


def _never(_: OSError) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class CheckpointPlace:
    """Where checkpoints go and how often: after an epoch when the last is `epoch_s` old, within one when `step_s`.

    One process writes to a folder: each attempt has its own. `wait_for_room` is asked where one could not be written:
    True to try again, after what time it took; else the error ends the run.
    """

    folder: Path
    epoch_s: float = 3.0
    step_s: float = 30.0
    wait_for_room: Callable[[OSError], bool] = _never


def reopen(checkpoint: Checkpoint) -> Checkpoint:
    """A finished (or stopped) run's last checkpoint, so that its last phase goes on, with new patience.

    For `--continue`; the phase must then be run with more epochs. A schedule spans all of them.
    """
    state = dict(checkpoint.state)
    last = state["course"]["phase"]
    state["ended"] = {name: ending for name, ending in state["ended"].items() if name != last}
    state["patience"] = {**state["patience"], "wait": 0}
    return Checkpoint(checkpoint.arrays, state)


class Trainer:
    """Runs the phases of one recipe. With `resume` (from `checkpoints.load`) it goes on from there."""

    def __init__(
        self,
        recipe: Recipe,
        place: CheckpointPlace,
        observer: Observer,
        resume: Checkpoint | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._recipe = recipe
        self._place = place
        self._observer = observer
        self._clock = clock
        self._patience = Patience(recipe.stopping)
        self._history: list[Epoch] = []
        self._ended: dict[str, Ending] = {}
        self._best: dict[str, NDArray[Any]] = {}  # "best/<phase>/<number>"
        self._serial = 0
        self._saved_at = self._told_at = clock()
        self._resume = resume
        if resume is not None:
            self._patience.restore(resume.state["patience"])
            self._history = [Epoch.from_json(values) for values in resume.state["history"]]
            self._ended = dict(resume.state["ended"])
            self._best = {name: array for name, array in resume.arrays.items() if name.startswith("best/")}
            self._serial = int(resume.state["serial"])

    @property
    def history(self) -> list[Epoch]:
        """All finished epochs, of earlier attempts too."""
        return list(self._history)

    def ended(self, phase: str) -> Ending | None:
        """How the phase ended; None where it has not."""
        return self._ended.get(phase)

    def run(self, phase: Phase) -> Outcome:
        """Train a phase to its end, or to where a pause or stop was wanted. At least one step is made before that.

        A phase that the checkpoint has finished returns at once what it returned then, its model untouched (see
        `load_best`). Raises InvalidRecipe when the loss is not finite any more, or the data are not those of the
        checkpoint; InvalidModel when the checkpoint does not fit the model or the phase.
        """
        if phase.name in self._ended:
            return self._outcome(self._ended[phase.name])
        course = self._open(phase)
        ending: Ending | None = None if course.epochs_left else "done"
        while ending is None:
            ending = self._epoch(course)
        if ending != "paused":
            self._ended[phase.name] = ending
        self._save(course)
        return self._outcome(ending)

    def load_best(self, model: Any, phase: str) -> None:
        """Give the model, built as that of `phase`, the weights of the best epoch while `phase` ran.

        Raises InvalidModel where no epoch of that phase was the best of the run (see Outcome.best_phase).
        """
        variables.write(model.weights, self._best, f"best/{phase}")

    def _open(self, phase: Phase) -> Course:
        resume, self._resume = self._resume, None
        course = Course(phase, self._recipe, len(self._history), self._clock)
        if resume is None or resume.state["course"]["phase"] in self._ended:
            variables.reseed(phase.model, self._recipe.seed, phase.name)
            self._patience.renew()
            return course
        if resume.state["course"]["phase"] != phase.name:
            raise InvalidModel(
                f"The checkpoint is in phase {resume.state['course']['phase']!r}, but {phase.name!r} was to go on: run "
                f"the phases in the order of the recipe that it was made with."
            )
        course.restore(resume)
        return course

    def _epoch(self, course: Course) -> Ending | None:
        """The rest of an epoch; how the phase ends with it, None where it goes on."""
        wish = self._train(course)
        if wish == "go" or self._must_close(wish):
            wish = self._validate(course, wish)
        if wish == "pause":
            return "paused"
        if wish == "go" or self._must_close(wish):
            self._close(course)
        if wish == "stop":
            return "stopped"
        if not course.epochs_left:
            return "done"
        if self._patience.is_out:
            return "early"
        if self._clock() - self._saved_at >= self._place.epoch_s:
            self._save(course)
        return None

    def _must_close(self, wish: Wish) -> bool:
        """Where nothing is the best yet, a stop closes the epoch where it stands: something must be kept."""
        return wish == "stop" and self._patience.best is None

    def _train(self, course: Course) -> Wish:
        with closing(course.train()) as steps:
            for _ in steps:
                wish = self._observer.wanted()
                if wish != "go":
                    return wish
                self._tell(course)
                if self._clock() - self._saved_at >= self._place.step_s:
                    self._save(course)
        course.pace.trained()
        return "go"

    def _validate(self, course: Course, wish: Wish) -> Wish:
        """A pause or stop breaks it off: the next attempt validates from the beginning."""
        course.check(course.steps.sums(course.steps.trained))
        with closing(course.validate()) as steps:
            for _ in steps:
                if wish == "go":
                    wish = self._observer.wanted()
                if wish != "go" and not self._must_close(wish):
                    return wish
                self._tell(course)
        return wish

    def _close(self, course: Course) -> None:
        """An epoch is over: see whether it is the best, tell it, and begin the next."""
        phase, monitor, steps = course.phase, self._recipe.stopping.monitor, course.steps
        trained = steps.sums(steps.trained)
        course.check(trained)
        validated = steps.sums(steps.validated) if phase.val else None
        course.check(validated or trained)
        seen = validated or trained
        value = seen.mean(seen.loss if monitor == "val_loss" else seen.correct)
        is_best = self._patience.update(value, course.epoch + 1, phase.name)
        if is_best:
            self._best |= variables.read(phase.model.weights, f"best/{phase.name}")
        self._history.append(_row(course, trained, validated, is_best, self._patience.left))
        course.close_epoch(value)
        self._observer.epoch(self._history[-1])

    def _tell(self, course: Course) -> None:
        now = self._clock()
        if now - self._told_at < PROGRESS_S:
            return
        self._told_at = now
        sums, phase, pace = course.steps.sums(course.steps.trained), course.phase, course.pace
        course.check(sums)
        after = course.epochs_left - 1 + phase.later_epochs
        self._observer.progress(
            Progress(
                epoch=course.epoch + 1,
                epochs=course.epoch + 1 + after,
                step=course.step,
                steps=phase.train.steps,
                loss=sums.mean(sums.loss),
                accuracy=sums.mean(sums.correct),
                images_per_s=pace.images_per_s(phase.train.batch_size),
                eta_s=pace.eta_s(phase.train.steps - course.step, phase.train.steps, after),
            )
        )

    def _save(self, course: Course) -> None:
        course.check(course.steps.sums(course.steps.trained))
        self._serial += 1
        state = {
            "serial": self._serial,
            "patience": self._patience.state(),
            "history": [epoch.to_json() for epoch in self._history],
            "ended": self._ended,
            "course": course.state(),
        }
        # The serial number sorts by time, where a pause right after an epoch's end would give the same name twice.
        name = f"{self._serial:06}-epoch-{course.epoch:04}-step-{course.step:07}"
        path = self._written(name, Checkpoint({**course.arrays(), **self._best}, state))
        self._saved_at = self._clock()
        self._observer.checkpoint(path, course.epoch, course.step)

    def _written(self, name: str, checkpoint: Checkpoint) -> Path:
        while True:
            try:
                return checkpoints.save(self._place.folder, name, checkpoint)
            except OSError as error:
                if not self._place.wait_for_room(error):
                    raise

    def _outcome(self, ending: Ending) -> Outcome:
        best = self._patience.best
        return Outcome(
            ended=ending,
            best_epoch=best.epoch if best else None,
            best_value=best.value if best else None,
            best_phase=best.phase if best else None,
            epochs=len(self._history),
            history=self.history,
        )


def _row(course: Course, trained: Sums, validated: Sums | None, is_best: bool, left: int | None) -> Epoch:
    train_s = course.pace.train_s
    return Epoch(
        epoch=course.epoch + 1,
        phase=course.phase.name,
        loss=trained.mean(trained.loss),
        accuracy=trained.mean(trained.correct),
        top5=trained.mean(trained.top5),
        val_loss=validated.mean(validated.loss) if validated else None,
        val_accuracy=validated.mean(validated.correct) if validated else None,
        val_top5=validated.mean(validated.top5) if validated else None,
        learning_rate=course.rate,
        images_per_s=trained.images / train_s if train_s else 0.0,
        seconds=course.pace.seconds,
        is_best=is_best,
        patience_left=left,
    )
