"""Stopping: the best epoch and what patience is left. (It is compared with Keras's own in loop_child.py.)"""

import json

from hypothesis import given
from hypothesis import strategies as st

from models.recipes import StoppingChoice
from models.training.stopping import Best, Patience


def test_a_loss_is_better_when_lower_and_an_accuracy_when_higher() -> None:
    loss, accuracy = Patience(StoppingChoice()), Patience(StoppingChoice(monitor="val_accuracy"))
    assert [loss.update(value, number, "main") for number, value in enumerate((0.5, 0.4, 0.4, 0.6))] == [1, 1, 0, 0]
    assert [accuracy.update(value, n, "main") for n, value in enumerate((0.5, 0.4, 0.5, 0.6))] == [1, 0, 0, 1]


def test_without_patience_nothing_stops_early() -> None:
    patience = Patience(StoppingChoice(patience=0))
    for epoch in range(50):
        patience.update(1.0 + epoch, epoch, "main")
    assert patience.left is None
    assert not patience.is_out


def test_patience_runs_out_and_is_full_again_after_progress() -> None:
    patience = Patience(StoppingChoice(patience=2))
    left = []
    for epoch, value in enumerate((1.0, 1.1, 0.9, 0.95, 0.9)):
        patience.update(value, epoch, "main")
        left.append(patience.left)
    assert left == [2, 1, 2, 1, 0]
    assert patience.is_out


def test_progress_of_less_than_min_delta_is_none() -> None:
    patience = Patience(StoppingChoice(patience=1, min_delta=0.1))
    assert patience.update(1.0, 1, "main")
    assert not patience.update(0.95, 2, "main")
    assert patience.best == Best(1, "main", 1.0)


def test_a_new_phase_has_new_patience_and_the_old_best() -> None:
    patience = Patience(StoppingChoice(patience=1))
    patience.update(0.5, 1, "head")
    patience.update(0.6, 2, "head")
    assert patience.is_out
    patience.renew()
    assert not patience.is_out
    assert not patience.update(0.55, 3, "full")
    assert patience.best == Best(1, "head", 0.5)


@given(values=st.lists(st.floats(0, 4), min_size=1, max_size=30), cut=st.integers(0, 29))
def test_a_patience_that_was_stored_as_json_goes_on_as_if_it_had_not_been(values: list[float], cut: int) -> None:
    whole, stored = Patience(StoppingChoice(patience=3)), Patience(StoppingChoice(patience=3))
    for number, value in enumerate(values):
        if number == cut:
            state = json.loads(json.dumps(stored.state()))
            stored = Patience(StoppingChoice(patience=3))
            stored.restore(state)
        assert whole.update(value, number, "main") == stored.update(value, number, "main")
        assert (whole.best, whole.left) == (stored.best, stored.left)
