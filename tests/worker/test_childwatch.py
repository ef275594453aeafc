"""A worker's process is ended for an image that takes too long, for standing still, and for its memory; else never."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.childwatch import LOOK_S, ChildWatch, Limits
from worker.inhand import InHand
from worker.memory import MIB

LIMITS = Limits(item_s=5, stall_s=20, memory_bytes=100 * MIB)
ME = os.getpid()


class World:
    """A holder, its watch, and a clock that goes when it is told to."""

    def __init__(self, path: Path, limits: Limits = LIMITS) -> None:
        self.now = 100.0
        self.taken: int | None = 50 * MIB
        self.hand = InHand(path)
        self.hand.take_over()
        self.ticks = 0
        self.watch = ChildWatch(path, limits, clock=lambda: self.now, resident=lambda _: self.taken)

    def verdicts(self, seconds: float, *, pulse: bool = True, step: float = LOOK_S) -> Iterator[str | None]:
        end = self.now + seconds
        while self.now < end:
            self.now += step
            if pulse:
                self.hand.pulse(self.ticks)
            yield self.watch.verdict(ME)

    def verdict(self, seconds: float, *, pulse: bool = True, step: float = LOOK_S) -> str | None:
        return next((verdict for verdict in self.verdicts(seconds, pulse=pulse, step=step) if verdict), None)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "cpu.inhand")


def test_an_image_may_take_its_time_and_no_more(world: World) -> None:
    world.hand.begin(3, 14)
    assert world.verdict(4.5) is None
    assert world.verdict(1.0) == "item 14 of job 3 has been in hand for 5 s"


def test_one_image_after_the_other_is_fine(world: World) -> None:
    for idx in range(6):
        slot = world.hand.begin(3, idx)
        assert world.verdict(4.5) is None
        world.hand.end(slot)


def test_while_an_archive_is_unpacked_the_clock_of_images_stands(world: World) -> None:
    world.hand.begin(3, 14)
    for _ in range(10):
        world.ticks += 1
        assert world.verdict(4.0) is None
    assert world.verdict(6.0) is not None


def test_time_in_which_the_watch_itself_stood_still_does_not_count(world: World) -> None:
    """The whole machine slept, or somebody stopped all processes: the image had no time either."""
    world.hand.begin(3, 14)
    assert world.verdict(1.0) is None
    assert world.verdict(600, pulse=False, step=600) is None
    assert world.verdict(2.0) is None


def test_an_interpreter_that_stands_still_is_noticed_with_nothing_in_hand(world: World) -> None:
    assert world.verdict(100) is None
    assert world.verdict(19, pulse=False) is None
    assert world.verdict(2, pulse=False) == "it stood still for 20 s"


def test_memory_beyond_the_limit_is_noticed_at_the_first_look(world: World) -> None:
    assert world.verdict(1) is None
    world.taken = 101 * MIB
    assert world.verdict(LOOK_S) == "it has taken 101 MiB of memory; the limit is 100 MiB"
    world.taken = None  # it is gone, or this is a Mac
    assert world.verdict(1) is None


def test_without_a_limit_memory_is_nobodys_business(tmp_path: Path) -> None:
    world = World(tmp_path / "cpu.inhand", Limits(5, 20, None))
    world.taken = 10**15
    assert world.verdict(1) is None


def test_notes_of_another_process_are_not_this_ones(world: World) -> None:
    """A dead predecessor's notes, or those of another supervisor's worker: nobody is ended for them."""
    world.hand.begin(3, 14)
    for _ in range(1000):
        world.now += LOOK_S
        assert world.watch.verdict(ME + 1) is None


def test_a_successor_begins_with_a_clock_of_its_own(world: World) -> None:
    world.hand.begin(3, 14)
    assert world.verdict(4.5) is None
    world.now += LOOK_S
    assert world.watch.verdict(ME + 1) is None
    assert world.verdict(4.5) is None


def test_without_a_file_only_memory_is_watched(tmp_path: Path) -> None:
    world = World(tmp_path / "cpu.inhand")
    (tmp_path / "cpu.inhand").unlink()
    assert world.verdict(100, pulse=False) is None
    world.taken = 200 * MIB
    assert world.verdict(1) is not None
