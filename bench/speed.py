"""How fast the machine is while something is measured on it.

A rented processor slows down while its neighbours work, and no counter of the guest says so. A process of its own times
one small fixed piece of work again and again, by the time that the processor spent on it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PAUSE_S = 0.5
WORK = 50_000  # turns of a loop, some milliseconds: a hundredth of one core


def sample() -> None:
    """Print the milliseconds of each piece of work, until this process is ended."""
    while True:
        before, total = time.thread_time(), 0
        for number in range(WORK):
            total += number * number
        print((time.thread_time() - before) * 1000, flush=True)
        time.sleep(PAUSE_S)


@contextmanager
def watching_speed() -> Iterator[Callable[[], str]]:
    """Watch the machine's speed; what it gives says in a sentence how that was until now, and ends the watching."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from bench.speed import sample; sample()"], stdout=subprocess.PIPE, text=True
    )

    def told() -> str:
        process.kill()
        return described([float(line) for line in process.communicate()[0].splitlines()])

    try:
        yield told
    finally:
        process.kill()
        process.wait()


def described(took: list[float]) -> str:
    """The sentence: a fixed piece of work took this long, in the middle and at its slowest."""
    if not took:
        return "the machine's speed was not watched long enough"
    took = sorted(took)
    slow = took[min(len(took) - 1, int(len(took) * 0.9))]
    return (
        f"a fixed piece of work took {took[0]:.1f} ms at best, {statistics.median(took):.1f} ms in the middle, "
        f"a tenth of the time {slow:.1f} ms or more"
    )
