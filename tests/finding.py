"""Short ways to make folders and to list what a source finds in them."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Unpack

import pytest

from tests.pictures import jpeg
from worker.reading import Location
from worker.sources.entry import Entry, Source
from worker.sources.opening import Options, open_source

NOBODY = 65534
JPEG = jpeg(quality=50)


def write(folder: Path, *names: str, data: bytes = JPEG) -> Path:
    """Write files with these bytes, with the folders that they need."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def find(*paths: Path | str, **options: Unpack[Options]) -> list[str]:
    """The paths, or member names, that a source finds there, in its order."""
    return names(open_source([str(path) for path in paths], **options))


def names(source: Iterable[Entry]) -> list[str]:
    return [entry.member or os.fsdecode(entry.path) for entry in source]


def location(source: Source, entry: Entry) -> Location:
    """Where an entry is to be read, as it is frozen when the job is accepted."""
    return Location(
        os.fsencode(source.root),
        entry.path,
        source.confined,
        entry.size,
        entry.mtime_ns,
        entry.member,
        entry.offset,
    )


@contextmanager
def without_privileges(*shown: Path) -> Iterator[None]:
    """Go on as a user who may read only what everyone may; skips where that user cannot even reach `shown`."""
    if os.geteuid() != 0:
        yield
        return
    for path in (parent for folder in shown for parent in (folder, *folder.parents)):
        if path.stat().st_mode & 0o001 == 0:
            pytest.skip(f"another user cannot reach {path}")
    try:
        os.seteuid(NOBODY)
    except OSError as error:
        pytest.skip(f"root cannot become another user here: {error}")
    try:
        yield
    finally:
        os.seteuid(0)
