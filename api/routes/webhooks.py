"""Webhooks: made, changed, tested and removed by their owner, with a log of what was sent."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from api.access import Caller, Reader, Submitter
from api.context import Context, Here
from api.paging import decode_cursor, encode_cursor, page_of, page_response
from api.problems import Problem, documented
from api.schemas.pages import DEFAULT_LIMIT, Cursor, Limit
from api.schemas.webhooks import (
    DeliveryOut,
    DeliveryPage,
    HookId,
    NewWebhook,
    WebhookChange,
    WebhookOut,
    WebhookPage,
)
from api.webhooks import signing
from api.webhooks.addresses import Refused
from api.webhooks.posting import Poster
from api.webhooks.sender import Sender
from store import hooks
from store.hooks import DeliveryRow, WebhookRow
from store.moments import rfc3339

router = APIRouter(tags=["webhooks"])
MOST_WEBHOOKS = 100  # of one owner

Webhook = Annotated[HookId, Path()]


def own_webhook(here: Context, caller: Caller, webhook: str) -> WebhookRow:
    """A webhook that the caller may see. Raises Problem 404, the same for another owner's as for none."""
    row = hooks.find(here.database, webhook)
    if row is None or not caller.sees(row.owner):
        raise _unknown(webhook)
    return row


def _unknown(webhook: str) -> Problem:
    return Problem("not-found", f"There is no webhook {webhook}. `GET /api/v1/webhooks` shows what there is.")


def _check_url(here: Context, url: str) -> None:
    try:
        Poster(allow_private=here.settings.allow_private_webhooks).check(url)
    except Refused as error:
        raise Problem("webhook-refused", str(error)) from error


@router.get(
    "/webhooks",
    operation_id="list_webhooks",
    summary="Webhooks of the token's owner, the oldest first",
    response_model=WebhookPage,
    responses=documented("bad-cursor"),
)
def list_webhooks(
    request: Request,
    here: Here,
    caller: Reader,
    limit: Annotated[Limit, Query()] = DEFAULT_LIMIT,
    cursor: Annotated[Cursor | None, Query()] = None,
) -> Response:
    """An owner has a hundred at the most; an administrator sees everybody's."""
    binding = ["webhooks", caller.owners]
    key = decode_cursor(cursor, binding, float, str)
    after = (key[0], key[1]) if key else None
    rows = hooks.list_webhooks(here.database, caller.owners, after=after, limit=limit + 1)
    return page_of(request, rows, limit, lambda row: encode_cursor((row.created_at, row.id), binding), _shown)


@router.post(
    "/webhooks",
    operation_id="create_webhook",
    summary="Be told of what happens to jobs",
    status_code=201,
    response_model=WebhookOut,
    responses=documented("conflict", "webhook-refused"),
)
def create_webhook(here: Here, caller: Submitter, body: NewWebhook, response: Response) -> dict[str, Any]:
    """The answer has the secret, this once. It is told of what happens from now on."""
    _check_url(here, body.url)
    if len(hooks.list_webhooks(here.database, caller.owner)) >= MOST_WEBHOOKS:
        raise Problem("conflict", f"There are {MOST_WEBHOOKS} webhooks already. Remove one first.")
    secret = signing.new_secret() if body.secret is None else body.secret
    try:
        signing.key_of(secret)
    except ValueError as error:
        raise Problem("webhook-refused", str(error)) from error
    row = hooks.create(here.database, owner=caller.owner, url=body.url, secret=secret, events=body.events)
    response.headers["Location"] = f"/api/v1/webhooks/{row.id}"
    return _shown(row, secret)


@router.get(
    "/webhooks/{webhook}",
    operation_id="show_webhook",
    summary="One webhook",
    response_model=WebhookOut,
    responses=documented("not-found"),
)
def show_webhook(here: Here, caller: Reader, webhook: Webhook) -> dict[str, Any]:
    """Its address, and the events that it is told of."""
    return _shown(own_webhook(here, caller, webhook))


@router.patch(
    "/webhooks/{webhook}",
    operation_id="change_webhook",
    summary="Change a webhook, switch it off or on",
    response_model=WebhookOut,
    responses=documented("not-found", "webhook-refused"),
)
def change_webhook(here: Here, caller: Submitter, webhook: Webhook, body: WebhookChange) -> dict[str, Any]:
    """One that is switched on again is told of what happens from then on, and of what it was still owed."""
    own_webhook(here, caller, webhook)
    if body.url is not None:
        _check_url(here, body.url)
    secret = signing.new_secret() if body.new_secret else None
    row = hooks.change(here.database, webhook, url=body.url, secret=secret, events=body.events, active=body.active)
    if row is None:  # removed since
        raise _unknown(webhook)
    return _shown(row, secret)


@router.delete(
    "/webhooks/{webhook}",
    operation_id="remove_webhook",
    summary="Remove a webhook with its log",
    status_code=204,
    responses=documented("not-found"),
)
def remove_webhook(here: Here, caller: Submitter, webhook: Webhook) -> None:
    """What it was still owed is not sent any more."""
    own_webhook(here, caller, webhook)
    if not hooks.remove(here.database, webhook):
        raise _unknown(webhook)


@router.post(
    "/webhooks/{webhook}/test",
    operation_id="test_webhook",
    summary="Send a test call",
    status_code=202,
    response_model=DeliveryOut,
    responses=documented("not-found", "illegal-move"),
)
def test_webhook(here: Here, caller: Submitter, webhook: Webhook, response: Response) -> dict[str, Any]:
    """Queues a call of type `webhook.test`, signed and tried again as any other; the log says how it went."""
    row = own_webhook(here, caller, webhook)
    if not row.active:
        raise Problem("illegal-move", 'The webhook is switched off. PATCH it with {"active": true} first.')
    content = {"type": "webhook.test", "timestamp": rfc3339(time.time()), "data": {"webhook": row.id}}
    made = hooks.enqueue(here.database, row.id, "webhook.test", json.dumps(content))
    if made is None:  # removed since
        raise _unknown(webhook)
    here.part(Sender).wake()
    response.headers["Location"] = f"/api/v1/webhooks/{row.id}/deliveries"
    return _delivery(made)


@router.get(
    "/webhooks/{webhook}/deliveries",
    operation_id="list_deliveries",
    summary="What was sent to a webhook, and how that went",
    response_model=DeliveryPage,
    responses=documented("not-found", "bad-cursor"),
)
def list_deliveries(
    request: Request,
    here: Here,
    caller: Reader,
    webhook: Webhook,
    limit: Annotated[Limit, Query()] = DEFAULT_LIMIT,
    cursor: Annotated[Cursor | None, Query()] = None,
) -> Response:
    """Newest first. What was settled is kept for two weeks."""
    row = own_webhook(here, caller, webhook)
    binding = ["deliveries", row.id]
    before = decode_cursor(cursor, binding, int)
    found = hooks.deliveries_of(here.database, row.id, limit=limit + 1, before=before[0] if before else None)
    shown = found[:limit]
    more = encode_cursor([shown[-1].id], binding) if len(found) > limit else None
    return page_response(request, [_delivery(one) for one in shown], more)


def _shown(row: WebhookRow, secret: str | None = None) -> dict[str, Any]:
    return {
        "id": row.id,
        "owner": row.owner,
        "url": row.url,
        "events": list(row.events),
        "active": row.active,
        "created_at": rfc3339(row.created_at),
        "secret": secret,
    }


def _delivery(row: DeliveryRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "webhook": row.webhook_id,
        "message_id": row.message_id,
        "kind": row.kind,
        "state": row.state,
        "attempts": row.attempts,
        "status": row.status,
        "error": row.error,
        "created_at": rfc3339(row.created_at),
        "next_attempt_at": rfc3339(row.not_before) if row.state == "due" and row.not_before else None,
        "delivered_at": None if row.delivered_at is None else rfc3339(row.delivered_at),
    }
