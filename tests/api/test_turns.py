"""Reads take turns, in the order in which they came; slow ones stop nobody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from api import turns
from api.app import make_app
from api.context import Context
from api.serve import listen
from api.turns import PLACES, SERVER_PLACES, InTurn, Turns
from worker.settings import Settings


async def _inside(turn: Turns, order: list[int], number: int, until: Callable[[], Awaitable[object]]) -> None:
    async with turn.turn():
        order.append(number)
        await until()


def test_no_more_than_the_places_are_inside_and_the_first_goes_first() -> None:
    async def run() -> None:
        turn, order, done = Turns(), list[int](), asyncio.Event()
        asked = [asyncio.create_task(_inside(turn, order, number, done.wait)) for number in range(PLACES + 3)]
        await asyncio.sleep(turns.PATIENCE_S / 5)
        assert order == list(range(PLACES))
        done.set()
        await asyncio.gather(*asked)
        assert order == list(range(PLACES + 3))

    asyncio.run(run())


@pytest.mark.parametrize(("url", "places"), [(None, PLACES), ("postgresql://nobody@127.0.0.1:9/none", SERVER_PLACES)])
def test_a_server_that_reads_for_itself_has_more_places(tmp_path: Path, url: str | None, places: int) -> None:
    async def run() -> int:
        return Turns(Context(Settings(home=tmp_path, database_url=url), ()))._places._value

    assert asyncio.run(run()) == places
    assert PLACES < SERVER_PLACES


def test_a_read_that_waited_long_enough_goes_on_and_frees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE_S", 0.01)

    async def run() -> None:
        turn, order, done = Turns(), list[int](), asyncio.Event()
        stuck = [asyncio.create_task(_inside(turn, order, number, done.wait)) for number in range(PLACES)]
        await asyncio.sleep(0)
        await _inside(turn, order, 9, lambda: asyncio.sleep(0))
        assert order[-1] == 9
        assert turn._places.locked()
        done.set()
        await asyncio.gather(*stuck)
        assert turn._places._value == PLACES

    asyncio.run(run())


def test_an_error_inside_frees_the_place() -> None:
    async def run() -> None:
        turn = Turns()
        for _ in range(PLACES + 1):
            with pytest.raises(ZeroDivisionError):
                async with turn.turn():
                    raise ZeroDivisionError
        assert turn._places._value == PLACES

    asyncio.run(run())


def test_listings_and_facets_take_turns_and_streams_do_not(settings: Settings) -> None:
    app: FastAPI = make_app(settings, roots=())
    found = [route.path for route in iter_route_contexts(app.routes) if isinstance(route.original_route, InTurn)]
    app.state.context.close()
    turned = {str(path).removeprefix("/api/v1") for path in found}
    assert {"/jobs", "/jobs/{job}/results", "/jobs/{job}/facets", "/jobs/{job}/items", "/runs/{run}/mistakes"} <= turned
    assert not any(word in path for path in turned for word in ("events", "results.", "image", "export", "uploads"))


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """asyncio knows a socket's kind by its protocol number only; without it, Nagle's algorithm stays on."""

    async def run() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted = writer.get_extra_info("socket")
            found.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        sock = listen("127.0.0.1", 0)
        async with await asyncio.start_server(connected, sock=sock):
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            answer = await found
            writer.close()
            assert reader
        return answer

    assert asyncio.run(run()) != 0
