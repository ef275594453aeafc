"""Streams that hold something: given back at the end, and where the client takes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from api.images import stream
from api.images.stream import HeldResponse

SCOPES = [{"type": "http", "asgi": {"spec_version": version}} for version in ("2.3", "2.4")]


def pieces() -> Iterator[bytes]:
    yield b"one"
    yield b"two"


async def stays() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


@pytest.mark.parametrize("scope", SCOPES)
def test_a_client_that_takes_nothing_is_given_up_and_what_it_held_is_free(
    scope: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SEND_S", 0.02)
    ended: list[str] = []
    sent: list[bytes] = []

    async def send(message: Message) -> None:
        if message.get("body") == b"two":
            await asyncio.Event().wait()  # its buffer is full
        sent.append(message.get("body", b""))

    answer = HeldResponse(pieces(), lambda: ended.append("end"), "text/plain", {})

    async def answered() -> None:
        await asyncio.wait_for(answer(scope, stays, send), 30)

    with pytest.raises(ClientDisconnect):
        asyncio.run(answered())
    assert (ended, sent) == (["end"], [b"", b"one"])


@pytest.mark.parametrize("scope", SCOPES)
def test_a_client_that_takes_everything_gets_it(scope: dict[str, object]) -> None:
    ended: list[str] = []
    sent: list[bytes] = []

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    async def answered() -> None:
        await HeldResponse(pieces(), lambda: ended.append("end"), "text/plain", {})(scope, stays, send)

    asyncio.run(answered())
    assert (ended, b"".join(sent)) == (["end"], b"onetwo")
