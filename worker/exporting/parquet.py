"""Parquet with zstd, written row group by row group into anything that takes bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from itertools import islice
from typing import Any, BinaryIO, Literal

from worker.exporting.columns import BATCH, Row, record_of

Kind = Literal["results", "items"]


class NoParquet(Exception):
    """pyarrow, which writes Parquet, is not installed."""

    def __init__(self) -> None:
        super().__init__("Parquet needs pyarrow: install the extra `parquet`, or write .csv or .jsonl.")


def has_parquet() -> bool:
    """Whether Parquet can be written here; pyarrow is not imported for that."""
    return find_spec("pyarrow") is not None


def write_parquet(file: BinaryIO, rows: Iterable[Row], kind: Kind = "results") -> int:
    """Write rows of a kind into an open file, which need not be seekable; returns how many. Raises NoParquet."""
    if not has_parquet():
        raise NoParquet
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _SCHEMAS[kind](pa)
    stream, count = iter(rows), 0
    with pq.ParquetWriter(pa.PythonFile(_Counted(file), mode="w"), schema, compression="zstd") as writer:
        while batch := [_record(row) for row in islice(stream, BATCH)]:
            writer.write_table(pa.Table.from_pylist(batch, schema))
            count += len(batch)
    return count


def _record(row: Row) -> dict[str, Any]:
    return {**record_of(row), "extra": list(row.extra.items())}


def _of_results(pa: Any) -> Any:
    text, number = pa.string(), pa.int64()
    return pa.schema(
        [
            *(("job_id", number), ("idx", number), ("path", text), ("file_name", text), ("member", text)),
            *(("status", text), ("label", text), ("score", pa.float64())),
            ("topk", pa.list_(pa.struct([("label", text), ("score", pa.float64())]))),
            *(("true_label", text), ("model", text), ("error_code", text), ("error", text)),
            *(("width", pa.int32()), ("height", pa.int32()), ("content_hash", text), ("reused", pa.bool_())),
            *(("agrees", pa.bool_()), ("correction", text), ("created_at", text)),
            *(("id", text), ("extra", pa.map_(text, text))),
        ]
    )


def _of_items(pa: Any) -> Any:
    text, number = pa.string(), pa.int64()
    return pa.schema(
        [
            *(("job_id", number), ("idx", number), ("path", text), ("file_name", text), ("member", text)),
            *(("size", number), ("modified_at", text), ("true_label", text), ("split", text), ("status", text)),
            *(("label", text), ("score", pa.float64()), ("error_code", text), ("correction", text)),
            *(("id", text), ("extra", pa.map_(text, text))),
        ]
    )


_SCHEMAS: dict[Kind, Callable[[Any], Any]] = {"results": _of_results, "items": _of_items}


class _Counted:
    """A file that knows how much was written: Parquet asks for its place, which a pipe does not have."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._place = file, 0

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._place += len(data)
        return len(data)

    def tell(self) -> int:
        return self._place

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Nothing: who opened the file closes it."""
