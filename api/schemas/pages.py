"""What every paged question takes: a cursor and a limit."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.schemas.text import Digits

DEFAULT_LIMIT = 100
MOST = 1_000
MAX_CURSOR = 16_384  # characters: a cursor may hold a path

Limit = Annotated[int, Field(ge=1, le=MOST, description="How many rows a page has at the most."), Digits]
Cursor = Annotated[
    str,
    Field(
        max_length=MAX_CURSOR,
        pattern="^[A-Za-z0-9_-]*$",
        description="`next` of the page before, with the same filter.",
    ),
]
