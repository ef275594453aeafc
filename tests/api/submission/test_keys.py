"""Idempotency-Key: the same request, however often it comes, makes one job."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.api.submission.conftest import JOBS, Ask
from tests.running import eventually
from tests.serving import Served, threaded
from worker.settings import Settings

Rows = Callable[..., list[dict[str, Any]]]


def test_the_same_request_again_gets_the_same_job(submit: Ask, rows: Rows) -> None:
    first = submit(headers={"Idempotency-Key": "one"})
    again = submit(headers={"Idempotency-Key": '"one"'})
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"]
    assert len(rows("SELECT id FROM jobs")) == 1


def test_another_request_with_the_same_key_is_refused(submit: Ask, rows: Rows) -> None:
    submit(headers={"Idempotency-Key": "one"})
    other = submit(top_k=2, headers={"Idempotency-Key": "one"})
    assert (other.status_code, other.json()["type"]) == (422, "/errors#key-reused")
    assert len(rows("SELECT id FROM jobs")) == 1


def test_keys_of_two_owners_have_nothing_to_do_with_each_other(
    submit: Ask, rows: Rows, bearer: Callable[..., dict[str, str]]
) -> None:
    ids = {submit(headers={"Idempotency-Key": "one", **bearer(owner)}).json()["id"] for owner in ("ann", "bob")}
    assert len(ids) == 2


def test_a_refused_request_frees_its_key(submit: Ask, photos: Path) -> None:
    nowhere = photos / "later"
    headers = {"Idempotency-Key": "one"}
    assert submit({"folder": str(nowhere)}, headers=headers).status_code == 422
    nowhere.mkdir()
    (nowhere / "a.png").write_bytes((photos / "000001.png").read_bytes())
    assert submit({"folder": str(nowhere)}, headers=headers).status_code == 202


def test_the_key_of_a_deleted_job_makes_no_other(submit: Ask, client: TestClient, rows: Rows) -> None:
    job = submit(headers={"Idempotency-Key": "one"}).json()
    client.post(f"{JOBS}/{job['id']}/cancel")
    assert client.delete(f"{JOBS}/{job['id']}").status_code == 204
    again = submit(headers={"Idempotency-Key": "one"})
    assert (again.status_code, again.json()["type"]) == (409, "/errors#conflict")


@pytest.mark.parametrize("key", ["", " ", "ä", "a b", "x" * 300])
def test_what_is_no_key_is_refused(submit: Ask, key: str) -> None:
    answer = submit(headers={"Idempotency-Key": key.encode("latin-1", "replace")})
    assert answer.status_code in (400, 422), answer.text


def test_fifty_at_once_of_which_a_third_hang_up_make_one_job(settings: Settings, photos: Path, rows: Rows) -> None:
    with threaded(settings, [photos]) as served:
        together = threading.Barrier(50)

        def send(n: int) -> int | None:
            body = json.dumps({"kind": "classify", "source": {"folder": str(photos)}})
            with _connected(served) as connection:
                together.wait(60)
                connection.sendall(_request(served, body, key="all"))
                if n % 3 == 0:
                    # RST instead of a polite end: the client is gone before the answer.
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return None
                return _job_of(connection)

        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(send, range(50)))
        ids = {answer for n, answer in enumerate(answers) if n % 3}
        assert len(ids) == 1
        eventually(lambda: rows("SELECT state FROM jobs") == [{"state": "accepted"}])
    assert rows("SELECT id FROM jobs") == [{"id": ids.pop()}]
    assert len(rows("SELECT idx FROM items")) == 5


def _connected(served: Served) -> socket.socket:
    host, port = served.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=120)


def _request(served: Served, body: str, key: str) -> bytes:
    head = [
        f"POST {JOBS} HTTP/1.1",
        f"Host: {served.url.removeprefix('http://')}",
        f"Authorization: Bearer {served.token}",
        f"Idempotency-Key: {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


def _job_of(connection: socket.socket) -> int:
    """The id in the answer, which must be a 202."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    assert b" 202 " in head.split(b"\r\n")[0], received
    return int(json.loads(body)["id"])
