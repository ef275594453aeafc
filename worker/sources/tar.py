"""A plain TAR file: its members with the place of their data, in the archive's order."""

import os
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from models.formats import HEAD_BYTES
from worker.sources.block import read_block
from worker.sources.errors import BadArchive
from worker.sources.member import Member

_LONGEST_HEADER = 1 << 20  # bytes of a long name or of attributes; a larger one is damage or an attack
_BROKEN = (tarfile.TarError, ValueError, ArithmeticError, LookupError, RecursionError)  # what parsing damage raises


class TarListing:
    """The members of an open TAR file.

    The standard library parses each header; the loop is ours, because its own keeps all members in memory and takes a
    damaged header in the middle for the archive's end, which would lose images without a word.
    """

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file = file
        self._path = path
        self._total = os.fstat(file.fileno()).st_size

    def __iter__(self) -> Iterator[Member]:
        for info in self._infos():
            if info.isdir():
                continue
            name = info.name.encode("utf-8", "surrogateescape")
            if not info.isreg() or info.issparse():
                yield Member(name, 0, None)
                continue
            if info.offset_data + info.size > self._total:
                raise BadArchive(self._path, f"it is cut short within {info.name!r}. Fetch it again.")
            yield Member(name, info.size, info.offset_data)

    def head(self, member: Member) -> bytes:
        """The member's first bytes."""
        if member.offset is None:
            return b""
        return read_block(self._file.fileno(), member.offset, min(member.size, HEAD_BYTES))

    def _infos(self) -> Iterator[tarfile.TarInfo]:
        headers = _Headers(self._file)
        try:
            tar = tarfile.TarFile(fileobj=headers, mode="r", encoding="utf-8", errors="surrogateescape")
        except _BROKEN as error:
            raise BadArchive(self._path, f"expected a TAR file, got something else ({error}).") from error
        place = tar.offset = 0
        while (info := self._next(tar, place)) is not None:
            if info.size < 0 or tar.offset <= place:  # it would lead back, and round in a circle
                raise self._damaged(place, "a size below zero")
            yield info
            place = tar.offset

    def _next(self, tar: tarfile.TarFile, place: int) -> tarfile.TarInfo | None:
        """The header at this place, or None at the archive's end: no more bytes, or a block of zeros."""
        if place > self._total + tarfile.BLOCKSIZE:
            raise self._damaged(self._total, "it ends within a member")
        self._file.seek(place)
        try:
            return tarfile.TarInfo.fromtarfile(tar)
        except _BROKEN as error:
            block = read_block(self._file.fileno(), place, tarfile.BLOCKSIZE)
            if not block.strip(b"\0"):
                return None
            raise self._damaged(place, str(error)) from error

    def _damaged(self, place: int, reason: str) -> BadArchive:
        problem = f"it is damaged at byte {place:,} ({reason}). Fetch it again, or unpack what can be saved."
        return BadArchive(self._path, problem)


class _Headers:
    """The file as the standard library's parser sees it: it can read headers, but not gigabytes that one promises."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self._file = file
        self.tell = file.tell
        self.seek = file.seek
        self.write = file.write
        self.close = file.close

    def read(self, size: int) -> bytes:
        if size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)
