"""Tokens: found by their secret only, and told apart when they are expired or revoked."""

import re
import time

import pytest
from sqlalchemy import select

from store import tokens
from store.database import Database
from store.tables import tokens as table


def test_a_token_is_found_by_its_secret_which_is_kept_nowhere(database: Database) -> None:
    limits = tokens.TokenLimits(max_queued_items=10, requests_per_minute=60)
    row, secret = tokens.create(database, name="ci", owner="ann", scopes=("submit", "read"), limits=limits)
    assert re.fullmatch(r"pxm_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", secret)
    assert tokens.find(database, secret) == row
    assert (row.name, row.owner, row.scopes, row.limits) == ("ci", "ann", ("read", "submit"), limits)
    assert row.prefix == secret[4:12]
    assert not row.is_expired
    assert not row.is_revoked
    with database.read() as connection:
        stored = connection.execute(select(table)).one()
    assert not any(secret[13:] in str(value) for value in stored)


@pytest.mark.parametrize("change", [lambda s: s[:-1] + ("A" if s[-1] != "A" else "B"), lambda s: s[4:], str.upper])
def test_anything_else_finds_nothing(database: Database, change: object) -> None:
    _, secret = tokens.create(database, name="ci", owner="ann", scopes=("read",))
    assert callable(change)
    assert tokens.find(database, change(secret)) is None
    for text in ("", "pxm_", "x\x00", "\ud800", "é" * 56, secret + "\n"):
        assert tokens.find(database, text) is None


def test_expired_and_revoked_tokens_are_found_and_say_so(database: Database) -> None:
    _, old = tokens.create(database, name="old", owner="", scopes=("admin",), expires_at=time.time() - 1)
    row, other = tokens.create(database, name="gone", owner="", scopes=("admin",), expires_at=time.time() + 3600)
    assert tokens.revoke(database, row.id)
    revoked = tokens.get(database, row.id)
    assert tokens.revoke(database, row.id)
    assert tokens.get(database, row.id) == revoked
    assert not tokens.revoke(database, "nobody")
    expired, gone = tokens.find(database, old), tokens.find(database, other)
    assert expired
    assert (expired.is_expired, expired.is_revoked) == (True, False)
    assert gone
    assert (gone.is_expired, gone.is_revoked) == (False, True)


def test_tokens_are_listed_by_owner(database: Database) -> None:
    made = [tokens.create(database, name=name, owner=name[0], scopes=("read",))[0] for name in ("a1", "a2", "b1")]
    # Made within one tick of the clock, they have no order of their own; it only has to stay the same.
    assert tokens.list_tokens(database) == sorted(made, key=lambda row: (row.created_at, row.id))
    assert {row.name for row in tokens.list_tokens(database, "a")} == {"a1", "a2"}
    assert tokens.get(database, made[2].id) == made[2]
    assert tokens.get(database, "nobody") is None


def test_the_last_use_only_moves_on(database: Database) -> None:
    row, secret = tokens.create(database, name="ci", owner="", scopes=("read",))
    tokens.touch(database, {})
    tokens.touch(database, {row.id: 100.0, "nobody": 5.0})
    tokens.touch(database, {row.id: 50.0})
    used = tokens.find(database, secret)
    assert used
    assert used.last_used_at == 100.0


@pytest.mark.parametrize("scopes", [(), ("read", "root")])
def test_a_scope_that_is_none_is_refused(database: Database, scopes: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected scopes"):
        tokens.create(database, name="ci", owner="", scopes=scopes)
