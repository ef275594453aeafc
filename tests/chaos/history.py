"""When which fault befell a world, while it happens: what else goes wrong is judged by that."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class Firing(NamedTuple):
    """What a process did at a failpoint."""

    name: str
    action: str
    pid: int


def fired(failpoints: Path) -> list[Firing]:
    """Everything that was done at failpoints so far."""
    log = failpoints / "fired.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [Firing(name, action, int(pid)) for name, action, pid, _ in map(str.split, lines)]


@dataclass
class _Spell:
    name: str
    begun: float
    ended: float | None = None


@dataclass
class History:
    """Every fault that was tried, also one that met nothing: it may have met others. Safe for threads."""

    _spells: list[_Spell] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """The fault of that name is under way."""
        spell = _Spell(name, time.monotonic())
        with self._lock:
            self._spells.append(spell)
        try:
            yield
        finally:
            spell.ended = time.monotonic()

    def names(self) -> set[str]:
        """The faults of the whole run."""
        return self.since(float("-inf"))

    def since(self, at: float) -> set[str]:
        """The faults that are under way, or ended after that moment (of the monotonic clock)."""
        with self._lock:
            return {spell.name for spell in self._spells if spell.ended is None or spell.ended >= at}
