"""What is in hand is known after any death of the process, and costs nothing before."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.running import eventually
from worker.inhand import CELLS, NOTES, SUSPECTS, Holding, InHand, hand_path, look

REPOSITORY = Path(__file__).parents[2]

HOLDER = """
import ctypes, os, signal, sys, threading, time
from pathlib import Path
from worker.inhand import Holding, InHand

hand = InHand(Path(sys.argv[1]))
hand.take_over()

def work(idx):
    with Holding(hand, 7, 1000 + idx):
        pass
    with Holding(hand, 7, idx):
        time.sleep(60)

for idx in (3, 5):
    threading.Thread(target=work, args=(idx,), daemon=True).start()
for _ in range(2000):
    if sum(cell == 7 for cell in hand._cells[8:]) == 2:
        break
    time.sleep(0.01)
print("ready", flush=True)
sys.stdin.readline()
if sys.argv[2] == "segfault":
    ctypes.string_at(0)
os._exit(75)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return hand_path(tmp_path / "run", "cpu", "classify")


@pytest.mark.parametrize("way", ["segfault", "exit", "kill"])
def test_what_a_process_had_in_hand_is_suspect_after_any_death(path: Path, way: str) -> None:
    command = [sys.executable, "-c", HOLDER, str(path), way]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        sight = look(path)
        assert sight is not None
        assert (sight.pid, {note.idx for note in sight.notes.values()}) == (process.pid, {3, 5})
        if way == "kill":
            process.send_signal(signal.SIGKILL)
        else:
            process.stdin.write("\n")
    successor = InHand(path)
    assert successor.take_over() == 2
    assert successor.suspects(7) == {3, 5}
    assert successor.suspects(8) == set()
    sight = look(path)
    assert sight is not None
    assert (sight.pid, sight.notes) == (os.getpid(), {})


def test_suspects_outlive_their_holder_too_until_they_are_cleared(path: Path) -> None:
    first = InHand(path)
    first.begin(7, 3)
    second = InHand(path)
    second.take_over()
    third = InHand(path)
    assert third.take_over() == 0
    third.clear(7, 4)
    assert third.suspects(7) == {3}
    assert [third.convict(7, 3), third.convict(7, 3), InHand(path).convict(7, 3)] == [True, False, False]
    assert InHand(path).suspects(7) == {3}
    third.clear(7, 3)
    assert InHand(path).suspects(7) == set()


def test_what_is_done_is_no_suspect_and_an_unexpected_error_is_one(path: Path) -> None:
    hand = InHand(path)
    with Holding(hand, 1, 1):
        pass
    with pytest.raises(ValueError, match="expected"), Holding(hand, 1, 2, (ValueError,)):
        raise ValueError("expected")
    with pytest.raises(KeyError), Holding(hand, 1, 3, (ValueError,)):
        raise KeyError("a bug")
    assert hand.suspects(1) == {3}
    assert InHand(path).take_over() == 0


def test_another_place_of_the_same_machine_knows_what_this_one_died_of(tmp_path: Path) -> None:
    """A shard of a dead worker may be claimed by its neighbour before it has a successor, or after."""
    dead = InHand(hand_path(tmp_path, "gpu-aaaa", "classify"))
    dead.begin(7, 3)
    neighbour = InHand(hand_path(tmp_path, "gpu-bbbb", "classify"))
    neighbour.begin(7, 4)
    assert neighbour.suspects(7) == {3}
    InHand(hand_path(tmp_path, "gpu-aaaa", "classify")).take_over()
    assert neighbour.suspects(7) == {3}


def test_threads_note_beside_each_other(path: Path) -> None:
    hand = InHand(path)
    stop = threading.Event()

    def work(idx: int) -> None:
        while not stop.is_set():
            with Holding(hand, 1, idx):
                sight = look(path)
                assert sight is not None
                assert idx in {note.idx for note in sight.notes.values()}

    threads = [threading.Thread(target=work, args=(idx,)) for idx in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: all(thread.is_alive() for thread in threads))
    time.sleep(0.2)
    assert all(thread.is_alive() for thread in threads)
    stop.set()
    for thread in threads:
        thread.join()
    sight = look(path)
    assert sight is not None
    assert sight.notes == {}


def test_more_in_hand_than_there_is_room_for_goes_unnoted_and_the_oldest_suspects_go(path: Path) -> None:
    hand = InHand(path)
    slots = [hand.begin(1, idx) for idx in range(NOTES + 2)]
    assert slots[NOTES:] == [-1, -1]
    for slot in slots:
        hand.end(slot)
    assert hand.begin(1, 5) >= 0
    for idx in range(SUSPECTS + 2):
        hand.suspect(1, idx)
    assert hand.suspects(1) == set(range(2, SUSPECTS + 2))


@pytest.mark.parametrize("content", [b"", b"of another program", b"\xff" * 8 * CELLS])
def test_a_file_that_is_not_ours_is_begun_anew(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    assert look(path) is None
    hand = InHand(path)
    assert hand.take_over() == 0
    assert hand.suspects(-1) == set()
    hand.begin(1, 2)
    assert InHand(path).take_over() == 1


def test_without_a_file_it_works_and_is_only_forgotten(tmp_path: Path) -> None:
    hand = InHand()
    hand.suspect(1, 2)
    assert hand.suspects(1) == {2}
    with pytest.raises(OSError, match=r"denied|directory"):
        InHand(Path("/proc/nowhere/cpu.inhand"))
    assert look(tmp_path / "none") is None


def test_a_note_costs_well_below_ten_microseconds(path: Path) -> None:
    """About 1 µs; the bound is for a machine that is busy with other things. Decoding an image takes 200 and more."""
    hand = InHand(path)

    def lap() -> float:
        begun = time.perf_counter()
        for idx in range(2000):
            with Holding(hand, 1, idx):
                pass
        return (time.perf_counter() - begun) / 2000

    assert min(lap() for _ in range(10)) < 10e-6
