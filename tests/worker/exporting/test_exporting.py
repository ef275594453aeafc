"""Exports: the same rows in three forms, whole or not at all, the same bytes from a file and from a child."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from store import jobs
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.records import result_record
from store.results import Filter, ResultRow, stream
from store.rows import NewItem, NewJob, NewResult
from tests.databases import ready
from tests.mixed_results import mixed_job
from worker.exporting import text
from worker.exporting.files import WRITERS
from worker.exporting.selection import SELECTION, JobResults, Selection
from worker.exporting.text import csv_pieces, jsonl_pieces


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return ready(f"sqlite:///{tmp_path}/pixmill.db")


@pytest.fixture
def job(database: Database) -> int:
    return mixed_job(database)


def test_a_csv_has_the_best_labels_and_the_further_columns_of_each_row(database: Database, job: int) -> None:
    rows = list(csv.DictReader(StringIO("".join(csv_pieces(stream(database, job), 2)))))
    assert len(rows) == 120
    assert rows[0]["label_2"] == "emu"
    assert (rows[0]["camera"], rows[1]["camera"]) == ("x", "")
    assert (rows[3]["correction"], rows[1]["agrees"], rows[5]["error_code"]) == ("owl", "True", "empty")
    assert rows[0]["created_at"].endswith("Z")


def test_jsonl_is_one_record_a_line(database: Database, job: int) -> None:
    lines = "".join(jsonl_pieces(stream(database, job))).splitlines()
    assert [json.loads(line) for line in lines] == [result_record(row) for row in stream(database, job)]


def test_numbers_that_json_does_not_have_are_null() -> None:
    row = ResultRow(
        1, 0, b"/a", "a", None, "ok", "x", float("nan"), [], None, None, None, None, None, {}, 1, 1, None, False
    )
    assert json.loads(next(jsonl_pieces([row])))["score"] is None


def test_names_that_are_not_utf8_show_their_bytes(database: Database) -> None:
    job = jobs.accept(database, NewJob(None, root=b"/r\xe9"), [NewItem(b"\xff.jpg")])
    lease = claim(database, Claimer("w"))
    assert lease
    commit_slice(database, lease, [NewResult(0, "failed", error_code="empty", error="empty")], last=True)
    (line,) = "".join(jsonl_pieces(stream(database, job))).splitlines()
    assert json.loads(line)["path"] == "/r\\xe9/\\xff.jpg"


def test_pieces_do_not_wait_for_the_last_row(database: Database, job: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "PIECE", 10)
    monkeypatch.setattr(text, "BATCH", 10)
    taken = 0

    def rows() -> Iterator[ResultRow]:
        nonlocal taken
        for row in stream(database, job):
            taken += 1
            yield row

    next(csv_pieces(rows(), 2))
    assert taken <= 20


@pytest.mark.parametrize("ending", sorted(WRITERS))
def test_a_file_appears_only_when_it_is_whole(database: Database, job: int, tmp_path: Path, ending: str) -> None:
    def broken() -> Iterator[ResultRow]:
        yield from list(stream(database, job))[:50]
        raise OSError("the disk is gone")

    path = tmp_path / f"out{ending}"
    with pytest.raises(OSError, match="the disk is gone"):
        WRITERS[ending](path, broken(), 2)
    assert list(tmp_path.iterdir()) == [tmp_path / "pixmill.db"] or not path.exists()
    assert not path.with_name(path.name + ".part").exists()
    assert WRITERS[ending](path, stream(database, job), 2) == 120
    assert path.exists()


def test_the_child_writes_the_same_parquet_as_the_file_has(
    database: Database, database_url: str, job: int, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    WRITERS[".parquet"](tmp_path / "out.parquet", stream(database, job, Filter(label="wren")), 2)
    done = child(database_url, JobResults(job, Filter(label="wren")))
    assert done.returncode == 0
    assert done.stdout == (tmp_path / "out.parquet").read_bytes()
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    wanted = [result_record(row) for row in stream(database, job, Filter(label="wren"))]
    assert [{**row, "extra": dict(row["extra"])} for row in rows] == wanted


def test_a_child_that_fails_says_so_by_its_status(database_url: str) -> None:
    done = child(database_url, JobResults(99, Filter()))
    assert done.returncode != 0
    assert b"UnknownJob" in done.stderr


def child(database_url: str, asked: Selection) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-P", "-m", "worker.exporting"]
    told = database_url.encode() + b"\n" + SELECTION.dump_json(asked)
    return subprocess.run(command, input=told, capture_output=True, check=False, timeout=120)
