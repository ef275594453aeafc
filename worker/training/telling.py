"""How the trainer speaks with its station: JSON lines both ways, the wishes kept by a thread."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from models.training.history import Epoch, Progress, Wish
from store.failpoints import reach
from worker.room import lacking

BETWEEN_S = 0.3  # at least, between two messages that only say how far it is
ROOM_S = 5.0  # between two tries to write to a disk that was full


class Teller:
    """The trainer's end of the pipes; the Observer of the loop. One thread tells, another one listens."""

    def __init__(self) -> None:
        """Take over standard output: whatever a library prints from here on goes to the log."""
        self._channel: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self._wish: Wish = "go"
        self._last = 0.0

    def listen(self) -> dict[str, Any]:
        """The request; wishes are heard from then on. A station that is gone is a wish to pause."""
        request: dict[str, Any] = json.loads(sys.stdin.readline())
        threading.Thread(target=self._hear, name="wishes", daemon=True).start()
        return request

    def _hear(self) -> None:
        for line in sys.stdin:
            self._wish = json.loads(line).get("wanted", "go")
        self._wish = "pause"

    def say(self, kind: str, **values: Any) -> None:
        """One message."""
        line = json.dumps({"kind": kind, **values}) + "\n"
        with self._lock:
            self._channel.write(line)
            self._channel.flush()

    def stage(self, stage: str, done: int = 0, total: int = 0) -> None:
        """What is being done now, and how far it is; not more often than a person can read."""
        now = time.monotonic()
        if done not in (0, total) and now - self._last < BETWEEN_S:
            return
        self._last = now
        self.say("stage", stage=stage, done=done, total=total)

    def progress(self, now: Progress) -> None:
        """See Observer."""
        self.say("progress", **asdict(now))

    def epoch(self, epoch: Epoch) -> None:
        """See Observer."""
        self.say("epoch", **epoch.to_json())
        reach("checkpoint.before")

    def checkpoint(self, path: Path, epoch: int, step: int) -> None:
        """See Observer."""
        self.say("checkpoint", path=str(path), epoch=epoch, step=step)

    def wait_for_room(self, error: OSError) -> bool:
        """Say that a disk is full, and wait a little; True where it is worth another try."""
        what = lacking(error)
        if what is None:
            return False
        self.say("no_room", message=what)
        until = time.monotonic() + ROOM_S
        while time.monotonic() < until and self._wish == "go":
            time.sleep(BETWEEN_S)
        return self._wish == "go"

    def wanted(self) -> Wish:
        """See Observer."""
        return self._wish


def message_of(error: Exception) -> Mapping[str, str]:
    """An error that is the station's to tell."""
    return {"error": type(error).__name__, "message": str(error)}
