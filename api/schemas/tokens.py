"""Shapes of tokens, and their one JSON form."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import Field

from api.schemas.text import MAX_ID, Digits, Input, Output, Text64
from store.moments import rfc3339
from store.tokens import TokenRow

Scope = Literal["read", "submit", "admin"]
Count = Annotated[int, Field(ge=0, le=MAX_ID), Digits]
Rate = Annotated[int, Field(ge=0, le=1_000_000), Digits]


class NewToken(Input):
    """What a token to be is called and may do. A limit that is left out is the server's; 0 is none."""

    name: Annotated[Text64, Field(min_length=1, description="For people: who or what uses it.")]
    owner: Annotated[Text64 | None, Field(description="Whose jobs it makes and sees; by default its name.")] = None
    scope: Annotated[Scope, Field(description="read, submit (and read), or admin (everything, of everybody).")] = (
        "submit"
    )
    expires_in_days: Annotated[float | None, Field(gt=0, le=36_500)] = None
    requests_per_minute: Rate | None = None
    max_queued_items: Count | None = None
    max_upload_bytes: Count | None = None


class Token(Output):
    """A token as it is kept: its secret is not."""

    id: str
    name: str
    prefix: str
    owner: str
    scopes: list[Scope]
    created_at: str
    expires_at: str | None
    last_used_at: str | None
    revoked_at: str | None
    requests_per_minute: int | None
    max_queued_items: int | None
    max_upload_bytes: int | None


class MadeToken(Token):
    """A new token, with the secret that is shown this once."""

    secret: str


class Allowance(Output):
    """What the caller may use; null is no limit."""

    requests_per_minute: int | None
    queued_items: int | None
    upload_bytes: int | None


class Identity(Output):
    """Who the caller is."""

    owner: str
    scopes: list[Scope]
    token: str
    limits: Allowance


def token_record(row: TokenRow) -> dict[str, Any]:
    """A token's one JSON form, also for the command line."""
    moments = {name: getattr(row, name) for name in ("created_at", "expires_at", "last_used_at", "revoked_at")}
    return {
        "id": row.id,
        "name": row.name,
        "prefix": row.prefix,
        "owner": row.owner,
        "scopes": list(row.scopes),
        **{name: None if at is None else rfc3339(at) for name, at in moments.items()},
        **asdict(row.limits),
    }
