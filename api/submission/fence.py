"""A fence around sources that name files one by one: nothing outside of an allowed root becomes an item."""
# A path may be any bytes here:
# ruff: noqa: PTH118, PTH120

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from api.problems import Problem
from worker.sources.entry import Entry, Source, pass_over, printable

PARENTS = 4096  # folders whose real place is remembered; files mostly come folder by folder


class Fenced:
    """The same entries, below `root`, all of which lie in `bound`; a worker that opens one checks it again.

    root: what the items' paths are relative to: the source's own, or `bound` where entries leave that. private: what
    in `bound` is nobody's to read. Links between the root and a file are resolved here; the file itself may be a link,
    which the worker refuses if it leads out.
    """

    def __init__(self, source: Source, bound: bytes, root: bytes, private: bytes | None = None) -> None:
        self._source = source
        self._bound, self._root, self._private = bound, root, private
        self._given = os.fsencode(source.root)
        self._admits = lru_cache(PARENTS)(self._is_within)
        self.root = Path(os.fsdecode(root))
        self.confined = True
        self.description = source.description
        self.ignored: Counter[str] = source.ignored

    def __iter__(self) -> Iterator[Entry]:
        """Raises Problem root-not-allowed for an entry outside."""
        for entry in self._source:
            yield self._checked(entry)

    def _checked(self, entry: Entry) -> Entry:
        full = os.path.join(self._given, entry.path)
        if b".." in entry.path:
            full = os.path.normpath(full)  # so that its folder is the one that the file lies in
        if not self._admits(os.path.dirname(full)):
            raise Problem(
                "root-not-allowed",
                f"The {self.description} names {printable(entry.path)[:300]!r}, which lies outside of its root.",
            )
        if self._root == self._given and not may_lead_out(entry.path):
            return entry
        path = entry.path if entry.path.startswith(b"/") else os.path.relpath(full, self._root)
        return replace(entry, path=path)

    def _is_within(self, folder: bytes) -> bool:
        """Whether what lies in this folder, wherever it really is, may be read."""
        real = os.path.realpath(folder)
        return is_inside(real, self._bound) and not (self._private and is_inside(real, self._private))


class Without:
    """The same entries but those below `private`: Pixmill's home may lie in a folder that is classified."""

    def __init__(self, source: Source, private: bytes) -> None:
        self._source, self._private = source, private
        self.root, self.confined, self.description = source.root, source.confined, source.description
        self.ignored: Counter[str] = source.ignored

    def __iter__(self) -> Iterator[Entry]:
        root = os.fsencode(self.root)
        for entry in self._source:
            if is_inside(os.path.join(root, entry.path), self._private):
                pass_over(self.ignored, "Pixmill's own")
            else:
                yield entry


def is_inside(path: bytes, folder: bytes) -> bool:
    """Whether a normal, absolute path is this folder or lies in it."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def leads_out(path: bytes, folder: bytes) -> bool:
    """Whether a path, absolute or from this folder, names something outside of it; links are not looked at."""
    return may_lead_out(path) and not is_inside(os.path.normpath(os.path.join(folder, path)), folder)


def may_lead_out(path: bytes) -> bool:
    """Whether a path is absolute or goes up somewhere; cheaper than to make it normal."""
    return path.startswith(b"/") or b".." in path.split(b"/")
