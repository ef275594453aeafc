"""Files by their names: rows whether they are there or not, and nothing from outside of the roots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import ImageError
from tests.api.submission.conftest import Ask
from tests.api.submission.test_attacks import REFUSED, SPELLINGS
from tests.running import write_images
from worker.reading import Location, Reader

Rows = Callable[..., list[dict[str, Any]]]

NOTHING_READ = {"missing", "broken_link", "outside_root", "not_a_file", "name_too_long"}


def test_files_are_rows_whether_they_are_there_or_not(submit: Ask, photos: Path, rows: Rows) -> None:
    """As with a list on standard input: no folder is walked, no archive opened, no glob matched, order kept."""
    write_images(photos / "more", 2)
    names = ["more/gone.png", "000001.png", "more", "*3.png", "000000.png", "no folder/a.png"]
    job = submit({"files": [str(photos / name) for name in names]}).json()
    kept = rows("SELECT path, size FROM items WHERE job_id = :id ORDER BY idx", id=job["id"])
    assert [row["path"] for row in kept] == names
    assert [row["size"] is not None for row in kept] == [False, True, False, False, True, False]
    assert job["description"] == "the 6 files given"


def test_no_spelling_of_a_files_name_reads_anything_outside(
    submit: Ask, photos: Path, outside: Path, rows: Rows
) -> None:
    """A file need not be there: what is not refused at once is a row that nothing comes of."""
    (photos / "link").symlink_to(outside)
    (photos / "chain").symlink_to("link")
    (photos / "loop").symlink_to("loop")
    (photos / "leak.png").symlink_to(outside / "000000.png")
    for path in (*SPELLINGS, "{photos}/link/000000.png", "{photos}/chain/gone.png", "{photos}/leak.png"):
        answer = submit({"files": [path.replace("{photos}", str(photos)).replace("{outside}", str(outside))]})
        if answer.status_code != 202:
            assert answer.status_code in REFUSED, (path, answer.text)
            continue
        (item,) = rows("SELECT * FROM items WHERE job_id = :id", id=answer.json()["id"])
        (job,) = rows("SELECT root, confined FROM jobs WHERE id = :id", id=answer.json()["id"])
        place = Location(
            job["root"].encode(), item["path"].encode(), bool(job["confined"]), item["size"], item["mtime_ns"]
        )
        with Reader() as reader, pytest.raises(ImageError) as refused:
            reader.read(place)
        assert refused.value.code in NOTHING_READ, (path, refused.value.code)
    assert {"path": "leak.png"} in rows("SELECT path FROM items")
