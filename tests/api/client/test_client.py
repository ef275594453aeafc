"""The client against answers that a real server gives seldom: refusals, waits, connections that break."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api import client as api
from api.client.address import find_address
from api.client.events import Trail
from api.client.files import files_of
from worker.settings import Settings

JOB = {
    "id": 7, "kind": "classify", "state": "running", "owner": "", "description": "folder /p", "root": "/p",
    "confined": True, "model": "birds@1", "top_k": 5, "reuse": True, "found": 3, "classified": 1, "failed": 0,
    "reused": 0, "pending": 2, "ignored": {}, "priority": 5, "created_at": "2026-11-22T01:30:00.000Z",
    "started_at": None, "finished_at": None, "error": None, "max_failures": None, "trouble": None, "done_before": 0,
}  # fmt: skip

Handler = Callable[[httpx2.Request], httpx2.Response]


def client_of(handler: Handler, patience_s: float = 0.0) -> api.Client:
    return api.Client("http://127.0.0.1:1", "secret", patience_s=patience_s, transport=httpx2.MockTransport(handler))


def problem(status: int, kind: str, **more: Any) -> httpx2.Response:
    body = {"type": f"/errors#{kind}", "title": "A title", "status": status, "detail": "So it is.", **more}
    headers = {"Retry-After": str(more["retry_after"])} if "retry_after" in more else {}
    return httpx2.Response(status, json=body, headers=headers)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client would have slept, one after the other."""
    slept: list[float] = []
    monkeypatch.setattr("api.client.connection.time.sleep", slept.append)
    return slept


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (401, "unauthorized", api.NotAllowed),
        (403, "root-not-allowed", api.NotAllowed),
        (404, "not-found", api.NotFound),
        (422, "unknown-model", api.NotFound),
        (422, "no-such-path", api.NotFound),
        (409, "illegal-move", api.Conflict),
        (422, "invalid", api.Invalid),
        (413, "too-large", api.Invalid),
        (500, "internal", api.ServerError),
        (507, "disk-full", api.Unavailable),
    ],
)
def test_every_refusal_is_an_error_of_its_kind(status: int, kind: str, expected: type[api.ApiError]) -> None:
    with client_of(lambda _: problem(status, kind)) as client, pytest.raises(api.ApiError, match="So it is") as caught:
        client.job(7)
    assert type(caught.value) is expected
    assert (caught.value.status, caught.value.kind) == (status, kind)


def test_what_the_server_asks_to_be_sent_later_is_sent_later(naps: list[float]) -> None:
    answers = [problem(429, "rate-limited", retry_after=2), problem(503, "database-unavailable", retry_after=1)]
    with client_of(lambda _: answers.pop(0) if answers else httpx2.Response(200, json=JOB)) as client:
        assert client.job(7).id == 7
    assert naps == [2, 1]


def test_it_does_not_wait_for_ever(naps: list[float]) -> None:
    with client_of(lambda _: problem(503, "unavailable", retry_after=5)) as client, pytest.raises(api.Unavailable):
        client.job(7)
    assert naps == [5, 5, 5]
    with client_of(lambda _: problem(429, "rate-limited", retry_after=3600)) as client, pytest.raises(api.TooMany):
        client.job(7)
    assert len(naps) == 3


def test_a_submission_is_sent_again_with_the_same_key(naps: list[float]) -> None:
    keys = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx2.ReadError("connection reset")
        return httpx2.Response(202, json=JOB)

    with client_of(answer) as client:
        assert client.submit_folder("/p").id == 7
        assert client.submit_folder("/p", "birds@1").id == 7
    assert keys[0] == keys[1] != keys[2]
    assert len(naps) == 1


def test_what_may_not_be_sent_twice_is_not(naps: list[float]) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadError("connection reset")

    with client_of(answer) as client, pytest.raises(api.Unreachable, match="connection reset"):
        client.pause(7)
    assert naps == []


def test_the_token_is_sent_and_never_shown() -> None:
    seen = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json=JOB)

    with client_of(answer) as client:
        client.job(7)
        assert seen[0].headers["Authorization"] == "Bearer secret"
        assert "secret" not in repr(client.address)


def test_what_pixmill_never_says_is_no_answer() -> None:
    for answer in (httpx2.Response(200, text="<html>"), httpx2.Response(200, json={"id": 7})):
        transport = httpx2.MockTransport(partial(_same, answer))
        with api.Client("http://127.0.0.1:1", transport=transport) as client, pytest.raises(api.BrokenAnswer):
            client.job(7)
    with (
        client_of(lambda _: httpx2.Response(502, text="bad gateway")) as client,
        pytest.raises(api.ServerError) as caught,
    ):
        client.job(7)
    assert "502" in str(caught.value)


def _same(answer: httpx2.Response, _: httpx2.Request) -> httpx2.Response:
    return answer


def test_pages_are_read_to_the_end_even_where_one_is_empty() -> None:
    pages: dict[str | None, dict[str, Any]] = {
        None: {"items": [JOB], "next": "a"},
        "a": {"items": [], "next": "b"},
        "b": {"items": [{**JOB, "id": 8}], "next": None},
    }
    with client_of(lambda request: httpx2.Response(200, json=pages[request.url.params.get("cursor")])) as client:
        assert [job.id for job in client.jobs()] == [7, 8]
        assert [job.id for job in client.jobs(1)] == [7]


class Breaking(httpx2.SyncByteStream):
    """A body that breaks off in the middle."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"id,label\n1,ant\n"
        raise httpx2.RemoteProtocolError("peer closed connection without sending complete message body")


def test_a_download_that_breaks_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with (
        client_of(lambda _: httpx2.Response(200, stream=Breaking())) as client,
        pytest.raises(api.BrokenAnswer, match="broke off"),
    ):
        client.download(7, tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


def sse(*events: tuple[str, str, dict[str, Any]]) -> httpx2.Response:
    text = "".join(f"event: {kind}\ndata: {json.dumps(data)}\nid: {id_}\n\n" for kind, id_, data in events)
    return httpx2.Response(200, text=f"retry: 2000\n\n{text}", headers={"Content-Type": "text/event-stream"})


def test_following_goes_on_where_the_connection_broke(naps: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.client.synchronous.time.sleep", naps.append)
    asked = []
    answers = [sse(("state", "1", {}), ("progress", "2", {})), None, sse(("epoch", "3", {}), ("end", "4", {}))]

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers.get("Last-Event-ID"))
        found = answers.pop(0)
        if found is None:
            raise httpx2.ConnectError("refused")
        return found

    with client_of(answer) as client:
        assert [event.kind for event in client.follow(7)] == ["state", "progress", "epoch", "end"]
    assert asked == [None, "2", "2"]


def test_following_gives_up_once_patience_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr("api.client.retrying.time.monotonic", lambda: float(next(clock)))
    trail = Trail("http://x", patience_s=10)
    assert trail.lost() < trail.lost() < trail.lost()
    with pytest.raises(api.Unreachable):
        trail.lost()


def test_a_job_that_has_ended_is_not_followed_again() -> None:
    with client_of(lambda _: httpx2.Response(204)) as client:
        assert list(client.follow(7, last_event_id="4")) == []


def test_the_asynchronous_client_does_the_same() -> None:
    answers = [sse(("state", "1", {}), ("end", "2", {})), httpx2.Response(200, json=JOB)]

    async def wait() -> int:
        transport = httpx2.MockTransport(lambda _: answers.pop(0))
        async with api.AsyncClient("http://127.0.0.1:1", "secret", transport=transport) as client:
            return (await client.wait(7)).id

    assert asyncio.run(wait()) == 7


def test_both_clients_have_the_same_methods() -> None:
    for name in dir(api.Client):
        assert name.startswith("__") or hasattr(api.AsyncClient, name), name


def test_addresses_are_found_as_a_person_says_them(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, server=None, token=None)
    (tmp_path / "token").write_text("pxm_own\n")
    assert find_address(settings=settings).url == "http://127.0.0.1:8420"
    tokens = [find_address("localhost:9000", given, settings).token for given in (None, "given")]
    assert tokens == ["pxm_own", "given"]
    elsewhere = find_address("https://pix.example.org/", settings=settings)
    assert (elsewhere.url, elsewhere.token, elsewhere.is_loopback) == ("https://pix.example.org", None, False)
    assert find_address("http://[::1]:8420", settings=settings).is_loopback
    for wrong in ("ftp://x", "http://", "http://user@x", "http://x:99999", "http://x/?a=1"):
        with pytest.raises(ValueError, match="Expected a server's address"):
            find_address(wrong, settings=settings)


def test_files_of_one_name_are_sent_under_names_of_their_own(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "in").mkdir(parents=True)
        (tmp_path / folder / "in" / "x.png").write_bytes(b"x")
        (tmp_path / folder / "x.png").write_bytes(b"x")
    names = [file.name for file in files_of([tmp_path / "a" / "x.png", tmp_path / "b"])]
    assert names == [b"x.png", b"in/x.png", b"2/x.png"]


def test_results_become_a_table() -> None:
    row = {
        "job_id": 7, "idx": 0, "path": "/p/a.png", "file_name": "a.png", "member": None, "status": "ok", "label": "ant",
        "score": 0.5, "topk": [], "true_label": None, "model": "birds@1", "error_code": None, "error": None, "width": 1,
        "height": 1, "content_hash": None, "reused": False, "agrees": None, "correction": None,
        "created_at": "2026-11-22T01:30:00.000Z", "id": None, "extra": {},
    }  # fmt: skip
    lines = "".join(json.dumps({**row, "idx": n}) + "\n" for n in range(3))
    with client_of(lambda _: httpx2.Response(200, text=lines)) as client:
        table = client.table(7, label="ant")
    assert (len(table), table["idx"], table["label"]) == (3, [0, 1, 2], ["ant"] * 3)
    assert table.to_arrow().column_names[:2] == ["job_id", "idx"]


def refusing(times: int) -> tuple[Handler, list[str]]:
    """A server that is away at first; and what it was asked."""
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        if len(asked) <= times:
            raise httpx2.ConnectError("Connection refused")
        return httpx2.Response(202, json=JOB)

    return answer, asked


def test_a_patient_client_waits_for_a_server_that_restarts(naps: list[float]) -> None:
    answer, asked = refusing(3)
    with client_of(answer, 10) as client:
        assert client.pause(7).id == 7  # it was not sent, so that it may be sent again
    assert len(asked) == 4
    assert naps == sorted(naps)


def test_one_that_is_not_patient_does_not_wait(naps: list[float]) -> None:
    answer, asked = refusing(1)
    with client_of(answer) as client, pytest.raises(api.Unreachable, match="Connection refused"):
        client.job(7)
    assert (len(asked), naps) == (1, [])


def test_patience_ends(naps: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr("api.client.retrying.time.monotonic", lambda: float(next(clock)))
    answer, asked = refusing(1000)
    with client_of(answer, 10) as client, pytest.raises(api.Unreachable):
        client.job(7)
    assert (len(asked), len(naps)) == (4, 3)


def test_following_counts_its_own_patience_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each look of a patient client for events would wait as long as all of them together may."""
    monkeypatch.setattr("api.client.connection.time.sleep", lambda _: pytest.fail("the connection waits too"))
    answer, asked = refusing(1000)
    with client_of(answer, 1000) as client, pytest.raises(api.Unreachable):
        list(client.follow(7, patience_s=-1))
    assert len(asked) == 1


def test_tokens_are_read_to_the_last_page() -> None:
    pages: dict[str | None, dict[str, Any]] = {
        None: {"items": [{"id": "a"}], "next": "p2"},
        "p2": {"items": [{"id": "b"}], "next": None},
    }
    with client_of(lambda request: httpx2.Response(200, json=pages[request.url.params.get("cursor")])) as client:
        assert [token["id"] for token in client.tokens()] == ["a", "b"]
