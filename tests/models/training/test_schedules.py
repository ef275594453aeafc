"""Schedules: the learning rate of every step. (Plateau is compared with Keras's own in loop_child.py.)"""

import json
import math
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from models.recipes import OptimizerChoice, ScheduleChoice
from models.training.schedules import Plateau, learning_rate

HIGH = OptimizerChoice(learning_rate=0.5)


def rates(schedule: ScheduleChoice, total: int) -> list[float]:
    return [learning_rate(HIGH, schedule, step, total) for step in range(total)]


def test_a_constant_rate_and_the_first_of_a_plateau_are_the_recipes_own() -> None:
    assert set(rates(ScheduleChoice(name="constant"), 9)) == {0.5}
    assert set(rates(ScheduleChoice(name="plateau"), 9)) == {0.5}


def test_a_warm_up_rises_in_a_line_holds_and_falls_in_half_a_cosine() -> None:
    found = rates(ScheduleChoice(name="warmup_hold_cosine", warmup=0.1, hold=0.3), 100)
    assert found[:10] == [0.5 * step / 10 for step in range(1, 11)]
    assert set(found[10:41]) == {0.5}
    assert math.isclose(found[70], 0.25)
    assert 0 < found[99] < 0.001


@given(
    warmup=st.floats(0, 1), hold=st.floats(0, 1), total=st.integers(1, 300), highest=st.floats(1e-6, 10)
)  # fmt: skip
def test_every_rate_is_positive_and_never_over_the_highest(
    warmup: float, hold: float, total: int, highest: float
) -> None:
    schedule = ScheduleChoice(name="warmup_hold_cosine", warmup=warmup, hold=min(hold, 1 - warmup))
    optimizer = OptimizerChoice(learning_rate=highest)
    found = [learning_rate(optimizer, schedule, step, total) for step in range(total)]
    assert all(0 < rate <= highest for rate in found)
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)


@given(values=st.lists(st.floats(0, 4), min_size=1, max_size=30), cut=st.integers(0, 29))
def test_a_plateau_that_was_stored_as_json_goes_on_as_if_it_had_not_been(values: list[float], cut: int) -> None:
    schedule = ScheduleChoice(name="plateau", patience=2)
    whole, stored = Plateau(schedule, "val_loss", 0.1), Plateau(schedule, "val_loss", 0.1)
    for number, value in enumerate(values):
        if number == cut:
            state = json.loads(json.dumps(stored.state()))
            stored = Plateau(schedule, "val_loss", 0.1)
            stored.restore(state)
        assert whole.update(value) == stored.update(value)


def test_what_needs_no_tensorflow_does_not_import_it() -> None:
    words = (
        "import sys, models.training.schedules, models.training.stopping, models.training.history, "
        "models.training.batches, models.training.checkpoints; print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
