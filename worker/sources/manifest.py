"""A manifest: a table of file names, with labels, splits and whatever else its owner wrote beside them."""
# Names are bytes here, since they need not be text, and pathlib holds only text:
# ruff: noqa: PTH118

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from worker.sources.entry import Entry, look_at, not_empty, pass_over, printable
from worker.sources.errors import BadManifest, UnreadablePath
from worker.sources.rows import Row, read_csv, read_jsonl, read_parquet
from worker.sources.rules import Rules

READERS = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
}

_HALF = re.compile("[\ud800-\udfff]")  # of a character


class ManifestSource:
    """The images that a manifest names.

    `file_name` is required: absolute, or relative to the manifest's folder. `label`, `split` and `id` are taken where
    they are, every other column passes through in `extra`. A named file that is missing is an entry all the same.
    """

    def __init__(self, path: Path, rules: Rules) -> None:
        self.root = path.parent
        self.confined = False
        self.description = f"manifest {printable(str(path))}"
        self.ignored: Counter[str] = Counter()
        self._path = path
        self._rules = rules

    def __iter__(self) -> Iterator[Entry]:
        self.ignored.clear()
        return not_empty(self._entries(), self.description, self.ignored)

    def _entries(self) -> Iterator[Entry]:
        root = os.fsencode(self.root)
        try:
            for line, row in READERS[self._path.suffix.lower()](self._path):
                self._check(line, row)
                path = os.fsencode(row.pop("file_name").removeprefix("./"))
                if not self._rules.admits(path):
                    pass_over(self.ignored, "excluded")
                    continue
                size, mtime_ns = look_at(os.path.join(root, path))
                label, split, external_id = row.pop("label", None), row.pop("split", None), row.pop("id", None)
                yield Entry(path, size, mtime_ns, label or None, split or None, external_id or None, row or None)
        except OSError as error:
            raise UnreadablePath(printable(str(self._path)), error) from error

    def _check(self, line: int, row: Row) -> None:
        """Refuse a row without a file, and text that neither a path nor a database can hold."""
        if not row.get("file_name"):
            raise BadManifest(printable(str(self._path)), "expected a file_name, got an empty one.", line)
        text = "".join([*row, *row.values()])
        if "\0" in text or (not text.isascii() and _HALF.search(text)):
            raise BadManifest(printable(str(self._path)), "expected text, got a NUL or half a character.", line)


def is_manifest(path: str) -> bool:
    """Whether a file is to be read as a manifest, by its extension."""
    return os.fsdecode(path).lower().endswith(tuple(READERS))
