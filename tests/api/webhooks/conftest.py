"""A receiver, and a sender that works when a test says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.context import Context
from api.webhooks.sender import Sender
from store.database import Database
from tests.api.webhooks.receiver import Receiver, receiving
from worker.settings import Settings

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(home=tmp_path / "home", database_url=database_url, allow_private_webhooks=True)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def sender(settings: Settings, database: Database) -> Iterator[Sender]:
    """A sender that is not started: the tests say when it looks."""
    context = Context(settings, [])
    yield Sender(context)
    context.close()
