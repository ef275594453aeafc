"""Whatever is in a manifest: entries come out, or an error that a person can read; nothing else."""

import csv
import io
import json
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.sources.entry import Entry
from worker.sources.errors import SourceError
from worker.sources.opening import open_source

WORDS = st.sampled_from(["file_name", "path", "label", "job_id", "idx", "status", "split", "id", "a.jpg", ""])
CELLS = (
    WORDS | st.text(max_size=12) | st.sampled_from(["\0", "\ud800", "/etc/passwd", "a" * 5000, "../x", '"', "\r", "\n"])
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | CELLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CELLS, inner, max_size=3),
    max_leaves=8,
)


def read(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    found, words = [], "?"
    try:
        found = list(islice(open_source([str(path)], cache_dir=path.parent / "cache"), 1000))
    except SourceError as error:
        words = str(error)
    assert words
    assert "Traceback" not in words
    for entry in found:
        check(entry)


def check(entry: Entry) -> None:
    """What a database takes."""
    for text in (entry.label, entry.split, entry.external_id, *(entry.extra or {}).values()):
        assert text is None or (isinstance(text, str) and "\0" not in text)
        assert text is None or text.encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manifests")


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(CELLS, max_size=4), max_size=5), separator=st.sampled_from(",;\t"))
def test_any_table_as_csv(folder: Path, rows: list[list[str]], separator: str) -> None:
    written = io.StringIO(newline="")
    csv.writer(written, delimiter=separator).writerows([["file_name", "label"], *rows])
    read(folder / "any.csv", written.getvalue().encode("utf-8", "surrogatepass"))
    read(folder / "any.csv", "\n".join(separator.join(row) for row in rows).encode("utf-8", "surrogatepass"))


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.dictionaries(WORDS, JSON, max_size=4) | JSON, max_size=4))
def test_any_values_as_json_lines(folder: Path, rows: list[object]) -> None:
    read(folder / "any.jsonl", "\n".join(map(json.dumps, rows)).encode())


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), ending=st.sampled_from(["csv", "tsv", "jsonl", "parquet", "zip", "tar", "tgz"]))
def test_any_bytes_under_any_ending(folder: Path, data: bytes, ending: str) -> None:
    read(folder / f"any.{ending}", data)
