"""Files on their way: several at once, told of in order, given up at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from api import client as api
from api.client.files import Sending
from api.client.sending import AT_ONCE, WINDOW, Abandoned, Letter, in_order

FILES = [Sending(Path(f"/{n}"), b"%d" % n) for n in range(3 * WINDOW)]


def test_several_are_under_way_at_once_and_are_told_of_in_order() -> None:
    together = threading.Barrier(AT_ONCE)
    sent: list[bytes] = []

    def send(sending: Sending, _: threading.Event) -> None:
        if len(sent) < AT_ONCE and int(sending.name) < AT_ONCE:
            together.wait(30)  # nobody passes before all of them are here
        sent.append(sending.name)

    assert list(in_order(send, FILES)) == list(range(1, len(FILES) + 1))
    assert sorted(sent) == sorted(file.name for file in FILES)


def test_no_more_are_taken_than_are_soon_sent() -> None:
    """None arrives before as many are taken as may be: then the first fails, and no other is taken."""
    all_taken, taken = threading.Event(), 0

    def files() -> Iterator[Sending]:
        nonlocal taken
        for sending in FILES:
            taken += 1
            if taken == WINDOW:
                all_taken.set()
            yield sending

    def send(sending: Sending, _: threading.Event) -> None:
        assert all_taken.wait(30)
        if sending is FILES[0]:
            raise api.NotReadable("the first")

    with pytest.raises(api.NotReadable, match="the first"):
        list(in_order(send, files()))
    assert taken == WINDOW


def test_the_first_that_fails_ends_all_and_nobody_waits_for_large_files(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 100)
    ended, under_way = threading.Event(), threading.Event()

    def send(sending: Sending, given_up: threading.Event) -> None:
        if sending is FILES[0]:
            assert under_way.wait(30)
            raise api.NotReadable("gone")
        if sending is not FILES[1]:
            return
        with Letter(tmp_path / "large", given_up) as letter:
            try:
                while letter.read(10) or letter.seek(0) == 0:  # a slow wire
                    under_way.set()
            except Abandoned:
                ended.set()

    with pytest.raises(api.NotReadable, match="gone"):
        list(in_order(send, FILES))
    assert ended.wait(30)
    assert not [thread for thread in threading.enumerate() if thread.name == "pixmill-send"]


def server(seen: dict[str, bytes], fails: str = "") -> Callable[[httpx2.Request], httpx2.Response]:
    """Takes uploads; a file whose name is `fails` is refused."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        name = request.url.path.rpartition("/files/")[2]
        if request.method == "POST":
            return httpx2.Response(201, json={"id": "u1"})
        if request.method == "DELETE":
            seen["deleted"] = b""
            return httpx2.Response(204)
        if name == fails:
            return httpx2.Response(422, json={"type": "/errors#bad-name", "status": 422, "detail": "Not so."})
        seen[name] = request.read()
        return httpx2.Response(201, json={"upload": "u1", "name": name, "bytes": 1})

    return answer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Fifty small files."""
    for n in range(50):
        (tmp_path / f"{n:02}.jpg").write_bytes(b"%d" % n)
    return tmp_path


def sent_by(kind: str, seen: dict[str, bytes], folder: Path, fails: str = "") -> list[int]:
    """Send a folder with one of the clients; what was noted."""
    noted: list[int] = []
    files = [Sending(path, path.name.encode()) for path in sorted(folder.iterdir())]
    if kind == "sync":
        with api.Client("http://127.0.0.1:1", "x", transport=httpx2.MockTransport(server(seen, fails))) as client:
            client.send(files, noted.append)
        return noted

    async def asynchronously() -> None:
        answer = server(seen, fails)

        async def later(request: httpx2.Request) -> httpx2.Response:
            await request.aread()
            return answer(request)

        transport = httpx2.MockTransport(later)
        async with api.AsyncClient("http://127.0.0.1:1", "x", transport=transport) as client:
            await client.send(files, noted.append)

    asyncio.run(asynchronously())
    return noted


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_both_clients_send_every_file_once(folder: Path, kind: str) -> None:
    seen: dict[str, bytes] = {}
    assert sent_by(kind, seen, folder) == list(range(1, 51))
    assert seen == {f"{n:02}.jpg": b"%d" % n for n in range(50)}


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_upload_that_fails_is_forgotten(folder: Path, kind: str) -> None:
    seen: dict[str, bytes] = {}
    with pytest.raises(api.Invalid, match="Not so"):
        sent_by(kind, seen, folder, fails="20.jpg")
    assert "deleted" in seen
