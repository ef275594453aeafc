"""Rows are written many at once, without what is empty in all of them, and are the same rows afterwards."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.errors import StoreError
from store.rows import NewItem, NewJob
from store.scanning import fill, open_job
from store.tables import items, memo, results
from store.writing import insert_rows, put_rows, without_empty
from tests.store.conftest import AcceptJob, ok_results
from tests.store.statements import noted

PLAIN = NewItem(b"a.jpg", size=3, mtime_ns=7)
RICH = NewItem(b"b.jpg", label="finch", split="val", external_id="7", extra={"site": "north"})


def test_a_column_that_one_row_fills_is_kept_for_all() -> None:
    assert without_empty([{"a": 1, "b": None, "c": None}, {"a": None, "b": 0, "c": None}]) == [
        {"a": 1, "b": None},
        {"a": None, "b": 0},
    ]
    assert without_empty([]) == []


def test_items_with_and_without_labels_come_back_as_they_were_found(database: Database, model_id: int) -> None:
    job_id = open_job(database, NewJob(model_id))
    found = iter([PLAIN, PLAIN, RICH, PLAIN])
    sent = noted(database, lambda: fill(database, job_id, NewJob(model_id), found, chunk=2))
    plain, rich = (statement for statement, _ in sent if statement.startswith("INSERT INTO items"))
    assert "label" not in plain
    assert "label" in rich
    names = ("idx", "path", "size", "mtime_ns", "label", "split", "external_id", "extra", "member")
    with database.read() as connection:
        rows = connection.execute(select(*(items.c[name] for name in names)).order_by(items.c.idx)).all()
    rest = (None,) * 5
    assert [tuple(row) for row in rows] == [
        (0, "a.jpg", 3, 7, *rest),
        (1, "a.jpg", 3, 7, *rest),
        (2, "b.jpg", None, None, "finch", "val", "7", '{"site": "north"}', None),
        (3, "a.jpg", 3, 7, *rest),
    ]


AWKWARD = 'a "quoted" \\ back\nline\u2028 – 🐦 \' ; \\x00 %s $1 :rows {}'


def test_every_kind_of_value_comes_back_as_it_was_given(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(4)
    fixed: dict[str, Any] = {"job_id": job_id, "token": "t" * 32, "status": "ok"}
    given: list[dict[str, Any]] = [
        {"label": AWKWARD, "score": 1 / 3, "content_hash": bytes(range(240, 256)), "agrees": True, "created_at": 1.7e9},
        {"label": "", "score": 5e-324, "content_hash": b"\x00" * 16, "agrees": False, "created_at": 1e300},
        {"label": None, "score": None, "content_hash": None, "agrees": None, "created_at": 0.1 + 0.2},
        {"label": "null", "score": 0.0, "content_hash": b"", "agrees": None, "created_at": 2.0**53 + 2},
    ]
    rows = [{**fixed, "idx": n, "width": 2**31 - 1 - n, "reused": n == 1, **row} for n, row in enumerate(given)]
    with database.write() as connection:
        insert_rows(connection, results, rows)
    names = tuple(rows[0])
    with database.read() as connection:
        found = connection.execute(select(*(results.c[name] for name in names)).order_by(results.c.idx)).all()
    assert [dict(zip(names, row, strict=True)) for row in found] == rows


def test_numbers_of_64_bits_and_names_that_are_no_text_are_kept(database: Database, model_id: int) -> None:
    job_id = open_job(database, NewJob(model_id))
    found = NewItem(b"\xff\xfe \\x41.jpg", size=2**62 + 1, mtime_ns=-(2**63), extra={"site": AWKWARD})
    fill(database, job_id, NewJob(model_id), iter([found]))
    with database.read() as connection:
        row = connection.execute(select(items)).one()
    assert (row.path_raw, row.size, row.mtime_ns) == (found.path, found.size, found.mtime_ns)
    assert row.extra is not None


def test_a_key_that_is_there_already_is_an_error_and_nothing_is_written(
    database: Database, accept_job: AcceptJob
) -> None:
    accept_job(3)
    lease = claim(database, Claimer("a"))
    assert lease is not None
    first, *rest = ok_results(lease)
    commit_slice(database, lease, [first], last=False)
    with pytest.raises(StoreError) as told:
        commit_slice(database, lease, [*rest, replace(first, label="wren")], last=True)
    assert isinstance(told.value.__cause__, IntegrityError)
    with database.read() as connection:
        assert connection.execute(select(results.c.idx, results.c.label)).all() == [(first.idx, first.label)]


def test_of_a_row_that_is_there_only_what_is_newer_is_set(database: Database, model_id: int) -> None:
    keys = [bytes([n]) * 16 for n in range(3)]
    rows = [{"key": key, "kind": "content", "model_id": model_id, "job_id": 1, "idx": 5} for key in keys]
    with database.write() as connection:
        put_rows(connection, memo, rows[:2], ("job_id", "idx"))
        put_rows(connection, memo, [{**row, "kind": "file", "idx": 9} for row in rows[1:]], ("job_id", "idx"))
        put_rows(connection, memo, [], ("idx",))
        found = connection.execute(select(memo.c.key, memo.c.kind, memo.c.idx).order_by(memo.c.key)).all()
    assert [tuple(row) for row in found] == [
        (keys[0], "content", 5),
        (keys[1], "content", 9),
        (keys[2], "file", 9),
    ]


def test_a_slice_is_one_statement_for_each_table(database: Database, accept_job: AcceptJob) -> None:
    accept_job(60)
    lease = claim(database, Claimer("a"))
    assert lease is not None
    rows = [replace(row, content_hash=row.idx.to_bytes(16, "big")) for row in ok_results(lease)]
    sent = noted(database, lambda: commit_slice(database, lease, rows, last=True))
    for table in ("results", "memo"):
        (parameters,) = (given for statement, given in sent if statement.startswith(f"INSERT INTO {table} "))
        assert database.is_sqlite or set(parameters) == {"rows"}  # not a list of rows, of which each is a message


def test_nothing_to_write_asks_nothing(database: Database) -> None:
    with database.write() as connection:
        assert noted(database, lambda: insert_rows(connection, results, [])) == []
