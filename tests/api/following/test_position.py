"""Positions: what a listener has heard, in a text that comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.following.position import Position

positions = st.builds(
    Position, st.integers(0, 10**16 - 1), st.integers(0, 10**9 - 1), st.integers(0, 10**9 - 1), st.booleans()
)


@given(positions)
def test_a_position_comes_back_as_it_was(position: Position) -> None:
    assert Position.parse(str(position)) == position


@given(positions, st.integers(0, 10**9), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_position_only_goes_on_and_knows_what_it_has_passed(
    before: Position, event: int, attempt: int, epoch: int
) -> None:
    after = before.at_event(event).at_epoch(attempt, epoch)
    assert after.has_event(event)
    assert after.has_event(before.event)
    assert after.has_epoch(attempt, epoch)
    assert after.has_epoch(before.attempt, before.epoch)
    assert not after.has_event(max(event, before.event) + 1)


@pytest.mark.parametrize(
    "text", ["", "1", "1-2", "1-2-3-4", "1-2-3-END", "a-b-c", " 1-2-3", "1-2-3\n", "١-2-3", "+1-2-3"]
)
def test_another_text_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="Last-Event-ID"):
        Position.parse(text)
