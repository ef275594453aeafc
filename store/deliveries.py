"""Messages to webhooks on their way: leased by the process that sends them, settled, tried again, forgotten."""

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, func, or_, select, update

from store.clock import db_now
from store.database import Database
from store.tables import deliveries, webhooks


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One message to a webhook. `state`: due, sent or failed; `status`: HTTP status of the last attempt."""

    id: int
    webhook_id: str
    event_id: int | None  # None: a test call
    message_id: str
    kind: str
    body: str
    state: str
    attempts: int
    not_before: float
    leased_until: float | None
    status: int | None
    error: str | None
    created_at: float
    delivered_at: float | None


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that this process shall try now, and where to."""

    delivery: DeliveryRow
    url: str
    secret: str


def new_delivery(webhook_id: str, kind: str, body: str) -> dict[str, Any]:
    """The columns of a delivery that is due; its message keeps its id at every attempt."""
    return {
        "webhook_id": webhook_id,
        "message_id": f"msg_{uuid.uuid4().hex}",
        "kind": kind,
        "body": body,
        "state": "due",
    }


def due(database: Database, n: int, *, lease_s: float = 60.0, per_webhook: int = 2) -> list[Due]:
    """Lease at most `n` deliveries of active webhooks; each counts as an attempt from now on.

    At most `per_webhook` are leased at a time per webhook: a receiver that is down does not hold up the others. Where
    a process ends before it settles one, that one is due again after `lease_s`.
    """
    with database.read() as connection:
        ready = connection.execute(_ready(per_webhook).limit(n)).all()
    leased = []
    for row in ready:
        with database.write() as connection:
            # The webhook first: nobody leases another one of its deliveries between the count and the lease.
            hook = select(webhooks).where(webhooks.c.id == row.webhook_id).with_for_update(key_share=True)
            webhook = connection.execute(hook).first()
            if webhook is None or connection.scalar(_under_way(row.webhook_id)) >= per_webhook:
                continue
            taken = connection.execute(
                update(deliveries)
                .where(deliveries.c.id == row.id, *_is_ready())
                .values(attempts=deliveries.c.attempts + 1, leased_until=db_now() + lease_s)
                .returning(deliveries)
            ).first()
        if taken is not None:
            leased.append(Due(DeliveryRow(**taken._mapping), webhook.url, webhook.secret))
    return leased


def _is_ready() -> tuple[Any, ...]:
    free = or_(deliveries.c.leased_until.is_(None), deliveries.c.leased_until <= db_now())
    return deliveries.c.state == "due", deliveries.c.not_before <= db_now(), free


def _ready(per_webhook: int) -> Select[Any]:
    """Deliveries that may be leased, in the order in which they came; of each webhook no more than that many."""
    place = func.row_number().over(partition_by=deliveries.c.webhook_id, order_by=deliveries.c.id).label("place")
    ranked = (
        select(deliveries.c.id, deliveries.c.webhook_id, place)
        .join(webhooks, webhooks.c.id == deliveries.c.webhook_id)
        .where(webhooks.c.active, *_is_ready())
        .subquery()
    )
    # Those under way count too: what cannot be leased now must not stand before what can.
    leased = deliveries.alias("leased")
    is_leased = (leased.c.state == "due") & (leased.c.leased_until > db_now())
    busy = select(func.count()).where(leased.c.webhook_id == ranked.c.webhook_id, is_leased).scalar_subquery()
    return select(ranked.c.id, ranked.c.webhook_id).where(ranked.c.place + busy <= per_webhook).order_by(ranked.c.id)


def _under_way(webhook_id: str) -> Select[Any]:
    leased = (deliveries.c.state == "due") & (deliveries.c.leased_until > db_now())
    return select(func.count()).select_from(deliveries).where(deliveries.c.webhook_id == webhook_id, leased)


def settle(
    database: Database,
    delivery: DeliveryRow,
    ok: bool,
    status: int | None,
    error: str | None,
    retry_in_s: float | None = None,
) -> bool:
    """Write how an attempt ended: sent, again in `retry_in_s`, or (None) failed. False where the lease was lost."""
    state = "sent" if ok else "failed" if retry_in_s is None else "due"
    values: dict[str, Any] = {"state": state, "status": status, "error": error, "leased_until": None}
    if ok:
        values["delivered_at"] = db_now()
    elif retry_in_s is not None:
        values["not_before"] = db_now() + retry_in_s
    # The attempt's number, since a lease that is taken again has another one.
    mine = (deliveries.c.id == delivery.id) & (deliveries.c.attempts == delivery.attempts)
    with database.write() as connection:
        still = mine & (deliveries.c.state == "due") & deliveries.c.leased_until.is_not(None)
        return bool(connection.execute(update(deliveries).where(still).values(values)).rowcount)


def deliveries_of(
    database: Database, webhook_id: str, *, limit: int = 100, before: int | None = None
) -> list[DeliveryRow]:
    """The newest deliveries of a webhook first; `before` continues below an id."""
    query = select(deliveries).where(deliveries.c.webhook_id == webhook_id)
    if before is not None:
        query = query.where(deliveries.c.id < before)
    with database.read() as connection:
        rows = connection.execute(query.order_by(deliveries.c.id.desc()).limit(limit))
        return [DeliveryRow(**row._mapping) for row in rows]


def prune(database: Database, seconds: float) -> int:
    """Forget deliveries that were made longer ago and are sent or failed; returns how many."""
    old = (deliveries.c.state != "due") & (deliveries.c.created_at < db_now() - seconds)
    with database.write() as connection:
        return connection.execute(delete(deliveries).where(old)).rowcount
