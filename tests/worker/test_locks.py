"""Locks on files: one holder at a time, freed by death."""

import os
import subprocess
import sys
from pathlib import Path

from worker.locks import FileLock

HOLD = """
import sys
from pathlib import Path
from worker.locks import FileLock
lock = FileLock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


def test_only_one_process_holds_a_lock_and_its_death_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "run" / "device.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "True\n"
    lock = FileLock(path)
    assert lock.acquire() is False
    assert path.read_text() == f"{holder.pid}\n"
    holder.kill()
    holder.communicate()
    assert lock.acquire() is True
    assert lock.held


def test_who_holds_a_lock_is_told_without_taking_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert FileLock(path).holder() is None
    lock = FileLock(path)
    assert lock.acquire()
    assert FileLock(path).holder() == os.getpid()
    path.write_text("somebody")
    assert FileLock(path).holder() == 0
    lock.release()
    assert FileLock(path).holder() is None
    assert lock.acquire()


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    one, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert one.acquire()
    assert one.acquire()
    assert not other.acquire()
    one.release()
    assert other.acquire()
