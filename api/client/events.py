"""Following a job: its events one after another, over as many connections as it takes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from api.client.errors import Unreachable

PATIENCE_S = 10.0  # how long a server may be away before following it is given up
FIRST_S, LONGEST_S = 0.2, 2.0  # between tries


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: `kind` is state, progress, epoch or end; `id` is for `Last-Event-ID`."""

    kind: str
    data: Mapping[str, Any]
    id: str = ""


@dataclass(slots=True)
class Trail:
    """What was followed already: where to go on, and when to give up."""

    server: str
    last_id: str = ""
    patience_s: float = PATIENCE_S
    ended: bool = False
    _away_since: float | None = None
    _pause_s: float = field(default=FIRST_S)

    @property
    def headers(self) -> dict[str, str]:
        """What a request for the events after the last one says."""
        return {"Last-Event-ID": self.last_id} if self.last_id else {}

    def note(self, sent: httpx2.ServerSentEvent) -> Event:
        """An event as it came; the server is there."""
        self._away_since, self._pause_s = None, FIRST_S
        self.last_id = sent.id or self.last_id
        self.ended = sent.event == "end"
        return Event(sent.event, json.loads(sent.data), sent.id)

    def lost(self, reason: Exception | None = None) -> float:
        """The connection ended before the job did: seconds to wait. Raises Unreachable once patience is over."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        elif now - self._away_since > self.patience_s:
            if isinstance(reason, Unreachable):
                raise reason
            raise Unreachable(self.server, "it ends every connection at once") from reason
        self._pause_s = min(2 * self._pause_s, LONGEST_S)
        return self._pause_s
