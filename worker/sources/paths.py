"""A list of paths on standard input, as `find` writes it: one a line, or separated by NUL."""
# Names are bytes here, since they need not be text, and pathlib holds only text:
# ruff: noqa: PTH118

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from models.formats import sniff
from worker.sources.entry import Entry, look_at, not_empty, pass_over
from worker.sources.errors import BadList
from worker.sources.rules import Rules

_CHUNK = 1 << 16  # bytes, more than the longest path: a NUL is in the first chunk, or there is none
_LONGEST_NAME = 1 << 16


class PathListSource:
    """The files whose paths come in on a stream, relative ones counted from `base`; it can be iterated once.

    A path that leads nowhere is an entry all the same: the list may be older than the folder.
    """

    def __init__(self, stream: BinaryIO, base: Path, rules: Rules) -> None:
        self.root = base
        self.confined = False
        self.description = "the list on standard input"
        self.ignored: Counter[str] = Counter()
        self._stream = stream
        self._rules = rules

    def __iter__(self) -> Iterator[Entry]:
        self.ignored.clear()
        return not_empty(self._entries(), self.description, self.ignored)

    def _entries(self) -> Iterator[Entry]:
        root = os.fsencode(self.root)
        inside = os.path.join(root, b"")
        for name in split_paths(self._stream):
            path = name.removeprefix(inside).removeprefix(b"./")
            if not path:
                continue
            if not self._rules.admits(path):
                pass_over(self.ignored, "excluded")
                continue
            yield Entry(path, *look_at(os.path.join(root, path)))


def split_paths(stream: BinaryIO) -> Iterator[bytes]:
    """The paths in a stream, split at NUL where there is one, else at line ends. Raises BadList for anything else."""
    chunk = stream.read(_CHUNK)
    picture = sniff(chunk)
    if picture in ("JPEG", "PNG", "GIF", "WEBP", "TIFF"):
        raise BadList(f"Expected a list of paths on standard input, got a {picture} picture. Name the file instead.")
    separator = b"\0" if b"\0" in chunk else b"\n"
    rest, number = b"", 0
    while chunk:
        *names, rest = (rest + chunk).split(separator)
        for name in names:
            number += 1
            yield from _checked(name, separator, number)
        if len(rest) > _LONGEST_NAME:
            raise _too_long(number + 1)
        chunk = stream.read(_CHUNK)
    yield from _checked(rest, separator, number + 1)


def _checked(name: bytes, separator: bytes, number: int) -> Iterator[bytes]:
    """The name, or nothing where it is empty."""
    if separator == b"\n":
        name = name.removesuffix(b"\r")
        if b"\0" in name:
            raise BadList(f"Expected a path a line on standard input, got a NUL byte in line {number:,}.")
    if len(name) > _LONGEST_NAME:
        raise _too_long(number)
    if name:
        yield name


def _too_long(number: int) -> BadList:
    return BadList(f"Expected paths on standard input, got {_LONGEST_NAME:,} bytes without an end at path {number:,}.")
