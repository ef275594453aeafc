"""Shares: half for one token, all for two, and back when it is over."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from api.images.gate import Shares
from api.problems import Problem


def is_free(shares: Shares, token: str, amount: int = 1) -> bool:
    try:
        with shares.held(token, amount):
            return True
    except Problem:
        return False


def test_one_token_has_half_of_the_places_and_two_have_all() -> None:
    shares = Shares(4, "places")
    with ExitStack() as held:
        for token in ("ann", "ann"):
            held.enter_context(shares.held(token))
        assert not is_free(shares, "ann")
        assert is_free(shares, "bob")
        for token in ("bob", "bob"):
            held.enter_context(shares.held(token))
        assert not is_free(shares, "eve")
    assert is_free(shares, "ann", 2)
    assert is_free(shares, "eve")


def test_what_is_larger_than_a_share_passes_alone() -> None:
    shares = Shares(100, "bytes")
    with shares.held("ann", 10**9):
        assert not is_free(shares, "ann", 1)
        assert is_free(shares, "bob", 10**9)


def test_a_place_is_given_back_after_a_failure() -> None:
    shares = Shares(2, "places")
    with pytest.raises(OSError, match="gone"), shares.held("ann"):
        raise OSError("gone")
    assert is_free(shares, "ann")
