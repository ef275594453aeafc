"""Compressed TAR files, unpacked once so that any member can be read at its place."""
# Names are bytes here, since they need not be text, and pathlib holds only text:
# ruff: noqa: PTH100, PTH123

import bz2
import errno
import fcntl
import gzip
import hashlib
import lzma
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import platformdirs

from worker.sources.entry import printable
from worker.sources.errors import BadArchive, UnreadablePath

MAX_UNPACKED = 256 << 30  # bytes of one archive, and of the whole cache
LEAST_FREE = 256 << 20  # bytes that unpacking leaves on the disk
_CHUNK = 1 << 20
_LOOK_EVERY = 16  # chunks between two looks at the disk
_MAGICS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}


class ArchiveCache:
    """A folder of plain TAR files, each unpacked from a compressed one and named after its path, size and time.

    Processes may share it: a lock per archive lets one unpack and the others wait; a file appears under its name only
    when it is whole. The least recently used files go when the folder outgrows `max_bytes`; a single one may not have
    more than `most` either.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = MAX_UNPACKED, most: int = MAX_UNPACKED) -> None:
        self.folder = folder or platformdirs.user_cache_path("pixmill") / "archives"
        self.max_bytes = max_bytes
        self._most = min(most, max_bytes)
        self.ticks = 0  # grows while something is unpacked, which may take minutes: a sign of life

    def unpacked(self, path: bytes, facts: os.stat_result) -> Path:
        """The plain form of the archive at `path`, unpacked now if it is not there yet.

        facts: of the compressed file, so that a changed archive is unpacked anew. Raises UnreadablePath, and BadArchive
        where it is damaged, larger than `max_bytes`, or there is no room for it.
        """
        plain = self.place(path, facts)
        if not _touch(plain):
            with self._lock(plain):
                if not _touch(plain):
                    self._unpack(path, plain)
                    self._trim(keep=plain)
        return plain

    def place(self, path: bytes, facts: os.stat_result) -> Path:
        """Where the plain form of this archive is, once it is unpacked."""
        key = f"{facts.st_size}:{facts.st_mtime_ns}:".encode() + os.path.abspath(path)
        return self.folder / f"{hashlib.blake2b(key, digest_size=16).hexdigest()}.tar"

    def _unpack(self, path: bytes, plain: Path) -> None:
        part = plain.with_suffix(".part")  # the lock is ours, so an older one is what a killed process left
        try:
            with open(path, "rb") as packed, part.open("wb") as target:
                for _ in _decompress(packed, target, path, self._most):
                    self.ticks += 1
                    self._leave_room(path)
            part.rename(plain)
        except OSError as error:
            raise self._explain(error, path) from error
        finally:
            part.unlink(missing_ok=True)

    def _leave_room(self, path: bytes) -> None:
        """Raise BadArchive rather than fill the disk that others work on."""
        if self.ticks % _LOOK_EVERY == 0 and shutil.disk_usage(self.folder).free < LEAST_FREE:
            raise BadArchive(printable(path), f"no room to unpack it in {self.folder}. Make room there.")

    def _explain(self, error: OSError, path: bytes) -> BadArchive | UnreadablePath:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return BadArchive(printable(path), f"no room to unpack it in {self.folder}. Make room there.")
        return UnreadablePath(error.filename or printable(path), error)

    def _trim(self, keep: Path) -> None:
        """Remove the least recently used files until the rest fits; who reads one still has it open."""
        used = sorted((file.stat().st_mtime_ns, file.stat().st_size, file) for file in self.folder.glob("*.tar"))
        total = sum(size for _, size, _ in used)
        for _, size, file in used:
            if total <= self.max_bytes:
                break
            if file != keep:
                file.unlink(missing_ok=True)
                total -= size

    @contextmanager
    def _lock(self, plain: Path) -> Iterator[None]:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the images may be private
            descriptor = os.open(plain.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UnreadablePath(str(self.folder), error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def compression(head: bytes) -> str | None:
    """How a file is compressed, by its first bytes: gzip, bzip2, xz or None."""
    return next((name for magic, name in _MAGICS.items() if head.startswith(magic)), None)


def _decompress(packed: BinaryIO, target: BinaryIO, path: bytes, max_bytes: int) -> Iterator[None]:
    """Unpack; yields after each chunk."""
    written = 0
    try:
        with _stream(packed) as stream:
            while chunk := stream.read(_CHUNK):
                written += len(chunk)
                if written > max_bytes:
                    problem = f"it unpacks to more than {max_bytes:,} bytes. Unpack it yourself, then name the folder."
                    raise BadArchive(printable(path), problem)
                target.write(chunk)
                yield
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise _damaged(path, written, error) from error
    except OSError as error:
        if error.errno is not None:  # of the disk; damaged gzip and bzip2 data raise one without a number
            raise
        raise _damaged(path, written, error) from error


def _stream(packed: BinaryIO) -> gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    name = compression(packed.read(6))
    packed.seek(0)
    if name == "bzip2":
        return bz2.BZ2File(packed)
    return lzma.LZMAFile(packed) if name == "xz" else gzip.GzipFile(fileobj=packed)


def _damaged(path: bytes, written: int, error: Exception) -> BadArchive:
    return BadArchive(printable(path), f"it is damaged or cut short after {written:,} bytes ({error}). Fetch it again.")


def _touch(file: Path) -> bool:
    """Mark as used now; whether it is there."""
    with suppress(OSError):  # where it is not absent but unreachable, making the folder says why
        os.utime(file)
        return True
    return False
