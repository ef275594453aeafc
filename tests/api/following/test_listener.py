"""Joining a channel: what happens while a listener joins is neither lost nor told twice."""

import asyncio
import json
from itertools import count
from typing import Any

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

    told = [line for chunk in asyncio.run(follow()) for line in chunk.split(b"\n") if line.startswith(b"data: ")]
    assert told == [b'data: {"n": 1}', b'data: {"n": 2}', b'data: {"n": 3}', b'data: {"job": 1}']


def test_a_long_history_is_one_write() -> None:
    async def look_at(since: Position) -> Look:
        told = tuple(Told("state", {"n": n}, event=n) for n in range(1, 501) if n > since.event)
        return Look(told, None, {"job": 1})

    async def latest() -> Position:
        return Position(500)

    async def follow() -> list[bytes]:
        return [chunk async for chunk in Listener(Channel(look_at, latest), Position()).chunks()]

    (chunk,) = asyncio.run(follow())
    assert chunk.count(b"event: state\n") == 500


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
        return channel.last.end

    assert asyncio.run(follow()) == {"job": 1}


def looks_at(*states: str) -> tuple[Any, list[str]]:
    """A `look_at` that sees one state after the other, each at its own time; and the states that were seen."""
    clock, seen = count(1), list[str]()

    async def look_at(_: Position) -> Look:
        begun = float(next(clock))
        state = states[min(len(seen), len(states) - 1)]
        seen.append(state)
        await asyncio.sleep(0)
        end = {"job": 1, "state": state} if state == "done" else None
        return Look((), {"state": state}, end, begun=begun, ended=float(next(clock)))

    return look_at, seen


def test_progress_never_goes_back_to_what_was_seen_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The poller saw the job accepted; the listener, who came after, reads that it runs. It runs."""
    monkeypatch.setattr(channels, "POLL_S", 0.001)
    look_at, seen = looks_at("accepted", "running", "running", "done")

    async def latest() -> Position:
        return Position(0)

    async def follow() -> list[bytes]:
        channel = Channel(look_at, latest)
        while channel.last.progress is None:
            await asyncio.sleep(0)
        return [chunk async for chunk in Listener(channel, Position()).chunks()]

    chunks = [chunk.decode().split("\n") for chunk in asyncio.run(follow())]
    told = [json.loads(lines[1].removeprefix("data: "))["state"] for lines in chunks if lines[0] == "event: progress"]
    assert seen[:2] == ["accepted", "running"]
    assert told == ["running", "done"]
