"""Tokens of the HTTP API: made, found by their secret, listed, revoked. Only a hash of the secret is kept."""

import hashlib
import hmac
import re
import secrets
import string
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, bindparam, insert, or_, select, tuple_, update

from store.clock import db_now
from store.database import Database
from store.tables import tokens

SCOPES = ("read", "submit", "admin")
_SECRET = re.compile(r"pxm_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", re.ASCII)
_FIND = select(tokens).where(tokens.c.hash == bindparam("digest"))  # made once: every request asks it
_PREFIX_LETTERS = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """What a token may use; None is the server's default."""

    max_queued_items: int | None = None
    max_upload_bytes: int | None = None
    requests_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One token, without its secret. Times are seconds since 1970."""

    id: str
    name: str
    prefix: str
    owner: str
    scopes: tuple[str, ...]
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    revoked_at: float | None
    limits: TokenLimits

    @property
    def is_expired(self) -> bool:
        """Its time is over, by this host's clock: a row may be kept for a while."""
        return self.expires_at is not None and self.expires_at <= time.time()

    @property
    def is_revoked(self) -> bool:
        """A person took it back."""
        return self.revoked_at is not None


def create(
    database: Database,
    *,
    name: str,
    owner: str,
    scopes: Iterable[str],
    expires_at: float | None = None,
    limits: TokenLimits | None = None,
) -> tuple[TokenRow, str]:
    """Make a token; the secret is in the answer and nowhere else. Raises ValueError for a scope that is none."""
    given = set(scopes)
    if not given or given - set(SCOPES):
        raise ValueError(f"expected scopes out of {', '.join(SCOPES)}, got {', '.join(sorted(given)) or 'none'}")
    prefix = "".join(secrets.choice(_PREFIX_LETTERS) for _ in range(8))
    secret = f"pxm_{prefix}_{secrets.token_urlsafe(32)}"
    bounds = limits or TokenLimits()
    values = {
        "id": uuid.uuid4().hex,
        "name": name,
        "prefix": prefix,
        "hash": _hash(secret),
        "owner": owner,
        "scopes": " ".join(scope for scope in SCOPES if scope in given),
        "created_at": db_now(),
        "expires_at": expires_at,
        "max_queued_items": bounds.max_queued_items,
        "max_upload_bytes": bounds.max_upload_bytes,
        "requests_per_minute": bounds.requests_per_minute,
    }
    with database.write(durable=True) as connection:
        made = connection.execute(insert(tokens).values(values).returning(tokens)).one()
    return _row(made), secret


def _hash(secret: str) -> bytes:
    # A secret of 256 random bits needs no slow hash: there is nothing to guess.
    return hashlib.sha256(secret.encode()).digest()


def _row(row: Row[Any]) -> TokenRow:
    return TokenRow(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        owner=row.owner,
        scopes=tuple(row.scopes.split()),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
        limits=TokenLimits(row.max_queued_items, row.max_upload_bytes, row.requests_per_minute),
    )


def find(database: Database, secret: str) -> TokenRow | None:
    """The token with this secret, also where it is expired or revoked: the row says so. None for anything else."""
    if not _SECRET.fullmatch(secret):
        return None
    digest = _hash(secret)
    with database.read() as connection:
        row = connection.execute(_FIND, {"digest": digest}).first()
    return _row(row) if row is not None and hmac.compare_digest(bytes(row.hash), digest) else None


def get(database: Database, token_id: str) -> TokenRow | None:
    """One token by its id."""
    with database.read() as connection:
        row = connection.execute(select(tokens).where(tokens.c.id == token_id)).first()
    return _row(row) if row is not None else None


def list_tokens(
    database: Database,
    owner: str | None = None,
    *,
    after: tuple[float, str] | None = None,
    limit: int | None = None,
) -> list[TokenRow]:
    """Tokens, oldest first, with those that are expired or revoked; of one `owner`, or of all.

    `limit` of those made `after` a time and id.
    """
    query = select(tokens).order_by(tokens.c.created_at, tokens.c.id).limit(limit)
    if owner is not None:
        query = query.where(tokens.c.owner == owner)
    if after is not None:
        query = query.where(tuple_(tokens.c.created_at, tokens.c.id) > tuple_(*after))
    with database.read() as connection:
        return [_row(row) for row in connection.execute(query)]


def revoke(database: Database, token_id: str) -> bool:
    """Take a token back; its first revocation counts. False where there is no such token."""
    with database.write(durable=True) as connection:
        mine = tokens.c.id == token_id
        connection.execute(update(tokens).where(mine, tokens.c.revoked_at.is_(None)).values(revoked_at=db_now()))
        return connection.scalar(select(tokens.c.id).where(mine)) is not None


def touch(database: Database, used: Mapping[str, float]) -> None:
    """Note when tokens were last used: seconds since 1970 by id. An older moment changes nothing."""
    if not used:
        return
    with database.write() as connection:
        for token_id in sorted(used):  # one order for all, so that no two transactions wait in a circle
            moment = used[token_id]
            earlier = or_(tokens.c.last_used_at.is_(None), tokens.c.last_used_at < moment)
            connection.execute(update(tokens).where(tokens.c.id == token_id, earlier).values(last_used_at=moment))
