"""What a worker has in hand, noted in a mapped file that outlives its process, whatever ends it.

Before a thread reads or decodes an item it notes which one, and strikes the note out afterwards: a few stores to
memory, under a microsecond. The kernel keeps the file's pages when the process is gone, be it by a segmentation fault
or by SIGKILL. Who takes the place over finds the notes: one of these items may have been the end of the last one. They
are suspects, and are prepared alone from then on (`worker.suspects`). See docs/decisions/0007.

The file is an array of 64-bit integers: a head, the notes (job, index, time begun), the suspects (job, index, whether
guilty). It is written by the one process that holds the place's lock; others look.
"""

from __future__ import annotations

import logging
import mmap
import os
import threading
import time
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

log = logging.getLogger(__name__)

SUFFIX = ".inhand"
NOTES = 1024  # items in hand at once; a thread that finds no room goes on without
SUSPECTS = 1024  # the oldest go
_MAGIC = 0x5058_494E_4841_0001  # the last digits: the version of the format
_HEAD = 8
_PID, _PULSE, _TICKS, _NEXT = 1, 2, 3, 4
_FIRST_NOTE = _HEAD
_FIRST_SUSPECT = _FIRST_NOTE + 3 * NOTES
CELLS = _FIRST_SUSPECT + 3 * SUSPECTS


@dataclass(frozen=True, slots=True)
class Note:
    """An item that some thread has in hand, since `begun` (nanoseconds of a clock that only its process knows)."""

    job_id: int
    idx: int
    begun: int


@dataclass(frozen=True, slots=True)
class Sight:
    """What another process sees of a place: its holder, its signs of life, and what it has in hand, by slot."""

    pid: int
    pulse: int  # grows every second
    ticks: int  # grows while an archive is unpacked, which may take longer than any image
    notes: dict[int, Note]


class InHand:
    """The notes of one place. Without a path they are in memory only, and help nobody.

    Many threads note at once; each slot belongs to one of them at a time.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Raises OSError where the file cannot be made. Only for who holds the place's lock."""
        self.path = path
        self._map = _mapped(path) if path else mmap.mmap(-1, 8 * CELLS)
        self._cells = memoryview(self._map).cast("q")
        self._free = deque(range(_FIRST_NOTE, _FIRST_SUSPECT, 3))
        self._lock = threading.Lock()  # of the suspects
        if self._cells[0] != _MAGIC:
            self._map[:] = bytes(8 * CELLS)
            self._cells[0] = _MAGIC

    def take_over(self) -> int:
        """Become the holder: what the last one had in hand when it ended is suspect from here on. Returns how many."""
        found = [note for _, note in _notes(self._cells)]
        for note in found:
            self.suspect(note.job_id, note.idx)
        self._cells[_PID] = os.getpid()  # before the notes go: whoever watches must not take them for ours
        for slot in range(_FIRST_NOTE, _FIRST_SUSPECT, 3):
            self._cells[slot] = 0
        return len(found)

    def begin(self, job_id: int, idx: int) -> int:
        """Note an item; returns the slot for `end`, or -1 where there is no room."""
        try:
            slot = self._free.pop()
        except IndexError:
            return -1
        cells = self._cells
        cells[slot + 1] = idx
        cells[slot + 2] = time.monotonic_ns()
        cells[slot] = job_id  # last: with it the note counts
        return slot

    def end(self, slot: int) -> None:
        """Strike a note out."""
        if slot >= 0:
            self._cells[slot] = 0
            self._free.append(slot)

    def pulse(self, ticks: int) -> None:
        """A sign of life; `ticks` as in Sight."""
        self._cells[_TICKS] = ticks
        self._cells[_PULSE] += 1

    def suspect(self, job_id: int, idx: int) -> None:
        """Have an item prepared alone the next time."""
        with self._lock:
            self._enter(job_id, idx)

    def convict(self, job_id: int, idx: int) -> bool:
        """An item was prepared alone, and ended that process too: it stays a suspect. Whether that is news."""
        with self._lock:
            slot = self._enter(job_id, idx)
            is_news = not self._cells[slot + 2]
            self._cells[slot + 2] = 1
            return is_news

    def clear(self, job_id: int, idx: int) -> None:
        """An item was prepared alone, and nothing happened."""
        with self._lock:
            slot = self._slot_of(job_id, idx)
            if slot is not None:
                self._cells[slot] = 0

    def suspects(self, job_id: int) -> set[int]:
        """The suspects of a job, by index: this place's, and what other places of this folder know or have in hand.

        Of the items of a shard that is leased here, another place can have one in hand only if it died of it.
        """
        found = set(_suspects_of(self._cells, job_id))
        if self.path is not None:
            for other in sorted(self.path.parent.glob(f"*{SUFFIX}")):
                if other != self.path and (cells := _read(other)) is not None:
                    found.update(_suspects_of(cells, job_id))
                    found.update(note.idx for _, note in _notes(cells) if note.job_id == job_id)
        return found

    def _enter(self, job_id: int, idx: int) -> int:
        slot = self._slot_of(job_id, idx)
        if slot is None:
            at = self._cells[_NEXT] % SUSPECTS
            slot = _FIRST_SUSPECT + 3 * at
            self._cells[slot] = 0
            self._cells[slot + 1], self._cells[slot + 2] = idx, 0
            self._cells[slot] = job_id
            self._cells[_NEXT] = at + 1
        return slot

    def _slot_of(self, job_id: int, idx: int) -> int | None:
        slots = range(_FIRST_SUSPECT, CELLS, 3)
        return next((at for at in slots if self._cells[at] == job_id and self._cells[at + 1] == idx), None)


class Holding:
    """`with Holding(hand, job_id, idx):` the item is in hand. An error that is not `expected` makes it a suspect."""

    __slots__ = ("_expected", "_hand", "_idx", "_job_id", "_slot")

    def __init__(self, hand: InHand, job_id: int, idx: int, expected: tuple[type[BaseException], ...] = ()) -> None:
        self._hand, self._job_id, self._idx, self._expected = hand, job_id, idx, expected

    def __enter__(self) -> None:
        self._slot = self._hand.begin(self._job_id, self._idx)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is not None and not issubclass(kind, self._expected):
            self._hand.suspect(self._job_id, self._idx)
        self._hand.end(self._slot)


def hand_path(run_folder: Path, device: str, queue: str) -> Path:
    """Where the holder of a place notes what it has in hand."""
    return run_folder / f"{device if queue == 'classify' else f'{device}-{queue}'}{SUFFIX}"


def look(path: Path) -> Sight | None:
    """What can be seen of a place from outside; None where there is no file, or none of ours."""
    cells = _read(path)
    if cells is None:
        return None
    return Sight(cells[_PID], cells[_PULSE], cells[_TICKS], dict(_notes(cells)))


def _mapped(path: Path) -> mmap.mmap:
    """The file's pages, shared with the kernel. All of it is on the disk first: a hole on a full one would be fatal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.fstat(handle).st_size != 8 * CELLS:
            os.ftruncate(handle, 0)
            if os.pwrite(handle, bytes(8 * CELLS), 0) != 8 * CELLS:
                os.ftruncate(handle, 0)
                raise OSError(f"{path}: could not write {8 * CELLS} bytes")
        return mmap.mmap(handle, 8 * CELLS)
    finally:
        os.close(handle)


def _read(path: Path) -> Sequence[int] | None:
    data = b""
    with suppress(OSError):
        data = path.read_bytes()
    if len(data) != 8 * CELLS:
        return None
    cells = array("q", data)
    return cells if cells[0] == _MAGIC else None


def _notes(cells: Sequence[int]) -> Iterator[tuple[int, Note]]:
    """The slots that hold a note."""
    jobs = cells[_FIRST_NOTE:_FIRST_SUSPECT:3]
    for n, job_id in enumerate(jobs if any(jobs) else ()):
        if job_id:
            slot = _FIRST_NOTE + 3 * n
            yield slot, Note(job_id, cells[slot + 1], cells[slot + 2])


def _suspects_of(cells: Sequence[int], job_id: int) -> list[int]:
    jobs = cells[_FIRST_SUSPECT:CELLS:3]
    if job_id not in jobs:  # as good as always
        return []
    return [cells[_FIRST_SUSPECT + 3 * n + 1] for n, job in enumerate(jobs) if job == job_id]
