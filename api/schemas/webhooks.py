"""Webhooks and their deliveries as they go over HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from api.schemas.text import Input, Output, Plain
from store.events import KINDS


def _known(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"expected one of {', '.join(KINDS)}")
    return kind


Kind = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": list(KINDS)})]
Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2048,
        description="https, on the public internet; port 443 or above 1023.",
        examples=["https://example.org/pixmill"],
    ),
    Plain,
]
Kinds = Annotated[list[Kind], Field(max_length=len(KINDS), description="Which events to tell of; none named: all.")]
Secret = Annotated[
    str, Field(max_length=100, description="`whsec_` and 24 to 64 bytes in base64; left out: a new one."), Plain
]
HookId = Annotated[str, Field(max_length=32, pattern=r"^[A-Za-z0-9_-]+$")]


class NewWebhook(Input):
    """Whom to tell of what happens to the jobs of the token's owner."""

    url: Url
    events: Annotated[Kinds, Field(default_factory=list)]
    secret: Secret | None = None


class WebhookChange(Input):
    """What to change; what is left out stays."""

    url: Url | None = None
    events: Kinds | None = None
    active: bool | None = None
    new_secret: Annotated[bool, Field(description="Make another secret; the answer has it, this once.")] = False


class WebhookOut(Output):
    """A webhook. Its `secret` is only in the answer that made it."""

    id: str
    owner: str
    url: str
    events: list[str]
    active: bool
    created_at: str
    secret: str | None


class WebhookPage(Output):
    """Webhooks, oldest first."""

    items: list[WebhookOut]
    next: str | None


class DeliveryOut(Output):
    """One message to a webhook: `webhook_id` calls it `message_id`, the same at each attempt."""

    id: int
    webhook: str
    message_id: str
    kind: str
    state: Literal["due", "sent", "failed"]
    attempts: int
    status: int | None
    error: str | None
    created_at: str
    next_attempt_at: str | None
    delivered_at: str | None


class DeliveryPage(Output):
    """Deliveries, newest first."""

    items: list[DeliveryOut]
    next: str | None
