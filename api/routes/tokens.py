"""Tokens over HTTP, for administrators; and who the caller is."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from api.access import SCOPES, Admin, Reader
from api.context import Here
from api.known import KnownTokens
from api.paging import decode_cursor, encode_cursor, page_of
from api.problems import Problem, documented
from api.schemas.pages import MOST, Cursor, Limit
from api.schemas.text import Output
from api.schemas.tokens import Allowance, Identity, MadeToken, NewToken, Token, token_record
from store import tokens
from store.tokens import TokenLimits

router = APIRouter(tags=["access"])

DAY_S = 86_400.0
TokenId = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


class TokenPage(Output):
    """A page of tokens, the oldest first."""

    items: list[Token]
    next: str | None


@router.get("/whoami", operation_id="whoami", summary="Who the token says you are")
def whoami(caller: Reader) -> Identity:
    """Also the quickest way to try a token."""
    return Identity(
        owner=caller.owner,
        scopes=[scope for scope in SCOPES if scope in caller.scopes],
        token=caller.token_id,
        limits=Allowance(**asdict(caller.limits)),
    )


@router.get(
    "/tokens",
    operation_id="list_tokens",
    summary="Every token, the oldest first",
    response_model=TokenPage,
    responses=documented("bad-cursor"),
)
def list_tokens(
    _: Admin,
    here: Here,
    request: Request,
    limit: Annotated[Limit, Query()] = MOST,
    cursor: Annotated[Cursor | None, Query()] = None,
) -> Response:
    """Secrets are not among it: only their hashes are kept."""
    binding = ["tokens"]
    after = decode_cursor(cursor, binding, float, str)
    rows = tokens.list_tokens(here.database, after=(after[0], after[1]) if after else None, limit=limit + 1)
    return page_of(request, rows, limit, lambda row: encode_cursor((row.created_at, row.id), binding), token_record)


@router.post("/tokens", operation_id="create_token", summary="Make a token", status_code=201)
def create_token(_: Admin, here: Here, wish: NewToken) -> MadeToken:
    """The secret is in this answer and nowhere else."""
    row, secret = tokens.create(
        here.database,
        name=wish.name,
        owner=wish.name if wish.owner is None else wish.owner,
        scopes=(wish.scope,),
        expires_at=None if wish.expires_in_days is None else time.time() + wish.expires_in_days * DAY_S,
        limits=TokenLimits(wish.max_queued_items, wish.max_upload_bytes, wish.requests_per_minute),
    )
    return MadeToken(**token_record(row), secret=secret)


@router.delete(
    "/tokens/{token}",
    operation_id="revoke_token",
    summary="Revoke a token",
    status_code=204,
    responses=documented("not-found", "conflict"),
)
def revoke_token(caller: Admin, here: Here, token: TokenId) -> None:
    """It ends at once (in other processes of the API within a second), for good.

    One that is revoked is not there; the one in use must be revoked by another.
    """
    if token == caller.token_id:
        raise Problem("conflict", "This very token sends the request; revoke it with another administrator's.")
    found = tokens.get(here.database, token)
    if found is None or found.is_revoked or not tokens.revoke(here.database, token):
        raise Problem("not-found", f"There is no token {token} that could be revoked.")
    here.part(KnownTokens).forget()
