"""Files on their way: which ones are sent, and under which names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from api.client.errors import NotReadable


@dataclass(frozen=True, slots=True)
class Sending:
    """One file to send, under a relative name with `/` between its folders."""

    path: Path
    name: bytes

    def open(self) -> IO[bytes]:
        """Open the file. Raises OSError."""
        return self.path.open("rb")


def why_not(file: Path, root: Path | None) -> str | None:
    """Why a file is not sent, or None: it is none, cannot be read, or leads out of the folder `root` by a link."""
    try:
        real = file.resolve(strict=True)
        if root is not None and not real.is_relative_to(root.resolve()):
            return f"is a link out of {root}"
        if not stat.S_ISREG(real.stat().st_mode):
            return "is no plain file"
        with real.open("rb"):
            return None
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def files_of(paths: Sequence[str | Path]) -> Iterator[Sending]:
    """The files among these paths, and those in the folders among them, each under a name of its own.

    Of folders, what cannot be read and links that lead out of them are left out. Raises NotReadable for a path itself.
    """
    taken: set[bytes] = set()
    for path in map(Path, paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            why = None if file.is_dir() else why_not(file, path if path.is_dir() else None)
            if why is not None and not path.is_dir():
                raise NotReadable(f"{file} {why}.")
            if why is None and not file.is_dir():
                name = os.fsencode(file.relative_to(path) if path.is_dir() else file.name)
                yield Sending(file, _own(name, taken))


def _own(name: bytes, taken: set[bytes]) -> bytes:
    """A name that no file before it has."""
    own, number = name, 2
    while own in taken:
        own, number = b"%d/%s" % (number, name), number + 1
    taken.add(own)
    return own
