"""Messages to webhooks on their way: leased by the process that sends them, settled, tried again, forgotten."""

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, or_, select, update

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


def due(
    database: Database, n: int, *, lease_s: float = 60.0, per_webhook: int = 2, per_owner: int | None = None
) -> list[Due]:
    """Lease at most `n` deliveries of active webhooks; each counts as an attempt from now on.

    At most `per_webhook` are leased at a time per webhook, and `per_owner` per owner: a receiver that is down does not
    hold up the others. Owners of whom the fewest are under way come first. Where a process ends before it settles one,
    that one is due again after `lease_s`.
    """
    with database.read() as connection:
        ready = connection.execute(_ready(per_webhook, per_owner).limit(n)).all()
    leased = []
    for row in ready:
        with database.write() as connection:
            # The webhook first: nobody leases another one of its deliveries between the count and the lease.
            hook = select(webhooks).where(webhooks.c.id == row.webhook_id).with_for_update(key_share=True)
            webhook = connection.execute(hook).first()
            if webhook is None or _is_full(connection, webhook, per_webhook, per_owner):
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


def _ready(per_webhook: int, per_owner: int | None) -> Select[Any]:
    """Deliveries that may be leased, of each webhook and owner no more than that many; the least served owner first."""
    place = func.row_number().over(partition_by=deliveries.c.webhook_id, order_by=deliveries.c.id).label("place")
    ranked = (
        select(deliveries.c.id, deliveries.c.webhook_id, webhooks.c.owner, place)
        .join(webhooks, webhooks.c.id == deliveries.c.webhook_id)
        .where(webhooks.c.active, *_is_ready())
        .subquery()
    )
    # Those under way count too: what cannot be leased now must not stand before what can.
    busy = _leased().subquery()
    of_webhook = select(func.count()).where(busy.c.webhook_id == ranked.c.webhook_id).scalar_subquery()
    of_owner = select(func.count()).where(busy.c.owner == ranked.c.owner).scalar_subquery()
    found = select(ranked.c.id, ranked.c.webhook_id).where(ranked.c.place + of_webhook <= per_webhook)
    if per_owner is not None:
        found = found.where(of_owner < per_owner)
    return found.order_by(of_owner, ranked.c.id)


def _leased() -> Select[Any]:
    """The webhook and owner of each delivery that is under way."""
    leased, hooks = deliveries.alias("leased"), webhooks.alias("hooks")
    return (
        select(leased.c.webhook_id, hooks.c.owner)
        .join(hooks, hooks.c.id == leased.c.webhook_id)
        .where(leased.c.state == "due", leased.c.leased_until > db_now())
    )


def _is_full(connection: Connection, webhook: Row[Any], per_webhook: int, per_owner: int | None) -> bool:
    """Whether a webhook or its owner has as many deliveries under way as it may; the owner's are not locked."""
    found = [webhook_id for webhook_id, owner in connection.execute(_leased()) if owner == webhook.owner]
    full = per_owner is not None and len(found) >= per_owner
    return full or found.count(webhook.id) >= per_webhook


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


def give_back(database: Database, delivery: DeliveryRow) -> bool:
    """End a lease without an attempt: it is due again at once, and not counted. False where the lease was lost."""
    mine = (deliveries.c.id == delivery.id) & (deliveries.c.attempts == delivery.attempts)
    with database.write() as connection:
        still = mine & (deliveries.c.state == "due") & deliveries.c.leased_until.is_not(None)
        back = {"attempts": deliveries.c.attempts - 1, "leased_until": None}
        return bool(connection.execute(update(deliveries).where(still).values(back)).rowcount)


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
