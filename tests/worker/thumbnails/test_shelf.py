"""The shelf keeps what is used and does not outgrow its limit."""

from __future__ import annotations

import os
from pathlib import Path

from worker.thumbnails.shelf import KEEP, Shelf


def test_what_was_put_is_there_and_nothing_else(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf")
    assert shelf.get("ab12-64.webp") is None
    shelf.put("ab12-64.webp", b"small")
    assert shelf.get("ab12-64.webp") == b"small"
    assert [path.name for path in (tmp_path / "shelf" / "ab").iterdir()] == ["ab12-64.webp"]
    assert (tmp_path / "shelf" / "ab").stat().st_mode & 0o077 == 0


def test_a_full_shelf_loses_what_was_not_used_for_longest(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, max_bytes=1000)
    for n in range(20):
        shelf.put(f"{n:02}-64.webp", bytes(100))
        os.utime(tmp_path / f"{n:02}" / f"{n:02}-64.webp", (n, n))
    assert shelf.get("00-64.webp") is not None  # a use, written down
    shelf.sweep()
    kept = {path.name[:2] for path in tmp_path.glob("*/*")}
    assert len(kept) * 100 <= KEEP * 1000
    assert {"00", "19"} <= kept
    assert "01" not in kept


def test_a_folder_that_cannot_be_written_keeps_nothing_and_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "shelf").write_text("a file where the folder should be")
    shelf = Shelf(tmp_path / "shelf")
    shelf.put("ab-64.webp", b"small")
    assert shelf.get("ab-64.webp") is None
