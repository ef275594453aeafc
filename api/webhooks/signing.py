"""Signatures of webhook calls as the Standard Webhooks specification 1.0 asks: HMAC-SHA256 over id, time and body.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping

PREFIX = "whsec_"
KEY_BYTES = 32  # the specification asks for 24 … 64
TOLERANCE_S = 300.0  # how far a receiver's clock may be off; older calls may be replays


class BadSignature(ValueError):
    """A call that was not signed with this secret, or is too old; the message says which."""


def new_secret() -> str:
    """A new key as its owner gets it: `whsec_` and base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """The key in a secret. Raises ValueError where that is none of 24 to 64 bytes in base64 after `whsec_`."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True) if secret.startswith(PREFIX) else b""
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValueError("Expected whsec_ and 24 to 64 bytes in base64. Leave the secret out to get a new one.")
    return key


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """What `webhook-signature` says of a call: `v1,` and base64; `timestamp` in seconds since 1970."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.new(key_of(secret), signed, hashlib.sha256).digest()).decode()


def headers(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a call."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(secret, message_id, timestamp, body),
    }


def verify(secret: str, got: Mapping[str, str], body: bytes, now: float) -> None:
    """What a receiver does with a call, its header names in lower case. Raises BadSignature.

    Every signature of the header is compared in constant time: while a key is changed there may be several.
    """
    message_id, said, signatures = (got.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (said.isascii() and said.isdigit()) or len(said) > 12 or abs(now - int(said)) > TOLERANCE_S:
        raise BadSignature(f"Expected a webhook-timestamp within {TOLERANCE_S:.0f} s of now; got {said[:40]!r}.")
    expected = signature(secret, message_id, int(said), body).encode()
    matches = [hmac.compare_digest(expected, one.encode("utf-8", "replace")) for one in signatures.split(" ")]
    if not any(matches):
        raise BadSignature("The webhook-signature was not made with this secret, for this id, time and body.")
