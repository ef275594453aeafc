"""Identical files on their way through the pipeline: one of them is computed, the others take its answer."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from store.rows import NewResult


@dataclass(frozen=True, slots=True)
class Twin:
    """An item that waits for, or takes, the answer of an identical file."""

    idx: int
    file_key: bytes | None
    owner: str  # the token of its lease

    def answer(self, result: NewResult) -> NewResult:
        """The leader's result as this item's row."""
        return replace(result, idx=self.idx, file_key=self.file_key if result.status == "ok" else None, reused=True)


class Twins:
    """Who leads for a content hash, who follows, and the last answers. Thread-safe; bounded."""

    def __init__(self, remembered: int = 20_000) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[bytes, list[Twin]] = {}
        self._answers: OrderedDict[bytes, NewResult] = OrderedDict()
        self._remembered = remembered

    def enter(self, content_hash: bytes, twin: Twin) -> NewResult | bool:
        """A finished answer; or True when the caller must compute it; or False: its twin will be settled later."""
        with self._lock:
            if answer := self._answers.get(content_hash):
                return twin.answer(answer)
            if content_hash in self._waiting:
                self._waiting[content_hash].append(twin)
                return False
            self._waiting[content_hash] = []
            return True

    def settle(self, content_hash: bytes, result: NewResult) -> list[Twin]:
        """Note the leader's answer; returns the twins that waited for it."""
        with self._lock:
            self._answers[content_hash] = result
            if len(self._answers) > self._remembered:
                self._answers.popitem(last=False)
            return self._waiting.pop(content_hash, [])
