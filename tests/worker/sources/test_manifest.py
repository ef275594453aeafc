import json
import os
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.finding import JPEG, find, write
from worker.sources.entry import Entry
from worker.sources.errors import BadManifest, EmptySource, MissingReader
from worker.sources.opening import open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path, "a.jpg", "sub/b.jpg")


def read(folder: Path, name: str, text: str | bytes) -> list[Entry]:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return list(open_source([str(folder / name)]))


def test_a_csv_names_files_labels_splits_and_more(folder: Path) -> None:
    text = 'file_name,label,split,id,colour\na.jpg,cat,train,17,"red, dark"\nsub/b.jpg,,,,\n/x/gone.jpg,dog,,,blue\n'
    first, second, third = read(folder, "list.csv", text)
    facts = first.path, first.size, first.label, first.split, first.external_id, first.extra
    assert facts == (b"a.jpg", len(JPEG), "cat", "train", "17", {"colour": "red, dark"})
    assert second == Entry(b"sub/b.jpg", len(JPEG), second.mtime_ns)
    assert third == Entry(b"/x/gone.jpg", None, None, "dog", extra={"colour": "blue"})


def test_a_manifest_is_not_confined_to_its_folder(folder: Path) -> None:
    (folder / "list.csv").write_text("file_name\na.jpg\n")
    source = open_source([str(folder / "list.csv")])
    assert (source.root, source.confined) == (folder, False)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", "\ufefffile_name,label\r\na.jpg,cat\r\n"),
        ("list.csv", "label;file_name\ncat;a.jpg\n"),
        ("list.tsv", "file_name\tlabel\na.jpg\tcat\n"),
        ("list.csv", " file_name , label \n./a.jpg,cat\n\n"),
        ("list.jsonl", '{"file_name": "a.jpg", "label": "cat"}\n\n'),
        ("list.ndjson", '{"label": "cat", "file_name": "a.jpg", "id": null}'),
    ],
)
def test_the_usual_dialects_are_read(folder: Path, name: str, text: str) -> None:
    assert [(entry.path, entry.label) for entry in read(folder, name, text)] == [(b"a.jpg", "cat")]


def test_json_values_become_text(folder: Path) -> None:
    line = json.dumps({"file_name": "a.jpg", "label": 7, "id": 12, "score": 0.5, "tags": ["x", "ü"], "none": None})
    (entry,) = read(folder, "list.jsonl", line)
    assert (entry.label, entry.external_id) == ("7", "12")
    assert entry.extra == {"score": "0.5", "tags": '["x", "ü"]'}


def test_text_that_no_database_holds_is_refused(folder: Path) -> None:
    with pytest.raises(BadManifest, match="half a character"):
        read(folder, "list.jsonl", json.dumps({"file_name": "a.jpg", "label": os.fsdecode(b"caf\xe9")}))


def test_parquet_is_read_in_batches(folder: Path) -> None:
    table = pa.table({"file_name": ["a.jpg", "sub/b.jpg"] * 5000, "label": ["cat", None] * 5000, "n": range(10_000)})
    pq.write_table(table, folder / "list.parquet")
    entries = list(open_source([str(folder / "list.parquet")]))
    assert len(entries) == 10_000
    assert (entries[0].path, entries[0].label, entries[0].extra) == (b"a.jpg", "cat", {"n": "0"})
    assert (entries[-1].label, entries[-1].extra) == (None, {"n": "9999"})


@pytest.mark.parametrize(
    ("name", "text", "line", "words"),
    [
        ("a.csv", "", None, "empty file"),
        ("a.csv", "picture,label\na.jpg,cat\n", None, "path, file), found 'picture', 'label'"),
        ("a.csv", "file_name,label,label\na.jpg,1,2\n", None, "stands twice: label"),
        ("a.csv", "file_name,label\na.jpg,cat\nb.jpg\n", 3, "expected 2 fields as in the header, got 1"),
        ("a.csv", "file_name,label\na.jpg,cat,3\n", 2, "got 3"),
        ("a.csv", 'file_name,label\na.jpg,"cat\n', 2, "not CSV"),
        ("a.csv", "file_name,label\na.jpg,cat\n,dog\n", 3, "expected a file_name, got an empty one"),
        ("a.csv", "file_name\na\0.jpg\n", 2, "NUL"),
        ("a.csv", b"file_name\na.jpg\ncaf\xe9.jpg\n", 3, "expected UTF-8, got the byte 0xe9"),
        ("a.csv", b"\xff\xfef\0i\0", 1, "expected UTF-8"),
        ("a.csv", b"file_name\n" + b"x" * 2_000_000, 2, "longer than"),
        ("a.jsonl", '{"file_name": "a.jpg"}\n{"file_name": \n', 2, "not JSON"),
        ("a.jsonl", '{"file_name": "a.jpg"}\n["a.jpg"]\n', 2, "expected one JSON object a line, got list"),
        ("a.jsonl", '{"picture": "a.jpg"}\n', 1, "path, file), found 'picture'"),
        ("a.jsonl", '{"file_name": "\\ud800.jpg"}\n', 1, "half a character"),
        ("a.jsonl", "[" * 100_000, 1, "not JSON"),
        ("a.parquet", b"no parquet", None, "not a Parquet file"),
        ("a.csv", b"file_name,label\rx,y\n", 1, "this is not CSV"),
    ],
)
def test_a_bad_manifest_is_refused_with_its_line(
    folder: Path, name: str, text: str | bytes, line: int | None, words: str
) -> None:
    with pytest.raises(BadManifest) as caught:
        read(folder, name, text)
    assert caught.value.line == line
    assert words in str(caught.value)
    assert (f", line {line}:" in str(caught.value)) is (line is not None)


def test_parquet_without_file_names_tells_its_columns(folder: Path) -> None:
    pq.write_table(pa.table({"image": [b"bytes"], "label": [1]}), folder / "list.parquet")
    with pytest.raises(BadManifest, match="found 'image', 'label'"):
        find(folder / "list.parquet")


def test_parquet_without_its_reader_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "list.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingReader, match=r"pip install 'pixmill\[parquet\]'"):
        find(folder / "list.parquet")


def test_a_manifest_without_rows_is_refused(folder: Path) -> None:
    with pytest.raises(EmptySource, match="0 images"):
        read(folder, "list.csv", "file_name,label\n")


def test_globs_filter_a_manifest(folder: Path) -> None:
    (folder / "list.csv").write_text("file_name\na.jpg\nsub/b.jpg\n")
    assert find(folder / "list.csv", exclude=["sub/*"]) == ["a.jpg"]


def test_a_manifest_streams(folder: Path) -> None:
    (folder / "list.csv").write_text("file_name,label\n" + "a.jpg,cat\n" * 5_000)
    source = open_source([str(folder / "list.csv")])
    tracemalloc.start()
    try:
        assert sum(1 for _ in source) == 5_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300_000  # bytes; the entries together take over a million


@pytest.mark.parametrize("column", ["file_name", "filename", "path", "file"])
def test_the_column_of_paths_may_have_several_names(folder: Path, column: str) -> None:
    (folder / "a.csv").write_text(f"{column},label\nx.jpg,cat\n")
    (entry,) = open_source([str(folder / "a.csv")])
    assert (entry.path, entry.label, entry.extra) == (b"x.jpg", "cat", None)


def test_our_own_results_are_a_manifest_whose_predictions_are_no_truth(folder: Path) -> None:
    header = "job_id,idx,path,file_name,status,label,score,true_label,id"
    (folder / "a.csv").write_text(
        f"{header}\n1,0,/photos/x.jpg,x.jpg,ok,dog,0.9,cat,n7\n1,1,/photos/y.jpg,y.jpg,ok,dog,1,,\n"
    )
    first, second = open_source([str(folder / "a.csv")])
    assert (first.path, first.label, first.external_id, first.extra) == (b"/photos/x.jpg", "cat", "n7", None)
    assert (second.path, second.label) == (b"/photos/y.jpg", None)
