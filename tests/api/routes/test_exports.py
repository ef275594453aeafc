"""Exports over HTTP: the command line's bytes, broken when they fail, ended when nobody listens."""

from __future__ import annotations

import csv
import json
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest

from api import exports
from api.client import Client
from api.images import stream as streams
from store.database import Database
from store.query import walk
from store.results import Filter, ResultRow, stream
from store.way import Order
from tests.mixed_results import mixed_job
from tests.running import eventually
from tests.serving import Served, threaded
from worker.exporting import text
from worker.exporting.files import WRITERS
from worker.settings import Settings


@pytest.fixture
def served(settings: Settings, store: Database) -> Iterator[Served]:
    with threaded(settings) as server:
        yield server


@pytest.fixture
def job(store: Database) -> int:
    return mixed_job(store)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_an_export_is_what_the_command_line_writes(
    served: Served, store: Database, job: int, tmp_path: Path, ending: str
) -> None:
    for name, chosen in (("all", Filter()), ("some", Filter(label="wren", min_score=0.2))):
        asked = {"label": "wren", "min_score": "0.2"} if name == "some" else {}
        answer = served.client.get(f"{served.api}/jobs/{job}/results.{ending}", params=asked)
        assert answer.status_code == 200, answer.text
        WRITERS[f".{ending}"](tmp_path / f"out.{ending}", stream(store, job, chosen), 2)
        assert answer.content == (tmp_path / f"out.{ending}").read_bytes()
        assert f'filename="job-{job}-results.{ending}"' in answer.headers["content-disposition"]


def test_an_export_of_nothing_is_still_a_file(served: Served, job: int) -> None:
    answer = served.client.get(f"{served.api}/jobs/{job}/results.jsonl?label=nobody")
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_failure_in_the_middle_breaks_the_connection(
    served: Served, job: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(database: Database, number: int, chosen: Filter, _: str) -> Iterator[ResultRow]:
        yield from list(stream(database, number, chosen))[:60]
        raise OSError("the disk is gone")

    monkeypatch.setattr("worker.exporting.selection.walk", failing)
    monkeypatch.setattr(text, "PIECE", 10)
    with pytest.raises(httpx2.RemoteProtocolError):
        served.client.get(f"{served.api}/jobs/{job}/results.jsonl")


def test_a_failure_before_the_first_byte_is_a_problem(
    served: Served, job: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    answer = served.client.get(f"{served.api}/jobs/{job}/results.parquet")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"


def test_parquet_without_pyarrow_is_a_problem(served: Served, job: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.routes.exports.has_parquet", lambda: False)
    answer = served.client.get(f"{served.api}/jobs/{job}/results.parquet")
    assert (answer.status_code, answer.json()["type"]) == (501, "/errors#not-installed")


def test_a_client_that_leaves_ends_the_child_and_frees_its_place(
    served: Served, job: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", endless(tmp_path))
    share = exports.MOST // 2
    readers = [begun(served, job, token) for token in (served.token, other_token(served)) for _ in range(share)]
    assert len(children()) == exports.MOST
    third = {"Authorization": f"Bearer {other_token(served)}"}
    refused = served.client.get(f"{served.api}/jobs/{job}/results.csv", headers=third)
    assert (refused.status_code, refused.json()["type"]) == (503, "/errors#too-many-exports")
    assert refused.headers["retry-after"]
    for reader in readers:
        reader.close()
    eventually(lambda: not children(), what="the end of the children")
    monkeypatch.undo()
    eventually(lambda: served.client.get(f"{served.api}/jobs/{job}/results.csv").status_code == 200)


def test_one_token_leaves_half_of_the_places_to_others(
    served: Served, job: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reader = other_token(served)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", endless(tmp_path))
        connections = [begun(served, job, reader) for _ in range(exports.MOST // 2)]
    url, theirs = f"{served.api}/jobs/{job}/results.csv", {"Authorization": f"Bearer {reader}"}
    assert served.client.get(url, headers=theirs).json()["type"] == "/errors#too-many-exports"
    assert served.client.get(url).status_code == 200
    for connection in connections:
        connection.close()
    eventually(lambda: served.client.get(url, headers=theirs).status_code == 200, what="a place")


def test_a_client_that_takes_nothing_loses_its_stream(
    served: Served, job: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(streams, "SEND_S", 0.1)
    monkeypatch.setattr(sys, "executable", endless(tmp_path))
    with begun(served, job, served.token):
        eventually(lambda: not children(), what="the end of the child")


def other_token(served: Served) -> str:
    return served.token_for("", "read")


def endless(folder: Path) -> str:
    """A program that writes for as long as somebody reads."""
    program = folder / "endless"
    program.write_text("#!/bin/sh\nexec cat /dev/zero\n")
    program.chmod(0o755)
    return str(program)


def begun(served: Served, job: int, token: str) -> socket.socket:
    """A connection over which an export has begun, of which no more is read."""
    address = urlsplit(served.url)
    assert address.hostname
    assert address.port
    connection = socket.create_connection((address.hostname, address.port))
    path = f"/api/v1/jobs/{job}/results.parquet"
    head = f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
    connection.sendall(head.encode())
    assert b"200" in connection.recv(64)
    return connection


def children() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it ended since
            found += [child] if child.name() == "cat" else []
    return found


ORDERS = get_args(Order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("chosen", [{}, {"label": "wren"}, {"path_prefix": "a"}], ids=str)
def test_an_export_has_the_order_of_the_listing(
    served: Served, job: int, monkeypatch: pytest.MonkeyPatch, order: str, chosen: dict[str, str]
) -> None:
    monkeypatch.setattr("store.query.PORTION", 7)
    lines = served.client.get(f"{served.api}/jobs/{job}/results.jsonl", params={"order": order, **chosen}).text
    rows = [json.loads(line) for line in lines.splitlines()]
    listed = list(pages(served, job, {"order": order, **chosen}))
    if order == "item":  # by number here, by name there where a prefix is asked for
        listed.sort(key=lambda row: row["idx"])
    assert rows == listed
    assert rows


def test_all_three_forms_have_the_order(served: Served, store: Database, job: int) -> None:
    import pyarrow.parquet as pq

    wanted = [row.idx for row in walk(store, job, None, "least_sure")]
    assert wanted != sorted(wanted)
    asked = {"order": "least_sure"}
    table = served.client.get(f"{served.api}/jobs/{job}/results.parquet", params=asked).content
    assert pq.read_table(BytesIO(table))["idx"].to_pylist() == wanted
    text = served.client.get(f"{served.api}/jobs/{job}/results.csv", params=asked).text
    assert [int(row["idx"]) for row in csv.DictReader(StringIO(text))] == wanted


def test_further_columns_mean_the_same_in_parquet_and_in_json(served: Served, job: int) -> None:
    import pyarrow.parquet as pq

    table = served.client.get(f"{served.api}/jobs/{job}/results.parquet").content
    lines = served.client.get(f"{served.api}/jobs/{job}/results.jsonl").text
    extras = [json.loads(line)["extra"] for line in lines.splitlines()]
    assert [dict(pairs) for pairs in pq.read_table(BytesIO(table))["extra"].to_pylist()] == extras
    assert {} in extras
    assert {"camera": "x"} in extras
    with Client(served.url, served.token) as client:
        arrow = client.table(job).to_arrow()
    assert [dict(pairs) for pairs in arrow["extra"].to_pylist()] == extras


def pages(served: Served, job: int, asked: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Every row of the listing."""
    cursor: dict[str, str] = {}
    while True:
        page = served.client.get(f"{served.api}/jobs/{job}/results", params={**asked, **cursor}).json()
        yield from page["items"]
        if page["next"] is None:
            return
        cursor = {"cursor": page["next"]}
