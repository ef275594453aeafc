"""What both clients send and read in the same way."""

from __future__ import annotations

from importlib.metadata import version

import httpx2

from api.client.address import Address

TIMEOUT = 30.0
# Streams and what takes minutes: event streams send a sign of life every few seconds.
SLOW = httpx2.Timeout(30.0, read=900.0, write=300.0)


def headers_for(address: Address) -> dict[str, str]:
    """What every request says."""
    said = {"User-Agent": f"pixmill/{version('pixmill')}", "Accept-Encoding": "identity"}
    return {**said, "Authorization": f"Bearer {address.token}"} if address.token else said
