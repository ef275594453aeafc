"""One found image, and what every source of them looks like."""
# Names are bytes here, since they need not be text, and pathlib holds only text:
# ruff: noqa: PTH116

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from worker.sources.errors import EmptySource

MAX_REASONS = 200  # distinct keys of `ignored`; a folder with a million extensions must not grow it without end


@dataclass(frozen=True, slots=True)
class Entry:
    """One found image, to be frozen as an item.

    path: as the operating system has it (os.fsencode), '/'-separated, relative to the source's root; a file that the
    user named outside of the root keeps its absolute path, so `os.path.join(root, path)` opens it either way.
    size, mtime_ns: of the file, links followed; both None when it is not a plain file or could not be looked at.
    In an archive `path` is the archive, `member` the name inside it (printable, for people), `size` the member's,
    `mtime_ns` the archive's, and `offset` finds the member: its data in a TAR, its record in the directory of a ZIP;
    None is a member that holds no data, such as a link.
    """

    path: bytes
    size: int | None
    mtime_ns: int | None
    label: str | None = None
    split: str | None = None
    external_id: str | None = None
    extra: dict[str, str] | None = None
    member: str | None = None
    offset: int | None = None


class Source(Protocol):
    """Something to iterate for entries, in an order that is the same each time.

    root: absolute; the entries are relative to it.
    confined: a link that leads out of root is refused when it is opened. True for a folder, False for what the user
    named one by one, and for a folder whose links are to be followed.
    description: "folder /data/photos", for people.
    ignored: filled while iterating: what was passed over and why, or its extension.
    Iterating raises SourceError, and EmptySource where nothing was found.
    """

    root: Path
    confined: bool
    description: str
    ignored: Counter[str]

    def __iter__(self) -> Iterator[Entry]:
        """Find the entries, one at a time."""
        ...


def look_at(path: bytes) -> tuple[int | None, int | None]:
    """Size and modification time in ns of a plain file, links followed; (None, None) for anything else, or nothing."""
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return None, None
    return (facts.st_size, facts.st_mtime_ns) if stat.S_ISREG(facts.st_mode) else (None, None)


def pass_over(ignored: Counter[str], reason: str) -> None:
    """Count what was passed over, under "anything else" once there are very many reasons."""
    ignored[reason if reason in ignored or len(ignored) < MAX_REASONS else "anything else"] += 1


def not_empty(entries: Iterator[Entry], description: str, ignored: Counter[str]) -> Iterator[Entry]:
    """The same entries. Raises EmptySource if there is none."""
    first = next(entries, None)
    if first is None:
        raise EmptySource(description, ignored)
    yield first
    yield from entries


def printable(name: bytes | str) -> str:
    """A file name as text that any database and terminal takes: what is not UTF-8, and NUL, is written as an escape."""
    raw = os.fsencode(name) if isinstance(name, str) else name
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
