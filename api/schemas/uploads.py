"""Uploads as answers: a session, a file of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from api.schemas.text import Output


class Upload(Output):
    """One upload. `expires_at`: when it is removed if nobody uses it until then."""

    id: str
    owner: str
    state: Literal["open", "sealed"]
    files: int
    bytes: int
    created_at: str
    touched_at: str
    expires_at: str
    job: int | None = Field(description="The last job that reads it.")


class Uploads(Output):
    """A page of uploads, the newest first."""

    items: list[Upload]
    next: str | None


class UploadedFile(Output):
    """One file as it lies on the server."""

    upload: str
    name: str
    bytes: int
