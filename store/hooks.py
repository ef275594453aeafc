"""Webhooks: who is told of which events of their jobs; and the messages to them, one per event.

How the messages are sent is in store.deliveries.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, tuple_, update

from store.clock import db_now
from store.database import Database
from store.deliveries import DeliveryRow, Due, deliveries_of, due, give_back, new_delivery, prune, settle
from store.events import EventRow, newest_event, read_after
from store.moments import rfc3339
from store.tables import deliveries, webhooks

__all__ = [
    "DeliveryRow",
    "Due",
    "WebhookRow",
    "change",
    "create",
    "deliveries_of",
    "due",
    "enqueue",
    "find",
    "give_back",
    "list_webhooks",
    "prune",
    "remove",
    "settle",
    "spread",
]

PORTION = 500  # events per webhook and transaction


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """One webhook: the events (kinds of store.events; none named: all) of its owner's jobs go to `url`."""

    id: str
    owner: str
    url: str
    secret: str
    events: tuple[str, ...]
    active: bool
    created_at: float
    last_event_id: int


def create(database: Database, *, owner: str, url: str, secret: str, events: Sequence[str] = ()) -> WebhookRow:
    """Make a webhook; it is told of what happens from now on."""
    values: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "owner": owner,
        "url": url,
        "secret": secret,
        "events": json.dumps(list(events)),
        "created_at": db_now(),
    }
    with database.write(durable=True) as connection:
        values["last_event_id"] = newest_event(connection)
        return _row(connection.execute(insert(webhooks).values(values).returning(webhooks)).one())


def _row(row: Row[Any]) -> WebhookRow:
    return WebhookRow(**{**row._mapping, "events": tuple(json.loads(row.events))})


def find(database: Database, webhook_id: str) -> WebhookRow | None:
    """One webhook by its id."""
    with database.read() as connection:
        row = connection.execute(select(webhooks).where(webhooks.c.id == webhook_id)).first()
    return _row(row) if row is not None else None


def list_webhooks(
    database: Database,
    owner: str | None = None,
    *,
    after: tuple[float, str] | None = None,
    limit: int | None = None,
) -> list[WebhookRow]:
    """Webhooks, oldest first, of one `owner` or of all; `limit` of those made `after` a time and id."""
    query = select(webhooks).order_by(webhooks.c.created_at, webhooks.c.id).limit(limit)
    if owner is not None:
        query = query.where(webhooks.c.owner == owner)
    if after is not None:
        query = query.where(tuple_(webhooks.c.created_at, webhooks.c.id) > tuple_(*after))
    with database.read() as connection:
        return [_row(row) for row in connection.execute(query)]


def change(
    database: Database,
    webhook_id: str,
    *,
    url: str | None = None,
    secret: str | None = None,
    events: Sequence[str] | None = None,
    active: bool | None = None,
) -> WebhookRow | None:
    """Change what is given; None where there is no such webhook. One that is activated again is told of what is new."""
    given = {"url": url, "secret": secret, "active": active}
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if events is not None:
        values["events"] = json.dumps(list(events))
    with database.write(durable=True) as connection:
        before = _lock(connection, webhook_id)
        if before is None:
            return None
        if active and not before.active:
            values["last_event_id"] = newest_event(connection)
        if not values:
            return before
        changed = update(webhooks).where(webhooks.c.id == webhook_id).values(values).returning(webhooks)
        return _row(connection.execute(changed).one())


def _lock(connection: Connection, webhook_id: str) -> WebhookRow | None:
    row = connection.execute(
        select(webhooks).where(webhooks.c.id == webhook_id).with_for_update(key_share=True)
    ).first()
    return _row(row) if row is not None else None


def remove(database: Database, webhook_id: str) -> bool:
    """Forget a webhook with its deliveries. False where there is none."""
    with database.write() as connection:
        # For good, against the references of new deliveries: nobody adds one from here on.
        held = select(webhooks.c.id).where(webhooks.c.id == webhook_id).with_for_update()
        if connection.scalar(held) is None:
            return False
        connection.execute(delete(deliveries).where(deliveries.c.webhook_id == webhook_id))
        connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))
        return True


def spread(database: Database) -> int:
    """Turn new events into deliveries, exactly one per webhook and event; returns how many.

    Any number of processes may do so at once: a webhook's row, with the last event that it was told of, is locked.
    """
    with database.read() as connection:
        newest = newest_event(connection)
        behind = select(webhooks.c.id).where(webhooks.c.active, webhooks.c.last_event_id < newest)
        ids = connection.execute(behind.order_by(webhooks.c.id)).scalars().all()
    return sum(_spread_to(database, webhook_id) for webhook_id in ids)


def _spread_to(database: Database, webhook_id: str) -> int:
    made = 0
    while True:
        with database.write() as connection:
            webhook = _lock(connection, webhook_id)
            if webhook is None or not webhook.active:
                return made
            found = read_after(connection, None, webhook.last_event_id, PORTION)
            if not found:
                return made
            messages = [_message(webhook, event) for event in found if _wants(webhook, event)]
            if messages:
                connection.execute(insert(deliveries), messages)
            told = update(webhooks).where(webhooks.c.id == webhook_id)
            connection.execute(told.values(last_event_id=found[-1].id))
            made += len(messages)
        if len(found) < PORTION:
            return made


def _wants(webhook: WebhookRow, event: EventRow) -> bool:
    ours = event.job_id is not None and event.owner == webhook.owner
    return ours and (not webhook.events or event.kind in webhook.events)


def _message(webhook: WebhookRow, event: EventRow) -> dict[str, Any]:
    kind = f"job.{event.kind}"
    content = {"type": kind, "timestamp": rfc3339(event.at), "data": {"job": event.job_id, **event.data}}
    body = json.dumps(content, ensure_ascii=False)
    return new_delivery(webhook.id, kind, body) | {"event_id": event.id, "created_at": event.at}


def enqueue(database: Database, webhook_id: str, kind: str, body: str) -> DeliveryRow | None:
    """A delivery that no event caused: a test call. None where there is no such webhook."""
    with database.write() as connection:
        if _lock(connection, webhook_id) is None:
            return None
        values = new_delivery(webhook_id, kind, body) | {"created_at": db_now()}
        row = connection.execute(insert(deliveries).values(values).returning(deliveries)).one()
    return DeliveryRow(**row._mapping)
