"""The bytes of one image, read from wherever it lies, or the reason why not.

Nothing here waits on what is no plain file: everything is opened without blocking and asked what it is before it is
read. `/dev/zero`, pipes, folders and files that are too large cost a few system calls.
"""
# Names are bytes here, since they need not be text, and pathlib holds only text:
# ruff: noqa: PTH115, PTH116, PTH118

import os
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import blake3

from models.errors import ImageError
from worker.refusals import explain, not_a_file, refuse_changed, refuse_rewritten
from worker.sources.archive import MAGIC_BYTES, archive_kind
from worker.sources.block import read_block
from worker.sources.cache import ArchiveCache
from worker.sources.entry import printable
from worker.sources.errors import SourceError
from worker.sources.zip import read_member

MAX_BYTES = 256 << 20  # of one image file
DIGEST_BYTES = 16

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class Location:
    """Where an item's bytes are, and what was frozen about them; see worker.sources.entry.Entry for the fields."""

    root: bytes
    path: bytes
    confined: bool
    size: int | None
    mtime_ns: int | None
    member: str | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of an image. `digest`: BLAKE3, 16 bytes. `mtime_ns`: of the file, or of the archive that holds it."""

    data: bytes
    size: int
    mtime_ns: int
    digest: bytes


class Reader:
    """Reads locations; safe to use from many threads at once."""

    def __init__(self, max_bytes: int = MAX_BYTES, cache_dir: Path | None = None) -> None:
        self._max_bytes = max_bytes
        self._cache = ArchiveCache(cache_dir)
        self._real_root = lru_cache(maxsize=64)(os.path.realpath)

    def read(self, location: Location) -> Content:
        """The bytes of an image.

        Raises ImageError: missing, broken_link, not_a_file, permission, outside_root, name_too_long, empty, too_large,
        changed, io_error; for a member of an archive also unsupported and corrupt.
        """
        path = os.path.join(location.root, location.path)
        if location.size is None and location.member is None:
            _refuse_special(path)
        descriptor = _open(path)
        try:
            facts = os.fstat(descriptor)
            self._check(location, path, descriptor, facts)
            if location.member is None:
                data = self._read_whole(location, descriptor, facts)
            else:
                data = self._read_member(location, path, descriptor, facts)
        except OSError as error:
            raise explain(error, path) from error
        finally:
            os.close(descriptor)
        if not data:
            raise ImageError("empty", "The file is empty (0 bytes).")
        digest = blake3.blake3(data).digest(length=DIGEST_BYTES)
        return Content(data, len(data), facts.st_mtime_ns, digest)

    def unpack(self, location: Location) -> None:
        """Have a compressed archive that holds the location unpacked, if there is one. Raises ImageError."""
        if location.member is None or location.offset is None:
            return
        path = os.path.join(location.root, location.path)
        descriptor = _open(path)
        try:
            facts = os.fstat(descriptor)
            self._check(location, path, descriptor, facts)
            if archive_kind(os.pread(descriptor, MAGIC_BYTES, 0), path) not in ("zip", "tar"):
                self._cache.unpacked(path, facts)
        except SourceError as error:
            raise ImageError("io_error", str(error)) from error
        except OSError as error:
            raise explain(error, path) from error
        finally:
            os.close(descriptor)

    @property
    def ticks(self) -> int:
        """Grows while a compressed archive is unpacked, which may take minutes: a sign of life."""
        return self._cache.ticks

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget what was learned about roots; the reader can go on being used."""
        self._real_root.cache_clear()

    def _check(self, location: Location, path: bytes, descriptor: int, facts: os.stat_result) -> None:
        """Refuse what is no plain file, or lies outside of the root that it is confined to."""
        if not stat.S_ISREG(facts.st_mode):
            raise not_a_file(facts.st_mode)
        if not location.confined:
            return
        root = self._real_root(location.root)
        real = _real_path(descriptor, path, facts)
        if not real.startswith(root if root.endswith(b"/") else root + b"/"):
            raise ImageError("outside_root", f"The link leads out of the folder, to {printable(real)}: not followed.")

    def _read_whole(self, location: Location, descriptor: int, facts: os.stat_result) -> bytes:
        refuse_changed("after the job was accepted", location.size, facts.st_size)
        refuse_rewritten("after the job was accepted", location.mtime_ns, facts.st_mtime_ns)
        self._refuse_large(facts.st_size)
        data = read_block(descriptor, 0, facts.st_size)
        now = os.fstat(descriptor)
        refuse_changed("while it was read", facts.st_size, now.st_size if len(data) == facts.st_size else len(data))
        refuse_rewritten("while it was read", facts.st_mtime_ns, now.st_mtime_ns)
        return data

    def _read_member(self, location: Location, path: bytes, descriptor: int, facts: os.stat_result) -> bytes:
        refuse_rewritten("after the job was accepted", location.mtime_ns, facts.st_mtime_ns, "archive")
        if location.offset is None or location.size is None:
            raise ImageError(
                "not_a_file", "In the archive this is a link, a device or a file with holes. Unpack it first."
            )
        kind = archive_kind(os.pread(descriptor, MAGIC_BYTES, 0), path)
        if kind == "zip":
            return read_member(descriptor, location.offset, location.size, self._max_bytes)
        self._refuse_large(location.size)
        if kind == "tar":
            return _read_span(descriptor, location.offset, location.size)
        try:
            plain = _open(os.fsencode(self._cache.unpacked(path, facts)))
        except SourceError as error:
            raise ImageError("io_error", str(error)) from error
        try:
            return _read_span(plain, location.offset, location.size)
        finally:
            os.close(plain)

    def _refuse_large(self, size: int) -> None:
        if size > self._max_bytes:
            raise ImageError("too_large", f"The file is {size:,} bytes; the limit is {self._max_bytes:,}.")


def _open(path: bytes) -> int:
    try:
        return os.open(path, _FLAGS)
    except OSError as error:
        raise explain(error, path) from error
    except ValueError as error:
        raise ImageError("missing", "No file can have this path: it holds a NUL byte.") from error


def _refuse_special(path: bytes) -> None:
    """Do not even open what was no plain file when it was found: opening alone can move a tape or arm a watchdog."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # opening it will say why
    if not stat.S_ISREG(mode):
        raise not_a_file(mode)


def _read_span(descriptor: int, offset: int, size: int) -> bytes:
    data = read_block(descriptor, offset, size)
    if len(data) < size:
        raise ImageError("corrupt", f"The archive ends within the file: expected {size:,} bytes, got {len(data):,}.")
    return data


def _real_path(descriptor: int, path: bytes, facts: os.stat_result) -> bytes:
    """Where the open file really is: told by the kernel, so that no link can be swapped between asking and reading."""
    try:
        return os.readlink(b"/proc/self/fd/%d" % descriptor)
    except OSError:
        real = os.path.realpath(path)
        found = os.stat(real)
        if (found.st_dev, found.st_ino) != (facts.st_dev, facts.st_ino):
            raise ImageError("changed", "Another file took its place while it was read.") from None
        return real
