"""Tokens that were looked up a moment ago are not looked up again; one that was revoked is, soon."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from api.context import Context
from api.known import KNOWN_S, MOST, KnownTokens
from store import tokens
from store.database import Database
from worker.settings import Settings


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(settings: Settings, store: Database, clock: Clock) -> KnownTokens:
    return KnownTokens(Context(settings, ()), clock)


def test_a_token_is_known_for_a_second(known: KnownTokens, store: Database, clock: Clock) -> None:
    row, secret = tokens.create(store, name="n", owner="ann", scopes=("read",))
    assert known.recent(secret) is None
    assert known.look_up(secret) == row
    assert known.recent(secret) == row
    assert known.recent(secret + "a") is None
    clock.now += KNOWN_S
    assert known.recent(secret) is None


def test_the_answer_is_as_old_as_the_question(known: KnownTokens, store: Database, clock: Clock) -> None:
    _, secret = tokens.create(store, name="n", owner="ann", scopes=("read",))

    def slow(*_: object) -> None:
        clock.now += KNOWN_S

    event.listen(known._database.engine, "before_cursor_execute", slow)
    assert known.look_up(secret)
    assert known.recent(secret) is None


def test_a_revocation_here_counts_at_once(known: KnownTokens, store: Database) -> None:
    row, secret = tokens.create(store, name="n", owner="ann", scopes=("read",))
    known.look_up(secret)
    tokens.revoke(store, row.id)
    known.forget()
    assert known.recent(secret) is None
    found = known.look_up(secret)
    assert found
    assert found.is_revoked


def test_strangers_are_not_remembered(known: KnownTokens) -> None:
    for text in ("nobody", "pxm_aaaaaaaa_" + "a" * 43, "\udcff"):
        assert known.look_up(text) is None
        assert known.recent(text) is None
    assert not known._found


def test_only_so_many_are_remembered(known: KnownTokens, store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST > 1
    monkeypatch.setattr("api.known.MOST", 2)
    made = [tokens.create(store, name="n", owner="ann", scopes=("read",))[1] for _ in range(3)]
    for secret in made:
        known.look_up(secret)
    assert len(known._found) == 1
    assert known.recent(made[2])
