"""A child with TensorFlow in it: trains small networks in many ways and looks at what the loop makes of them.

request: `folder`, an empty one. Answers a text by the check's name: the traceback where it failed, else nothing.
"""

import dataclasses
import json
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.children import Progress as Tell
from models.children import answer_with
from models.errors import InvalidModel, InvalidRecipe
from models.recipes import ScheduleChoice, check_recipe
from models.training import checkpoints, variables
from models.training.loop import CheckpointPlace, Phase, Trainer, reopen
from models.training.schedules import Plateau
from models.training.steps import set_seed
from models.training.stopping import Patience
from tests.models.training.full_disk_check import a_full_disk_is_waited_out
from tests.models.training.small_runs import (
    CLASSES,
    TRAIN,
    Killed,
    Recorder,
    Result,
    assert_same,
    batches,
    network,
    phases,
    pictures,
    recipe,
    refusal,
    train,
)

REFERENCE: dict[str, Result] = {}


def reference(folder: Path) -> Result:
    """The run that nothing disturbs."""
    if "run" not in REFERENCE:
        REFERENCE["run"] = train(folder.with_name("reference"), Recorder())
    return REFERENCE["run"]


def with_kills(folder: Path, kills: list[int]) -> Result:
    """Killed after so many steps of each attempt, then left alone."""
    pointer = None
    for number, alive in enumerate([*kills, 10**9]):
        recorder = Recorder(alive=alive, pointer=pointer)
        try:
            return train(folder / str(number), recorder)
        except Killed:
            pointer = recorder.pointer
    raise AssertionError("the last attempt is never killed")


def the_same_seed_gives_the_same_run(folder: Path) -> None:
    first, second = reference(folder), train(folder, Recorder())
    assert_same(first, second)
    assert first.outcome.ended == "done"
    assert first.outcome.epochs == 7
    other = train(folder / "other", Recorder(), recipe(seed=6))
    assert other.history != first.history


def a_run_killed_anywhere_ends_the_same(folder: Path) -> None:
    """In the first step, in mid-epoch, in validation (7 training and 2 validation batches), in the second phase."""
    whole = reference(folder)
    rates = [epoch.learning_rate for epoch in whole.outcome.history]
    assert rates[0] > rates[3], f"expected a lowered rate, {rates}"
    assert whole.outcome.best_epoch in {5, 6}, f"expected a best epoch before the last kill, {whole.history}"
    for number, kills in enumerate([[1, 13], [30, 34]]):
        killed = with_kills(folder / str(number), kills)
        assert_same(whole, killed)


def a_run_killed_between_two_phases_ends_the_same(folder: Path) -> None:
    recorder = Recorder(kill_at_ends=True)
    with refusal(Killed, ""):
        train(folder, recorder)
    assert_same(reference(folder), train(folder / "next", Recorder(pointer=recorder.pointer)))


def a_paused_run_goes_on_at_its_step(folder: Path) -> None:
    pointer, seen = None, []
    for number, wish_at in enumerate((4, 31)):
        paused = train(folder / str(number), Recorder(wish="pause", wish_at=wish_at, pointer=pointer))
        assert paused.outcome.ended == "paused"
        pointer = paused.recorder.pointer
        seen.append(paused.recorder.saved[-1])
    assert seen[0] == (0, 4), seen
    assert_same(reference(folder), train(folder / "last", Recorder(pointer=pointer)))


def a_stopped_run_keeps_its_best(folder: Path) -> None:
    """Also where its first epoch is not over, which is closed where it stands."""
    for wish_at, epochs in ((24, 2), (3, 1)):
        stopped = train(folder / str(wish_at), Recorder(wish="stop", wish_at=wish_at))
        assert stopped.outcome.ended == "stopped"
        assert stopped.outcome.epochs == epochs
        assert stopped.history[:1] == reference(folder).history[:1] or wish_at == 3
        best = network()
        stopped.trainer.load_best(best, "head")
        loss = keras_values(best, recipe())["loss"]
        assert stopped.outcome.best_value is not None
        assert abs(loss - stopped.outcome.best_value) < 1e-5
        again = train(folder / "again", Recorder(pointer=stopped.recorder.pointer))
        assert again.outcome == stopped.outcome, "resumed after its end, it stays stopped"


def the_best_epoch_is_loaded(folder: Path) -> None:
    run = reference(folder)
    values = [epoch.val_loss for epoch in run.outcome.history if epoch.val_loss is not None]
    assert run.outcome.best_epoch is not None
    assert min(values) == run.outcome.best_value == values[run.outcome.best_epoch - 1]
    assert run.outcome.best_phase is not None
    best = network(0.2)
    run.trainer.load_best(best, run.outcome.best_phase)
    assert abs(keras_values(best, recipe())["loss"] - min(values)) < 1e-5


def keras_values(model: Any, chosen: Any, weights: Any = None) -> dict[str, float]:
    """What Keras finds on the validation pictures."""
    images, labels = pictures(20, 99)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=chosen.loss.label_smoothing)
    model.compile(loss=loss, metrics=["accuracy", keras.metrics.TopKCategoricalAccuracy(5, name="top5")])
    found: dict[str, float] = model.evaluate(images, np.eye(CLASSES)[labels], return_dict=True, verbose=0)
    return found


def the_loop_does_what_fit_does(folder: Path) -> None:
    """Losses, accuracies, class weights, penalties and updates of each optimizer, batch by batch."""
    for name, decay in (("sgd", 0.0), ("adam", 0.0), ("adamw", 0.01)):
        chosen = recipe(optimizer={"name": name, "weight_decay": decay, "learning_rate": 0.005, "nesterov": True})
        set_seed(3)
        ours = network(dropout=0)
        theirs = keras.models.clone_model(ours)
        theirs.set_weights(ours.get_weights())
        weights = np.linspace(0.5, 1.5, CLASSES, dtype=np.float32)
        part = Phase(
            "main", ours, batches(TRAIN, 8, 1, shuffle=False), batches(20, 16, 99, shuffle=False), 2, chosen.optimizer,
            recipe(schedule={"name": "constant"}).schedule, None, weights,
        )  # fmt: skip
        history = Trainer(chosen, CheckpointPlace(folder / name), Recorder()).run(part).history
        images, labels = pictures(TRAIN, 1)
        theirs.compile(
            keras_optimizer(name, decay),
            keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
            metrics=["accuracy", keras.metrics.TopKCategoricalAccuracy(5, name="top5")],
        )
        fit = theirs.fit(
            images, np.eye(CLASSES)[labels], batch_size=8, epochs=2, shuffle=False, verbose=0,
            class_weight={number: float(weight) for number, weight in enumerate(weights)},
        )  # fmt: skip
        for epoch, _ in enumerate(history):
            for measure in ("loss", "accuracy", "top5"):
                mine, keras_s = getattr(history[epoch], measure), fit.history[measure][epoch]
                assert abs(mine - keras_s) < 2e-3, (name, epoch, measure, mine, keras_s)
        validated = keras_values(theirs, chosen)
        for measure, value in validated.items():
            assert abs(value - getattr(history[-1], f"val_{measure}")) < 2e-3, (name, measure)
        for mine, theirs_ in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            assert np.allclose(mine, theirs_, atol=2e-3), (name, np.abs(mine - theirs_).max())


def keras_optimizer(name: str, decay: float) -> Any:
    if name == "sgd":
        return keras.optimizers.SGD(0.005, momentum=0.9, nesterov=True)
    return keras.optimizers.Adam(0.005) if name == "adam" else keras.optimizers.AdamW(0.005, weight_decay=decay)


def the_best_of_the_first_phase_is_not_forgotten(folder: Path) -> None:
    """A second phase that only makes it worse: Keras's callbacks would forget the first phase's best."""
    run = train(folder, Recorder(), recipe(second_phase={"learning_rate": 3.0}, stopping={"patience": 2}))
    assert run.outcome.best_phase == "head"
    assert run.outcome.ended == "early"
    assert run.outcome.epochs == 4 + 2
    assert run.outcome.history[-1].patience_left == 0
    run.trainer.load_best(run.parts[0].model, "head")
    with refusal(InvalidModel, "'best/full'"):
        run.trainer.load_best(run.parts[1].model, "full")


def a_plateau_lowers_the_rate(folder: Path) -> None:
    chosen = recipe(schedule={"min_delta": 10.0}, mode="scratch")
    rates = [epoch.learning_rate for epoch in train(folder, Recorder(), chosen).outcome.history[:4]]
    assert rates == [0.02, 0.02, 0.01, 0.005], rates


def a_loss_that_is_no_number_ends_the_run(folder: Path) -> None:
    for wild in (recipe(optimizer={"name": "sgd", "learning_rate": 1e30}), recipe(optimizer={"learning_rate": 1e38})):
        with refusal(InvalidRecipe, "Lower optimizer.learning_rate"):
            train(folder, Recorder(), wild)


def without_validation_the_training_is_monitored(folder: Path) -> None:
    part = dataclasses.replace(phases(recipe())[0], val=None)
    recorder = Recorder()
    outcome = Trainer(recipe(), CheckpointPlace(folder), recorder).run(part)
    assert outcome.best_value == min(epoch.loss for epoch in outcome.history)
    assert outcome.history[0].val_loss is None


def a_finished_run_goes_on_with_more_epochs(folder: Path) -> None:
    """Reopened after 2 of 4 epochs at a constant rate, it is the run that had 4 from the beginning."""
    constant = recipe(schedule={"name": "constant"}).schedule
    ended = []
    for number, plan in enumerate(([4], [2, 4])):
        resume = None
        for epochs in plan:
            set_seed(5)
            part = dataclasses.replace(phases(recipe())[0], schedule=constant, epochs=epochs)
            recorder = Recorder()
            trainer = Trainer(recipe(), CheckpointPlace(folder / f"{number}-{epochs}"), recorder, resume)
            assert trainer.run(part).ended == "done"
            assert recorder.pointer is not None
            resume = reopen(checkpoints.load(recorder.pointer))
        assert resume is not None
        ended.append(resume)
    assert all(np.array_equal(array, ended[1].arrays[name]) for name, array in ended[0].arrays.items())
    assert len(ended[1].state["history"]) == 4


def a_checkpoint_of_something_else_is_refused(folder: Path) -> None:
    paused = train(folder, Recorder(wish="pause", wish_at=3))
    assert paused.recorder.pointer is not None
    resume = checkpoints.load(paused.recorder.pointer)
    head, full = phases(recipe())
    others: Mapping[str, tuple[Phase, type[Exception], str]] = {
        "network": (dataclasses.replace(head, model=network(hidden=9)), InvalidModel, "another network"),
        "phase": (full, InvalidModel, "is in phase 'head'"),
        "data": (dataclasses.replace(head, train=batches(90, 8, 1)), InvalidRecipe, "an epoch of 7 steps"),
    }
    for part, kind, words in others.values():
        with refusal(kind, words):
            Trainer(recipe(), CheckpointPlace(folder), Recorder(), resume).run(part)


def what_cannot_learn_is_refused(folder: Path) -> None:
    head = phases(recipe())[0]
    head.model.trainable = False
    with refusal(InvalidRecipe, "trainable"):
        Trainer(recipe(), CheckpointPlace(folder), Recorder()).run(head)


def progress_is_told(folder: Path) -> None:
    told = reference(folder).recorder.told
    last = told[-1]
    assert (last.epoch, last.epochs, last.steps) == (7, 7, 7)
    assert last.images_per_s > 0
    assert told[1].eta_s > last.eta_s > 0
    assert {now.epochs for now in told if now.epoch <= 4} == {4}, "phases without later_epochs count their own"


def a_phase_begins_with_random_states_of_its_own(folder: Path) -> None:
    """They follow from seed and phase alone, not from what else the process has built before."""
    states = []
    for seed, phase, built_before in ((5, "head", 0), (5, "head", 2), (6, "head", 0), (5, "full", 0)):
        set_seed(5)
        for _ in range(built_before):
            network()
        picture = keras.Input((4,))
        model = keras.Model(picture, keras.layers.Dropout(0.1)(keras.layers.Dropout(0.1)(picture)))
        variables.reseed(model, seed, phase)
        states.append(tuple(int(variable.numpy()[0]) for variable in model.variables))
    assert states[0] == states[1]
    assert len({number for drawn in states for number in drawn}) == 6, states


def plateau_and_patience_do_what_keras_does(folder: Path) -> None:
    """On random sequences of values, in steps that float32 (Keras's) can hold."""
    random = np.random.default_rng(11)
    for _ in range(60):
        monitor = str(random.choice(["val_loss", "val_accuracy"]))
        patience, delta = int(random.integers(1, 4)), float(random.choice([0.0, 0.125, 0.25]))
        values = [float(value) / 8 for value in random.integers(1, 16, size=14)]
        rule = ScheduleChoice(name="plateau", factor=0.5, patience=patience, min_delta=delta, min_learning_rate=0.03)
        plateau = Plateau(rule, "val_loss" if monitor == "val_loss" else "val_accuracy", 0.25)
        mine = Patience(check_recipe(_stopping(monitor, patience, delta)).stopping)
        ours = []
        for epoch, value in enumerate(values, 1):
            # Through JSON after every epoch: a resumed run has nothing else.
            plateau.restore(json.loads(json.dumps(plateau.state())))
            mine.restore(json.loads(json.dumps(mine.state())))
            mine.update(value, epoch, "main")
            ours.append((mine.best.epoch if mine.best else None, plateau.update(value), mine.is_out))
            if mine.is_out:
                break
        theirs = keras_callbacks(monitor, patience, delta, values)
        assert ours == theirs, (monitor, patience, delta, values, ours, theirs)


def _stopping(monitor: str, patience: int, delta: float) -> Mapping[str, Any]:
    stopping = {"monitor": monitor, "patience": patience, "min_delta": delta}
    return {"mode": "scratch", "preset": "fashion_cnn", "stopping": stopping}


def keras_callbacks(monitor: str, patience: int, delta: float, values: list[float]) -> list[tuple[int, float, bool]]:
    """After each epoch: the best epoch, the rate, and whether it stops there."""
    mode = "min" if monitor == "val_loss" else "max"
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.25))
    stop = keras.callbacks.EarlyStopping(monitor, min_delta=delta, patience=patience, mode=mode)
    lower = keras.callbacks.ReduceLROnPlateau(
        monitor, factor=0.5, patience=patience, mode=mode, min_delta=delta, min_lr=0.03
    )
    seen = []
    for callback in (stop, lower):
        callback.set_model(model)
        callback.on_train_begin()
    model.stop_training = False
    for epoch, value in enumerate(values):
        stop.on_epoch_end(epoch, {monitor: np.float32(value)})
        lower.on_epoch_end(epoch, {monitor: np.float32(value)})
        rate = (
            0.03 if np.float32(0.03) == model.optimizer.learning_rate.numpy() else float(model.optimizer.learning_rate)
        )
        seen.append((stop.best_epoch + 1, rate, bool(model.stop_training)))
        if model.stop_training:
            break
    return seen


CHECKS: Mapping[str, Callable[[Path], None]] = {
    check.__name__: check
    for check in (
        the_same_seed_gives_the_same_run,
        a_run_killed_anywhere_ends_the_same,
        a_run_killed_between_two_phases_ends_the_same,
        a_paused_run_goes_on_at_its_step,
        a_stopped_run_keeps_its_best,
        a_full_disk_is_waited_out,
        the_best_epoch_is_loaded,
        the_loop_does_what_fit_does,
        the_best_of_the_first_phase_is_not_forgotten,
        a_plateau_lowers_the_rate,
        a_loss_that_is_no_number_ends_the_run,
        without_validation_the_training_is_monitored,
        a_finished_run_goes_on_with_more_epochs,
        a_checkpoint_of_something_else_is_refused,
        what_cannot_learn_is_refused,
        progress_is_told,
        a_phase_begins_with_random_states_of_its_own,
        plateau_and_patience_do_what_keras_does,
    )
}


def outcome(check: Callable[[Path], None], folder: Path) -> str:
    """Nothing, or the traceback: the failure of one check must not hide the others'."""
    try:
        check(folder)
    except (AssertionError, InvalidModel, InvalidRecipe, Killed):
        return traceback.format_exc()
    return ""


def work(request: Mapping[str, Any], _tell: Tell) -> Mapping[str, Any]:
    folder = Path(request["folder"])
    chosen = request.get("checks", list(CHECKS))
    return {name: outcome(CHECKS[name], folder / name) for name in chosen}


if __name__ == "__main__":
    answer_with(work)
