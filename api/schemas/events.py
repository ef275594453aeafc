"""What a job's history looks like over HTTP, and what its event stream carries."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from api.schemas.text import Digits, Output

LastEventId = Annotated[str, Field(max_length=64, description="The `id` of the last event that was received.")]
ForSeconds = Annotated[
    int,
    Field(ge=0, le=86_400, description="End the stream after so many seconds; 0: after what there is now."),
    Digits,
]

# Of each event in a stream; `data` is JSON.
ONE_EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "event": {"type": "string", "enum": ["state", "progress", "epoch", "log", "end"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "id": {"type": "string"},
    },
}
STREAM_EXAMPLE = """\
retry: 2000

event: state
data: {"job": 7, "state": "accepted", "kind": "accepted", "at": "2026-11-22T09:30:00.123Z", "data": {"items": 10000}}
id: 41-0-0

event: progress
data: {"job": 7, "state": "running", "found": 10000, "classified": 4096, "failed": 3, "reused": 0, "pending": 5901, \
"images_per_s": 812.4, "eta_s": 7.3, "training": null}
id: 41-0-0

event: end
data: {"job": 7, "state": "done_with_errors", "error": null}
id: 44-0-0-end

"""


class LogEntry(Output):
    """One event of a job's history. `data` depends on the kind."""

    id: int
    job: int | None
    at: str
    kind: str
    data: dict[str, Any]


class LogPage(Output):
    """Events, oldest first."""

    items: list[LogEntry]
    next: str | None
