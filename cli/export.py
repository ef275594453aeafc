"""Writing results: a table, CSV, JSONL or Parquet, streamed in flat memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cli.desk import Desk
from cli.errors import CommandError, Exit
from cli.output import emit_json, emit_table, say, to_pipe
from store.records import result_record
from store.results import Filter, ResultRow
from store.way import Order
from worker.exporting.files import WRITERS, Writer
from worker.exporting.parquet import NoParquet, has_parquet
from worker.exporting.text import csv_pieces

TABLE_ROWS = 50


def writer_for(path: Path) -> Writer:
    """The writer for a file's ending. Raises CommandError for one that is not known, or a folder that is not there."""
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise CommandError(f"Expected a file ending in .csv, .jsonl or .parquet, got {path.name!r}.")
    if not path.absolute().parent.is_dir():
        raise CommandError(f"There is no folder {path.absolute().parent} to write {path.name} into.", Exit.NOT_FOUND)
    return writer


@dataclass(frozen=True, slots=True)
class Asked:
    """Which results of a job, and in which order."""

    job_id: int
    chosen: Filter | None = None
    order: Order = "item"

    def of(self, desk: Desk) -> Iterator[ResultRow]:
        """The rows, streamed."""
        return desk.results(self.job_id, self.chosen, self.order)


def emit_results(desk: Desk, asked: Asked, *, out: Path | None = None, json: bool = False) -> None:
    """Write a job's results to a file, or as JSON lines to stdout, or both."""
    if out is not None:
        writer_for(out)
        try:
            count = desk.export(asked.job_id, asked.chosen, out, asked.order)
        except NoParquet as error:
            raise CommandError(str(error)) from error
        if count is None:  # a server sent the file, not a number
            count = rows_in(out)
        say(f"{f'{count:,} rows' if count is not None else 'The rows are'} written to {out}")
    if json:
        for row in asked.of(desk):
            emit_json(result_record(row))


def rows_in(file: Path) -> int | None:
    """How many rows a file holds that was exported; None for Parquet where pyarrow is not installed."""
    if file.suffix.lower() == ".parquet":
        if not has_parquet():
            return None
        from pyarrow.parquet import read_metadata

        return int(read_metadata(file).num_rows)
    is_csv, count, quoted = file.suffix.lower() == ".csv", 0, False
    with file.open("rb") as opened:
        for line in opened:
            quoted ^= is_csv and line.count(b'"') % 2 == 1  # a line may end inside a field
            count += not quoted
    return count - is_csv  # its head


def emit_format(desk: Desk, asked: Asked, form: str) -> None:
    """Print results on stdout as a table (the first rows), CSV or JSONL."""
    rows = asked.of(desk)
    if form == "csv":
        with to_pipe():
            for piece in csv_pieces(rows, desk.job(asked.job_id).top_k):
                sys.stdout.write(piece.encode("utf-8", "backslashreplace").decode())
    elif form == "jsonl":
        emit_results(desk, asked, json=True)
    else:
        head = list(islice(rows, TABLE_ROWS + 1))
        table = ((row.idx, _name(row), row.label or row.error_code, row.score, row.error) for row in head[:TABLE_ROWS])
        emit_table(("item", "file", "label or failure", "score", "why"), table)
        if len(head) > TABLE_ROWS:
            say(f"These are the first {TABLE_ROWS}; --format csv or --out FILE gives all.")


def _name(row: ResultRow) -> str:
    return f"{row.file_name}!/{row.member}" if row.member else row.file_name
