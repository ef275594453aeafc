"""What the user named one by one: files, folders, archives, and globs that no shell has expanded."""
# Names are bytes here, since they need not be text, and pathlib holds only text:
# ruff: noqa: PTH112, PTH113, PTH118, PTH120, PTH208

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from worker.sources.archive import is_archive, list_archive
from worker.sources.cache import ArchiveCache
from worker.sources.entry import Entry, look_at, not_empty, pass_over, printable
from worker.sources.errors import NoSuchPath
from worker.sources.folder import Walk
from worker.sources.patterns import compile_pattern, is_pattern, split_pattern
from worker.sources.rules import Rules, is_hidden


class FilesSource:
    """Files, folders, archives and globs in the order they were named.

    A named file is an entry whatever its extension, as in a shell; so is each file that a glob matches. Folders are
    walked by the rules, a glob with `**` matches files only. paths: absolute; those that exist are no globs.
    """

    def __init__(self, paths: Sequence[str], rules: Rules, cache: ArchiveCache) -> None:
        self._paths = tuple(dict.fromkeys(paths))
        self._rules = rules
        self._cache = cache
        self._root = _common_folder(self._paths)
        self.root = Path(os.fsdecode(self._root))
        self.confined = False
        self.description = _describe(self._paths)
        self.ignored: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Entry]:
        self.ignored.clear()
        return not_empty(self._entries(), self.description, self.ignored)

    def _entries(self) -> Iterator[Entry]:
        for text in self._paths:
            path = os.fsencode(text)
            if os.path.lexists(path) or not is_pattern(text):
                yield from self._named(path)
            else:
                yield from self._matched(text)

    def _named(self, path: bytes) -> Iterator[Entry]:
        """The entries of one path that is no glob."""
        name = self._relative(path)
        if os.path.isdir(path):
            yield from Walk(path, self._prefix(path), self._rules, self.ignored)
        elif not self._rules.admits(name):
            pass_over(self.ignored, "excluded")
        elif is_archive(os.fsdecode(path)) and os.path.isfile(path):
            yield from list_archive(self._root, name, self._rules, self.ignored, self._cache)
        else:
            yield Entry(name, *look_at(path))

    def _matched(self, pattern: str) -> Iterator[Entry]:
        start, names = split_pattern(pattern)
        found = False
        for entry in self._expand(os.fsencode(start), names):
            found = True
            yield entry
        if not found:
            raise NoSuchPath(printable(pattern), "at least one file that matches this glob")

    def _expand(self, folder: bytes, names: list[str]) -> Iterator[Entry]:
        """Match name by name; from the first `**` on, walk and hold the rest against the path."""
        first, *rest = names
        if "**" in first:
            yield from self._walk_matching(folder, "/".join(names))
            return
        matches = compile_pattern(first).fullmatch
        for name in _listed(folder):
            if not matches(os.fsdecode(name)) or (is_hidden(name) and not first.startswith(".")):
                continue
            path = os.path.join(folder, name)
            if not rest:
                yield from self._named(path)
            elif os.path.isdir(path):
                yield from self._expand(path, rest)

    def _walk_matching(self, folder: bytes, pattern: str) -> Iterator[Entry]:
        rules = replace(self._rules, include=(compile_pattern(pattern),), recursive=True)
        for entry in Walk(folder, self._prefix(folder), rules, self.ignored):
            if not self._rules.include or self._rules.admits(entry.path):
                yield entry

    def _relative(self, path: bytes) -> bytes:
        """The path below the root, which holds all of them; nothing for the root itself."""
        return path.removeprefix(self._root).removeprefix(b"/")

    def _prefix(self, folder: bytes) -> bytes:
        name = self._relative(folder)
        return name + b"/" if name else b""


def _listed(folder: bytes) -> list[bytes]:
    """The names in a folder, sorted; none where it is no folder or cannot be listed: then nothing matches there."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _common_folder(paths: Sequence[str]) -> bytes:
    """The deepest folder that holds all of them: a folder itself where it is named alone."""
    folders = {_folder_of(path) for path in paths}
    return os.fsencode(os.path.commonpath(sorted(folders)))


def _folder_of(path: str) -> str:
    if os.path.isdir(path):
        return path
    if is_pattern(path) and not os.path.lexists(path):
        return split_pattern(path)[0]
    return os.path.dirname(path)


def _describe(paths: Sequence[str]) -> str:
    if len(paths) == 1:
        return printable(paths[0])
    return f"the {len(paths):,} paths given"
