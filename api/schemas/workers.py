"""Workers over HTTP."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.schemas.text import Output


class Worker(Output):
    """A worker as it last reported; `models` are those it holds warm, the most recent first."""

    id: str
    host: str
    device: str
    pid: int
    state: Annotated[str, Field(description="idle, busy or stopped.")]
    models: list[str]
    images: int
    started_at: str
    seen_at: str
    trouble: Annotated[str | None, Field(description="What it waits for: space on a disk.")]


class Workers(Output):
    """Every worker that is known, those heard of last first."""

    items: list[Worker]
    next: None = None
