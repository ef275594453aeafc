"""Moments as RFC 3339, there and back."""

import pytest

from store.moments import rfc3339, seconds


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1763775000.5, "2025-11-22T01:30:00.500Z"),
        (0.5999999, "1970-01-01T00:00:00.600Z"),
        (59.9996, "1970-01-01T00:01:00.000Z"),
    ],
)
def test_a_moment_is_shown_in_utc_with_milliseconds(moment: float, text: str) -> None:
    assert rfc3339(moment) == text
    assert seconds(text) == pytest.approx(moment, abs=0.001)


def test_a_zone_counts_and_must_be_there() -> None:
    assert seconds("1970-01-01T01:00:00+01:00") == 0
    for wrong in ("1970-01-01T01:00:00", "yesterday", ""):
        with pytest.raises(ValueError, match=r".+"):
            seconds(wrong)
