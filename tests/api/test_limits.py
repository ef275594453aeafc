"""The bucket of requests: a minute's worth at once, then evenly."""

from __future__ import annotations

import threading

import pytest

from api import limits
from api.limits import Meter
from api.problems import Problem


class Clock:
    """A clock that moves when it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_requests_may_come_at_once_and_then_evenly() -> None:
    clock = Clock()
    meter = Meter(now=clock)
    for _ in range(60):
        meter.take("a", 60)
    with pytest.raises(Problem) as caught:
        meter.take("a", 60)
    assert caught.value.extensions["retry_after"] == 1
    clock.now += 1
    meter.take("a", 60)
    with pytest.raises(Problem):
        meter.take("a", 60)
    clock.now += 3600  # it does not overflow
    assert meter.take("a", 60)["RateLimit"] == '"requests";r=59;t=1'


def test_each_token_has_its_own_bucket() -> None:
    meter = Meter(now=Clock())
    meter.take("a", 1)
    meter.take("b", 1)
    with pytest.raises(Problem):
        meter.take("a", 1)


def test_many_threads_get_no_more_than_one_would() -> None:
    meter = Meter(now=Clock())
    allowed = []

    def take() -> None:
        for _ in range(50):
            try:
                meter.take("a", 100)
            except Problem:
                continue
            allowed.append(1)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(allowed) == 100


def test_buckets_that_nobody_uses_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_BUCKETS", 10)
    clock = Clock()
    meter = Meter(now=clock)
    for n in range(10):
        meter.take(str(n), 5)
    clock.now += 61
    meter.take("new", 5)
    assert set(meter._buckets) == {"new"}
