"""Files on their way: which ones are sent, and under which names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True)
class Sending:
    """One file to send, under a relative name with `/` between its folders."""

    path: Path
    name: bytes

    def open(self) -> IO[bytes]:
        """Open the file. Raises OSError."""
        return self.path.open("rb")


def files_of(paths: Sequence[str | Path]) -> Iterator[Sending]:
    """The files among these paths, and those in the folders among them, each under a name of its own."""
    taken: set[bytes] = set()
    for path in map(Path, paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if not file.is_dir():
                name = os.fsencode(file.relative_to(path) if path.is_dir() else file.name)
                yield Sending(file, _own(name, taken))


def _own(name: bytes, taken: set[bytes]) -> bytes:
    """A name that no file before it has."""
    own, number = name, 2
    while own in taken:
        own, number = b"%d/%s" % (number, name), number + 1
    taken.add(own)
    return own
