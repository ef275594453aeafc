"""Webhooks to send to, jobs to tell of, and time that passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, update

from api.context import Context
from api.webhooks import sender as sending
from api.webhooks import signing
from api.webhooks.sender import Sender
from store import hooks, jobs
from store.clock import db_now
from store.database import Database
from store.hooks import DeliveryRow, WebhookRow
from store.rows import NewItem, NewJob
from store.tables import deliveries
from worker.settings import Settings

REPOSITORY = Path(__file__).parents[3]


@contextmanager
def started(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sender]:
    """A sender that works by itself, as in the API's process."""
    monkeypatch.setattr(sending, "TICK_S", 0.02)
    context = Context(settings, [])
    running = context.part(Sender)
    running.start()
    try:
        yield running
    finally:
        context.close()


def hook(database: Database, url: str, *kinds: str, owner: str = "") -> WebhookRow:
    return hooks.create(database, owner=owner, url=url, secret=signing.new_secret(), events=kinds)


def new_job(database: Database, owner: str = "") -> int:
    return jobs.accept(database, NewJob(None, owner=owner), [NewItem(b"a.jpg")])


def attempt(sender: Sender, database: Database) -> int:
    """Send what is due, here and now; returns how many calls that were."""
    hooks.spread(database)
    due = hooks.due(database, 100, per_webhook=100)
    for one in due:
        sender.deliver(one)
    return len(due)


def travel(database: Database, seconds: float) -> None:
    """Let time pass for deliveries: the database's clock is the one that counts."""
    with database.write() as connection:
        moved = {name: deliveries.c[name] - seconds for name in ("not_before", "leased_until")}
        connection.execute(update(deliveries).values(moved))


def waits(database: Database) -> float:
    """Seconds until the only delivery is due."""
    with database.read() as connection:
        return float(connection.scalar(select(deliveries.c.not_before - db_now())) or 0)


def only(database: Database, webhook: WebhookRow) -> DeliveryRow:
    (row,) = hooks.deliveries_of(database, webhook.id)
    return row
