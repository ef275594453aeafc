"""How far a listener has come in a job's history: the `id` of an event, and what `Last-Event-ID` brings back."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_FORM = re.compile(r"(\d{1,16})-(\d{1,9})-(\d{1,9})(-end)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """The last event, and the last epoch of a training by its attempt: an epoch that is run again is told again."""

    event: int = 0
    attempt: int = 0
    epoch: int = 0
    ended: bool = False  # the end was told too

    def __str__(self) -> str:
        return f"{self.event}-{self.attempt}-{self.epoch}{'-end' if self.ended else ''}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read back what `str` gave. Raises ValueError."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError("Expected a Last-Event-ID that came with an event of this job.")
        return cls(int(found[1]), int(found[2]), int(found[3]), found[4] is not None)

    def has_event(self, event: int) -> bool:
        """Whether an event was told."""
        return event <= self.event

    def has_epoch(self, attempt: int, epoch: int) -> bool:
        """Whether an epoch of an attempt was told."""
        return (attempt, epoch) <= (self.attempt, self.epoch)

    def at_event(self, event: int) -> Position:
        """The position after an event."""
        return replace(self, event=max(event, self.event), ended=False)

    def at_epoch(self, attempt: int, epoch: int) -> Position:
        """The position after an epoch of an attempt."""
        if self.has_epoch(attempt, epoch):
            return self
        return replace(self, attempt=attempt, epoch=epoch, ended=False)
