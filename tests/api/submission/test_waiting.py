"""Waiting for a client: a share of the places for each token, and an end when the client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from api.context import Context
from api.submission import waiting
from api.submission.waiting import Waiters
from store.database import Database
from worker.settings import Settings


@pytest.fixture
def waiters(settings: Settings, database: Database) -> Iterator[Waiters]:
    context = Context(settings, [])
    yield Waiters(context)
    context.close()


def request(token: str, gone: asyncio.Event | None = None) -> Request:
    async def receive() -> Message:
        if gone is None or not gone.is_set():
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "state": {"token_id": token}}, receive)


def test_one_token_leaves_places_to_others(waiters: Waiters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PER_TOKEN", 1)
    monkeypatch.setattr(waiting, "AT_ONCE", 3)
    over = False

    async def wait() -> None:
        nonlocal over

        def look() -> bool | None:
            return over or None

        waits = [asyncio.create_task(waiters.until(look, 60, request(name))) for name in ("ann", "bob")]
        await asyncio.sleep(0)
        assert await waiters.until(look, 60, request("ann")) is None  # at once: its share is taken
        waits.append(asyncio.create_task(waiters.until(look, 60, request("eve"))))
        await asyncio.sleep(0)
        assert await waiters.until(look, 60, request("dan")) is None  # at once: all places are
        over = True
        assert await asyncio.gather(*waits) == [True] * 3
        assert await waiters.until(look, 60, request("ann")) is True

    asyncio.run(wait())


def test_a_client_that_goes_ends_its_wait_and_frees_its_place(
    waiters: Waiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PER_TOKEN", 1)

    async def wait() -> None:
        gone = asyncio.Event()
        looks = 0

        def look() -> None:
            nonlocal looks
            looks += 1

        task = asyncio.create_task(waiters.until(look, 10**6, request("ann", gone)))
        while looks < 3:
            await asyncio.sleep(0.01)
        assert not task.done()
        gone.set()
        with pytest.raises(ClientDisconnect):
            await task
        assert await waiters.until(lambda: 7, 60, request("ann")) == 7

    asyncio.run(wait())
