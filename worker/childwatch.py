"""Watches a worker's process from its parent: one that hangs on an image, stands still or takes all memory is ended.

From outside, because a decoder that never returns may hold the interpreter's lock, and then no thread of that process
runs any more. Its successor prepares what was in hand alone (`worker.suspects`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker.inhand import Sight, look
from worker.memory import MIB, resident_bytes

LOOK_S = 0.1
STEP_S = 1.0  # a look that comes later than this was held up itself, perhaps with the worker: so much counts


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker's process may take. `memory_bytes`: None for no limit."""

    item_s: float  # for one image
    stall_s: float  # without a sign of life of its interpreter
    memory_bytes: int | None


class ChildWatch:
    """Looks at the process that holds a place. Call `verdict` every LOOK_S."""

    def __init__(
        self,
        path: Path,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
        resident: Callable[[int], int | None] = resident_bytes,
    ) -> None:
        self._path = path
        self._limits = limits
        self._clock = clock
        self._resident = resident
        self._before = clock()
        self._pid = 0
        self._signs = (0, 0)  # pulse, ticks
        self._still_s = 0.0
        self._held: dict[int, tuple[int, float]] = {}  # slot: when its item was begun, how long it has been seen since

    def verdict(self, pid: int) -> str | None:
        """Why this process has to end, in words; None where it may go on."""
        now = self._clock()
        step, self._before = min(now - self._before, STEP_S), now
        if pid != self._pid:
            self._pid, self._still_s, self._held = pid, 0.0, {}
        return self._of_memory(pid) or self._of_signs(look(self._path), pid, step)

    def _of_memory(self, pid: int) -> str | None:
        limit = self._limits.memory_bytes
        taken = self._resident(pid) if limit is not None and pid else None
        if limit is None or taken is None or taken <= limit:
            return None
        return f"it has taken {taken // MIB:,} MiB of memory; the limit is {limit // MIB:,} MiB"

    def _of_signs(self, sight: Sight | None, pid: int, step: float) -> str | None:
        if sight is None or sight.pid != pid:  # it has not taken its place yet
            return None
        (pulse, ticks), self._signs = self._signs, (sight.pulse, sight.ticks)
        self._still_s = self._still_s + step if sight.pulse == pulse else 0.0
        if self._still_s > self._limits.stall_s:
            return f"it stood still for {self._still_s:.0f} s"
        held = {}
        for slot, note in sight.notes.items():
            begun, seen_s = self._held.get(slot, (0, 0.0))
            is_same = begun == note.begun and sight.ticks == ticks
            held[slot] = (note.begun, seen_s + step if is_same else 0.0)
            if held[slot][1] > self._limits.item_s:
                return f"item {note.idx} of job {note.job_id} has been in hand for {self._limits.item_s:g} s"
        self._held = held
        return None
