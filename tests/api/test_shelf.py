"""The shelf: made once, for all who ask, and made anew where it may be wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from api import shelf as shelves
from api.problems import Problem
from api.shelf import REST_S, SHARE, Shelf


@dataclass(frozen=True, slots=True)
class Thing:
    word: str
    size: int = 1


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(shelves, "time", made)
    return made


def shelf(most: int = 3, most_bytes: int = 100) -> Shelf[Thing]:
    return Shelf("things are made", most, most_bytes)


def never() -> Thing:
    raise AssertionError("made though it is there")


def maker(word: str, size: int = 1) -> Callable[[], Thing]:
    return lambda: Thing(word, size)


def test_what_is_settled_is_made_once_until_its_stamp_changes(clock: Clock) -> None:
    kept = shelf()
    assert kept.get(1, "a", maker("first"), settled=True).word == "first"
    clock.now += 1e6
    assert kept.get(1, "a", never, settled=True).word == "first"
    assert kept.get(1, "b", maker("second"), settled=True).word == "second"


def test_what_changes_is_made_at_most_once_in_two_seconds(clock: Clock) -> None:
    kept = shelf()
    kept.get(1, 10, maker("first"), settled=False)
    clock.now += REST_S - 0.01
    assert kept.get(1, 11, never, settled=False).word == "first"
    clock.now += 0.02
    assert kept.get(1, 11, maker("second"), settled=False).word == "second"


def test_what_has_settled_meanwhile_is_made_at_once(clock: Clock) -> None:
    kept = shelf()
    kept.get(1, (None, 10), maker("first"), settled=False)
    assert kept.get(1, (5.0, 10), maker("last"), settled=True).word == "last"


def test_what_takes_long_rests_longer(clock: Clock) -> None:
    kept = shelf()

    def slow() -> Thing:
        clock.now += 3
        return Thing("slow")

    kept.get(1, 1, slow, settled=False)
    clock.now += 3 * SHARE - 0.01
    assert kept.get(1, 2, never, settled=False).word == "slow"


def test_the_one_asked_for_longest_ago_goes_first() -> None:
    kept = shelf(most=2)
    for key in ("a", "b", "a", "c"):
        kept.get(key, 0, maker(key), settled=True)
    kept.get("a", 0, never, settled=True)
    kept.get("c", 0, never, settled=True)
    assert kept.get("b", 0, maker("again"), settled=True).word == "again"


def test_large_things_push_others_out_but_never_themselves() -> None:
    kept = shelf(most_bytes=100)
    kept.get("a", 0, maker("a", 60), settled=True)
    kept.get("b", 0, maker("b", 500), settled=True)
    kept.get("b", 0, never, settled=True)
    assert kept.get("a", 0, maker("again"), settled=True).word == "again"


def test_what_cannot_be_made_is_tried_again() -> None:
    kept = shelf()
    with pytest.raises(ZeroDivisionError):
        kept.get(1, 0, lambda: Thing(str(1 // 0)), settled=True)
    assert kept.get(1, 0, maker("made"), settled=True).word == "made"


def test_many_who_ask_at_once_wait_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, started, go_on = shelf(), threading.Event(), threading.Event()
    made: list[int] = []
    got: list[str] = []

    def make() -> Thing:
        made.append(1)
        started.set()
        assert go_on.wait(30)
        return Thing("one")

    def ask() -> None:
        got.append(kept.get(1, 0, make, settled=True).word)

    threads = [threading.Thread(target=ask) for _ in range(shelves.ASKING)]
    for thread in threads:
        thread.start()
    assert started.wait(30)
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert got == ["one"] * shelves.ASKING
    assert made == [1]


def test_who_waits_too_long_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "WAIT_S", 0.01)
    kept, started, go_on = shelf(), threading.Event(), threading.Event()

    def make() -> Thing:
        started.set()
        assert go_on.wait(30)
        return Thing("one")

    thread = threading.Thread(target=lambda: kept.get(1, 0, make, settled=True))
    thread.start()
    assert started.wait(30)
    with pytest.raises(Problem) as refused:
        kept.get(1, 0, never, settled=True)
    go_on.set()
    thread.join(30)
    assert refused.value.kind == "unavailable"
    assert kept.get(1, 0, never, settled=True).word == "one"
