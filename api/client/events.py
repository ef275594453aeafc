"""Following a job: its events one after another, over as many connections as it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from api.client.errors import Unreachable
from api.client.retrying import PATIENCE_S, Patience


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
    _patience: Patience = field(init=False)

    def __post_init__(self) -> None:
        self._patience = Patience(self.patience_s)

    @property
    def headers(self) -> dict[str, str]:
        """What a request for the events after the last one says."""
        return {"Last-Event-ID": self.last_id} if self.last_id else {}

    def note(self, sent: httpx2.ServerSentEvent) -> Event:
        """An event as it came; the server is there."""
        self._patience.renew()
        self.last_id = sent.id or self.last_id
        self.ended = sent.event == "end"
        return Event(sent.event, json.loads(sent.data), sent.id)

    def lost(self, reason: Exception | None = None) -> float:
        """The connection ended before the job did: seconds to wait. Raises Unreachable once patience is over."""
        pause = self._patience.pause()
        if pause is not None:
            return pause
        if isinstance(reason, Unreachable):
            raise reason
        raise Unreachable(self.server, "it ends every connection at once") from reason
