"""The thread that writes when tokens were last used."""

from __future__ import annotations

import threading

import pytest

from api import touches
from api.context import Context
from api.touches import Touches
from store import tokens
from store.database import Database
from tests.running import eventually
from worker.settings import Settings


def test_it_survives_what_nobody_expected(settings: Settings, store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(touches, "EVERY_S", 0.02)
    row, _ = tokens.create(store, name="n", owner="ann", scopes=("read",))
    broken = threading.Event()
    touch = tokens.touch

    def breaks_once(database: Database, used: dict[str, float]) -> None:
        if broken.is_set():
            touch(database, used)
            return
        broken.set()
        raise RuntimeError("a bug")

    monkeypatch.setattr(tokens, "touch", breaks_once)
    context = Context(settings, [])
    part = context.part(Touches)
    part.start()
    part.note(row.id)
    assert broken.wait(30)
    part.note(row.id)

    def is_written() -> bool:
        found = tokens.get(store, row.id)
        return found is not None and found.last_used_at is not None

    eventually(is_written)
    context.close()
