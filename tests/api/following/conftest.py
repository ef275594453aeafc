"""A server whose streams look for news quickly."""

from collections.abc import Iterator

import pytest

from api.following import channel
from store.database import Database
from tests.serving import Served, threaded
from worker.settings import Settings


@pytest.fixture
def served(settings: Settings, store: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(channel, "POLL_S", 0.02)
    with threaded(settings) as running:
        yield running
