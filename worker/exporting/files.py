"""Exports into files, which appear under their names only when they are whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from store.results import ResultRow
from worker.exporting.parquet import write_parquet as _parquet_into
from worker.exporting.text import csv_pieces, jsonl_pieces

Writer = Callable[[Path, Iterable[ResultRow], int], int]


def write_text(
    pieces: Callable[[Iterable[ResultRow], int], Iterator[str]], path: Path, rows: Iterable[ResultRow], top_k: int
) -> int:
    """Write a file of text; returns how many rows it has."""
    counted = _Counting(rows)
    with partial_file(path) as file:
        for piece in pieces(counted, top_k):
            file.write(piece.encode("utf-8", "backslashreplace"))
    return counted.count


def write_parquet(path: Path, rows: Iterable[ResultRow], _: int = 0) -> int:
    """Write a Parquet file; returns how many rows it has. Raises NoParquet where pyarrow is not installed."""
    with partial_file(path) as file:
        return _parquet_into(file, rows)


class _Counting:
    """Rows, counted as they pass."""

    def __init__(self, rows: Iterable[ResultRow]) -> None:
        self._rows, self.count = rows, 0

    def __iter__(self) -> Iterator[ResultRow]:
        for row in self._rows:
            self.count += 1
            yield row


@contextmanager
def partial_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name only when it is whole, and leaves nothing behind otherwise."""
    partial_path = path.with_name(path.name + ".part")
    try:
        with partial_path.open("wb") as file:
            yield file
        partial_path.replace(path)
    finally:
        partial_path.unlink(missing_ok=True)


WRITERS: dict[str, Writer] = {
    ".csv": partial(write_text, csv_pieces),
    ".jsonl": partial(write_text, jsonl_pieces),
    ".ndjson": partial(write_text, jsonl_pieces),
    ".parquet": write_parquet,
}
