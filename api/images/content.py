"""The bytes of a classified picture: opened again below an allowed root, and compared with what was classified.

What is sent, or made small, is a copy of our own that was hashed while it was made: whatever happens to the file in
between, nobody gets bytes that were not those of the item.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

import blake3

from api.context import Context
from api.images.gate import Shares
from api.images.sending import Sendable
from api.problems import Problem
from models.errors import ImageError
from models.formats import SUPPORTED, sniff
from store.pictures import PictureRow, picture
from store.rows import JobRow
from worker.reading import DIGEST_BYTES
from worker.sources.archive import MAGIC_BYTES, archive_kind
from worker.sources.block import read_block
from worker.sources.cache import ArchiveCache
from worker.sources.zip import read_member

IN_MEMORY = 4 << 20  # bytes of a copy; a larger one is a nameless file on the disk
ROOM = 512 << 20  # bytes of copies that are being sent, half of them for one token; Compose's /tmp has twice that
LEAST = 1 << 20  # what a copy counts for, so that small ones are bounded in number
BLOCK = 1 << 20
MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}
ANY_TYPE = "application/octet-stream"


Hold = Callable[[int], AbstractContextManager[None]]


class Copies:
    """The room that copies take until they are sent: a slow reader keeps one for long."""

    def __init__(self, _: Context) -> None:
        self._shares = Shares(ROOM, "bytes of originals on their way")

    def held(self, token_id: str, size: int) -> AbstractContextManager[None]:
        """Room for a copy of that many bytes. Raises Problem 503."""
        return self._shares.held(token_id, max(size, LEAST))


@dataclass(frozen=True, slots=True)
class Classified:
    """An item that was classified, and so has a content."""

    job: JobRow
    row: PictureRow
    content_hash: bytes

    @property
    def tag(self) -> str:
        """The content's name in hexadecimal digits."""
        return self.content_hash.hex()

    @property
    def file_name(self) -> str:
        """What the picture is called, for people."""
        name = self.row.member or self.row.path.decode("utf-8", "backslashreplace")
        return name.rpartition("/")[2] or "picture"


def classified(here: Context, job: JobRow, idx: int) -> Classified:
    """An item of a job that was classified. Raises Problem 404."""
    row = picture(here.database, job.id, idx)
    if row is None:
        raise Problem("not-found", f"Job {job.id} has no item {idx}.")
    if row.status != "ok" or row.content_hash is None:
        why = f"failed as {row.error_code}" if row.error_code else "is not classified yet"
        raise Problem("not-found", f"Item {idx} of job {job.id} {why}: only classified pictures are shown.")
    return Classified(job, row, row.content_hash)


def copy(here: Context, found: Classified, hold: Hold | None = None) -> Sendable:
    """A checked copy of what was classified, at its start; whoever gets it closes it, and so what `hold` holds for it.

    Raises Problem: root-not-allowed, file-missing, changed, too-large; what `hold` raises.
    """
    descriptor = here.roots.open(found.job.root, found.row.path)
    try:
        return _copied(here, found, descriptor, hold)
    except ImageError as error:
        raise _problem(error) from error
    except OSError as error:
        raise Problem("file-missing", f"Expected to read {found.file_name!r}, got: {error.strerror}.") from error
    finally:
        os.close(descriptor)


def _copied(here: Context, found: Classified, descriptor: int, hold: Hold | None) -> Sendable:
    most = here.settings.max_file_mb << 20
    facts = os.fstat(descriptor)
    if found.row.mtime_ns not in (None, facts.st_mtime_ns):
        raise ImageError("changed", "The file was written after the job was accepted.")
    with _source(here, found, descriptor, most) as (source, start, size):
        if size > most:
            raise ImageError("too_large", f"The picture has {size:,} bytes; the limit is {most:,}.")
        with ExitStack() as held:
            if hold is not None:
                held.enter_context(hold(size))
            target = cast("BinaryIO", held.enter_context(tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)))
            media_type = _fill(found, target, size, _blocks(source, start, size))
            return Sendable(target, size, media_type, held.pop_all().close)


def _fill(found: Classified, target: BinaryIO, size: int, blocks: Iterator[bytes]) -> str:
    """Copy and compare; the media type."""
    hasher = blake3.blake3()
    head, copied = b"", 0
    for block in blocks:
        head = head or block[:64]
        hasher.update(block)
        target.write(block)
        copied += len(block)
    if copied != size or hasher.digest(length=DIGEST_BYTES) != found.content_hash:
        raise ImageError("changed", "The picture is not the one that was classified.")
    target.seek(0)
    name = sniff(head)
    return MEDIA_TYPES[name] if name in SUPPORTED else ANY_TYPE


@contextmanager
def _source(here: Context, found: Classified, descriptor: int, most: int) -> Iterator[tuple[int | bytes, int, int]]:
    """Where the bytes are: an open file or the bytes themselves, their place in it, how many they are."""
    row = found.row
    if row.member is None:
        yield descriptor, 0, os.fstat(descriptor).st_size
        return
    if row.offset is None or row.size is None:
        raise ImageError("changed", "This member of the archive holds no data.")
    path = os.path.join(found.job.root, row.path)  # noqa: PTH118  a name is bytes
    kind = archive_kind(os.pread(descriptor, MAGIC_BYTES, 0), path)
    if kind == "zip":
        data = read_member(descriptor, row.offset, row.size, most)
        yield data, 0, len(data)
    elif kind == "tar":
        yield descriptor, row.offset, row.size
    else:
        with _unpacked(here, path, descriptor) as plain:
            yield plain, row.offset, row.size


@contextmanager
def _unpacked(here: Context, path: bytes, descriptor: int) -> Iterator[int]:
    """The plain form of a compressed TAR that a worker has unpacked: this process does not do that for minutes."""
    cache = ArchiveCache(here.settings.cache_folder / "archives")
    place = cache.place(path, os.fstat(descriptor))
    try:
        plain = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise Problem(
            "file-missing",
            "The compressed archive is not unpacked on this machine; a plain .tar or .zip needs no that.",
        ) from error
    try:
        yield plain
    finally:
        os.close(plain)


def _blocks(source: int | bytes, start: int, size: int) -> Iterator[bytes]:
    """The bytes, in blocks; fewer than `size` where the file ends."""
    for place in range(start, start + size, BLOCK):
        length = min(BLOCK, start + size - place)
        block = source[place : place + length] if isinstance(source, bytes) else read_block(source, place, length)
        yield block
        if len(block) < length:
            return


def _problem(error: ImageError) -> Problem:
    return Problem("too-large" if error.code == "too_large" else "changed", str(error))
