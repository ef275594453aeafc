"""Joining a channel: what happens while a listener joins is neither lost nor told twice."""

import asyncio

import pytest

from api.following import channel as channels
from api.following.channel import Channel
from api.following.listener import Listener
from api.following.messages import Look, Told
from api.following.position import Position


def test_what_happens_while_the_channel_begins_is_told_once() -> None:
    happened = [1]
    gate = asyncio.Event()

    async def look_at(since: Position) -> Look:
        told = tuple(Told("state", {"n": n}, event=n) for n in happened if n > since.event)
        return Look(told, None, {"job": 1} if len(happened) == 3 else None)

    async def latest() -> Position:
        await gate.wait()
        return Position(happened[-1])

    async def follow() -> list[bytes]:
        channel = Channel(look_at, latest)

        async def hear() -> list[bytes]:
            return [chunk async for chunk in Listener(channel, Position()).chunks()]

        listening = asyncio.create_task(hear())
        for _ in range(20):  # all that it can do before the channel knows where it is
            await asyncio.sleep(0)
        happened.append(2)
        gate.set()
        for _ in range(20):
            await asyncio.sleep(0)
        happened.append(3)
        return await listening

    told = [chunk.split(b"\n")[1] for chunk in asyncio.run(follow())]
    assert told == [b'data: {"n": 1}', b'data: {"n": 2}', b'data: {"n": 3}', b'data: {"job": 1}']


def test_a_channel_survives_what_nobody_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "TROUBLE_S", 0.0)
    looks = []

    async def look_at(_: Position) -> Look:
        looks.append(1)
        if len(looks) == 1:
            raise RuntimeError("a bug")
        return Look((), None, {"job": 1})

    async def latest() -> Position:
        return Position(0)

    async def follow() -> dict[str, object] | None:
        channel = Channel(look_at, latest)
        while not channel.is_over:
            await channel.news(10)
        return channel.end

    assert asyncio.run(follow()) == {"job": 1}
