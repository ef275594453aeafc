"""The rows of a table in CSV, TSV, JSON lines or Parquet, one at a time, every value as text."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from worker.sources.entry import printable
from worker.sources.errors import BadManifest, MissingReader

Row = dict[str, str]

SEPARATORS = (",", ";", "\t")
# What the column with the paths may be called, the best first.
NAMES = ("file_name", "filename", "path", "file")
# The columns by which a table is one of our own results: there `label` is a prediction, and `path` is whole.
OWN_RESULTS = frozenset({"job_id", "idx", "path", "file_name", "status"})

_LONGEST_LINE = 1 << 20  # bytes; a longer one is no line of a manifest but another kind of file
_PARQUET_ROWS = 4096  # read at a time


def read_csv(path: Path) -> Iterator[tuple[int, Row]]:
    """Each row with the number of the line that it ends on; empty fields are left out.

    The separator is the first of comma, semicolon and tab with which the header names the files. Raises BadManifest.
    """
    lines = _Lines(path)
    header_line = next(iter(lines), None)
    if header_line is None:
        raise BadManifest(lines.name, "expected a header with a file_name column, got an empty file.")
    try:
        separator, header = _header(header_line)
    except csv.Error as error:
        raise BadManifest(lines.name, f"this is not CSV: {error}.", lines.number) from error
    _check_columns(lines.name, header)
    table = csv.reader(lines, delimiter=separator, strict=True)
    try:
        for fields in table:
            if not fields:
                continue
            if len(fields) != len(header):
                problem = f"expected {len(header)} fields as in the header, got {len(fields)}."
                raise BadManifest(lines.name, problem, lines.number)
            yield lines.number, _understood({name: field for name, field in zip(header, fields, strict=True) if field})
    except csv.Error as error:
        raise BadManifest(lines.name, f"this is not CSV: {error}.", lines.number) from error


def read_jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    """Each object with its line number; null is left out, other values are written as JSON writes them."""
    lines = _Lines(path)
    for line in lines:
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadManifest(lines.name, f"this is not JSON: {error}.", lines.number) from error
        if not isinstance(value, dict):
            problem = f"expected one JSON object a line, got {type(value).__name__}."
            raise BadManifest(lines.name, problem, lines.number)
        if not any(name in value for name in NAMES):
            raise _no_file_name(lines.name, list(value), lines.number)
        yield lines.number, _understood(_row(value))


def read_parquet(path: Path) -> Iterator[tuple[int, Row]]:
    """Each row with its number, counted from 1; nulls are left out."""
    name = printable(str(path))
    try:
        import pyarrow  # here, not above: an optional package, and a slow one to load
        import pyarrow.parquet
    except ImportError as error:
        problem = "reading Parquet needs pyarrow. Install it with `pip install 'pixmill[parquet]'`, or write CSV."
        raise MissingReader(name, problem) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            _check_columns(name, table.schema_arrow.names)
            number = 0
            for batch in table.iter_batches(batch_size=_PARQUET_ROWS):
                for value in batch.to_pylist():
                    number += 1
                    yield number, _understood(_row(value))
    except (pyarrow.ArrowException, ValueError, OverflowError, TypeError) as error:
        raise BadManifest(name, f"this is not a Parquet file that can be read: {error}") from error
    except OSError as error:
        if error.errno is not None:  # of the disk; damaged pages raise one without a number
            raise
        raise BadManifest(name, f"this is not a Parquet file that can be read: {error}") from error


class _Lines:
    """A file's lines as text; `number` is the last one's. Raises BadManifest for what is not UTF-8, or no line."""

    def __init__(self, path: Path) -> None:
        self.name = printable(str(path))
        self.number = 0
        self._lines = self._read(path)

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def _read(self, path: Path) -> Iterator[str]:
        with path.open("rb") as file:
            while line := file.readline(_LONGEST_LINE + 1):
                self.number += 1
                if len(line) > _LONGEST_LINE:
                    raise BadManifest(self.name, f"the line is longer than {_LONGEST_LINE:,} bytes.", self.number)
                yield self._decode(line)

    def _decode(self, line: bytes) -> str:
        try:
            return line.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            problem = f"expected UTF-8, got the byte 0x{line[error.start]:02x}. Save the file as UTF-8."
            raise BadManifest(self.name, problem, self.number) from error


def _header(line: str) -> tuple[str, list[str]]:
    """The separator and the column names."""
    headers = {separator: _split(line, separator) for separator in SEPARATORS}
    named = [separator for separator, names in headers.items() if _is_named(names)]
    separator = named[0] if named else max(headers, key=lambda candidate: len(headers[candidate]))
    return separator, headers[separator]


def _split(line: str, separator: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([line], delimiter=separator), [])]


def _check_columns(manifest: str, names: Sequence[str]) -> None:
    if not _is_named(names):
        raise _no_file_name(manifest, names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadManifest(manifest, f"a column name stands twice: {', '.join(twice)}.")


def _is_named(names: Iterable[str]) -> bool:
    return not set(NAMES).isdisjoint(names)


def _understood(row: Row) -> Row:
    """A row with its path under `file_name` and nothing but a true label under `label`."""
    if row.keys() >= OWN_RESULTS:
        kept = {"file_name": row["path"], "label": row.get("true_label"), "id": row.get("id")}
        return {name: value for name, value in kept.items() if value}
    found = next((name for name in NAMES if name in row), None)
    if found in (None, "file_name"):
        return row
    return {"file_name" if name == found else name: value for name, value in row.items()}


def _no_file_name(manifest: str, names: Iterable[str], line: int | None = None) -> BadManifest:
    found = ", ".join(repr(name) for name in names) or "none"
    return BadManifest(
        manifest,
        f"expected a column 'file_name' (or filename, path, file), found {found}. Rename the one with the paths.",
        line,
    )


def _row(value: dict[str, Any]) -> Row:
    return {str(key): _text(item) for key, item in value.items() if item is not None}


def _text(value: object) -> str:
    """A value as people write it: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
