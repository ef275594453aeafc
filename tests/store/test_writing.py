"""Rows are written without what is empty in all of them, and are the same rows afterwards."""

from sqlalchemy import select

from store.database import Database
from store.rows import NewItem, NewJob
from store.scanning import fill, open_job
from store.tables import items
from store.writing import without_empty
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
