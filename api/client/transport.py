"""What both clients send and read in the same way."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, TypeVar

import httpx2

from api.client.address import Address
from api.client.calls import Call
from api.client.retrying import strange

T = TypeVar("T")

TIMEOUT = 30.0
# Streams and what takes minutes: event streams send a sign of life every few seconds.
SLOW = httpx2.Timeout(30.0, read=900.0, write=300.0)


def headers_for(address: Address) -> dict[str, str]:
    """What every request says."""
    said = {"User-Agent": f"pixmill/{version('pixmill')}", "Accept-Encoding": "identity"}
    return {**said, "Authorization": f"Bearer {address.token}"} if address.token else said


def request_of(http: httpx2.Client | httpx2.AsyncClient, call: Call[Any], body: Any) -> httpx2.Request:
    """A call as a request, with the content of its body where it has one."""
    return http.build_request(
        call.method,
        call.path,
        params=call.query or None,
        json=call.body,
        content=body,
        headers=dict(call.headers),
        timeout=SLOW if call.slow else httpx2.USE_CLIENT_DEFAULT,
    )


def answer_of(server: str, call: Call[T], response: httpx2.Response) -> T:
    """What a call asked for, out of an answer that is here whole. Raises BrokenAnswer for what is none of Pixmill's."""
    if response.status_code == httpx2.codes.NO_CONTENT:
        return call.read(None)
    try:
        return call.read(response.json())
    except (ValueError, KeyError, TypeError) as error:
        raise strange(server, error) from error
