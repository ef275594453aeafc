"""Writing results: a table, CSV, JSONL or Parquet, streamed in flat memory."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from cli.errors import CommandError, Exit
from cli.output import emit_json, emit_table, name_text, say, to_pipe
from store.database import Database
from store.insights import job as read_job
from store.results import Filter, ResultRow, stream

Writer = Callable[[Path, Iterable[ResultRow], int], int]
TABLE_ROWS = 50
BATCH = 5_000  # rows per Parquet row group


def as_json(row: ResultRow) -> dict[str, Any]:
    """A result for JSON and Parquet; a manifest's further columns follow at the end."""
    return {
        "job_id": row.job_id,
        "idx": row.idx,
        "path": name_text(row.path),
        "file_name": row.file_name,
        "member": row.member,
        "status": row.status,
        "label": row.label,
        "score": row.score,
        "topk": row.topk,
        "true_label": row.true_label,
        "model": row.model,
        "error_code": row.error_code,
        "error": row.error,
        "width": row.width,
        "height": row.height,
        "content_hash": row.content_hash,
        "reused": row.reused,
        "id": row.external_id,
        "extra": row.extra,
    }


def _flat(row: ResultRow, top_k: int) -> dict[str, Any]:
    """A result for CSV: top-k as label_1, score_1, … and every further column of its own."""
    record = as_json(row)
    extra, topk = record.pop("extra"), record.pop("topk")
    for n in range(1, top_k + 1):
        entry = topk[n - 1] if n <= len(topk) else {}
        record[f"label_{n}"], record[f"score_{n}"] = entry.get("label"), entry.get("score")
    return record | {name: value for name, value in extra.items() if name not in record}


def write_csv(path: Path, rows: Iterable[ResultRow], top_k: int) -> int:
    """Write CSV: `top_k` labels and scores, and the further columns that the first rows have."""
    with _fresh(path) as file:
        return _write_csv(file, rows, top_k)


def _write_csv(file: TextIO, rows: Iterable[ResultRow], top_k: int) -> int:
    stream_of = iter(rows)
    head = list(islice(stream_of, BATCH))
    names = list(dict.fromkeys(name for row in head for name in _flat(row, top_k)))
    writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    count = 0
    for rows_of in (head, stream_of):
        for row in rows_of:
            writer.writerow(_flat(row, top_k))
            count += 1
    return count


def write_jsonl(path: Path, rows: Iterable[ResultRow], _: int) -> int:
    """Write one JSON object a line; top-k as it is."""
    with _fresh(path) as file:
        count = 0
        for count, row in enumerate(rows, 1):  # noqa: B007  the last count is the answer
            file.write(json.dumps(as_json(row), ensure_ascii=False) + "\n")
        return count


def write_parquet(path: Path, rows: Iterable[ResultRow], _: int) -> int:
    """Write Parquet with zstd. Raises CommandError where pyarrow is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise CommandError("Parquet needs pyarrow: install the extra `parquet`, or write .csv or .jsonl.") from error
    text, number = pa.string(), pa.int64()
    schema = pa.schema(
        [
            *(("job_id", number), ("idx", number), ("path", text), ("file_name", text), ("member", text)),
            *(("status", text), ("label", text), ("score", pa.float64())),
            ("topk", pa.list_(pa.struct([("label", text), ("score", pa.float64())]))),
            *(("true_label", text), ("model", text), ("error_code", text), ("error", text)),
            *(("width", pa.int32()), ("height", pa.int32()), ("content_hash", text), ("reused", pa.bool_())),
            *(("id", text), ("extra", text)),
        ]
    )
    stream_of, count = iter(rows), 0
    with _partial(path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        while batch := [{**as_json(row), "extra": json.dumps(row.extra)} for row in islice(stream_of, BATCH)]:
            writer.write_table(pa.Table.from_pylist(batch, schema))
            count += len(batch)
    return count


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A file that appears under its name only when it is whole, and leaves nothing behind otherwise."""
    partial = path.with_name(path.name + ".part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _fresh(path: Path) -> Iterator[TextIO]:
    with _partial(path) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        yield file


WRITERS: dict[str, Writer] = {
    ".csv": write_csv,
    ".jsonl": write_jsonl,
    ".ndjson": write_jsonl,
    ".parquet": write_parquet,
}


def writer_for(path: Path) -> Writer:
    """The writer for a file's ending. Raises CommandError for one that is not known, or a folder that is not there."""
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise CommandError(f"Expected a file ending in .csv, .jsonl or .parquet, got {path.name!r}.")
    if not path.absolute().parent.is_dir():
        raise CommandError(f"There is no folder {path.absolute().parent} to write {path.name} into.", Exit.NOT_FOUND)
    return writer


def emit_results(
    database: Database, job_id: int, chosen: Filter | None = None, *, out: Path | None = None, json: bool = False
) -> None:
    """Write a job's results to a file, or as JSON lines to stdout, or both."""
    if out is not None:
        count = writer_for(out)(out, stream(database, job_id, chosen), read_job(database, job_id).top_k)
        say(f"{count:,} rows written to {out}")
    if json:
        for row in stream(database, job_id, chosen):
            emit_json(as_json(row))


def emit_format(database: Database, job_id: int, chosen: Filter, form: str) -> None:
    """Print results on stdout as a table (the first rows), CSV or JSONL."""
    rows = stream(database, job_id, chosen)
    if form == "csv":
        with to_pipe():
            _write_csv(sys.stdout, rows, read_job(database, job_id).top_k)
    elif form == "jsonl":
        emit_results(database, job_id, chosen, json=True)
    else:
        head = list(islice(rows, TABLE_ROWS + 1))
        table = ((row.idx, _name(row), row.label or row.error_code, row.score, row.error) for row in head[:TABLE_ROWS])
        emit_table(("item", "file", "label or failure", "score", "why"), table)
        if len(head) > TABLE_ROWS:
            say(f"These are the first {TABLE_ROWS}; --format csv or --out FILE gives all.")


def _name(row: ResultRow) -> str:
    return f"{row.file_name}!/{row.member}" if row.member else row.file_name
