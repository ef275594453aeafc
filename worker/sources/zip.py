"""A ZIP file: its directory read one record at a time, its members found by the place of their record.

The standard library's reader keeps every record in memory, half a kilobyte for each; here a listing is flat, and a
worker reads any member by `os.pread` alone, from many threads.
"""

import bz2
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from models.errors import ImageError
from models.formats import HEAD_BYTES
from worker.sources.block import read_block
from worker.sources.errors import BadArchive
from worker.sources.member import Member
from worker.sources.zip_record import (
    RECORD,
    RECORD_MAGIC,
    Record,
    damaged,
    data_start,
    find_directory,
    parse_record,
    record_at,
    rest_length,
)

_STORED, _DEFLATED, _BZIP2 = 0, 8, 12
_OTHER_METHODS = {9: "Deflate64", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES encryption"}
_HEAD_PACKED = 4096  # enough packed bytes for HEAD_BYTES, with the code tables before them


class ZipListing:
    """The members of an open ZIP file."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file = file
        self._path = path
        self._directory = find_directory(file.fileno(), path)

    def __iter__(self) -> Iterator[Member]:
        self._refuse_if_locked()
        for offset, record in self._files():
            yield Member(record.name, record.size, None if record.is_link else offset)

    def head(self, member: Member) -> bytes:
        """The member's first bytes; nothing where it is locked or damaged."""
        if member.offset is None:
            return b""
        try:
            descriptor = self._file.fileno()
            record = _checked_record(descriptor, member.offset, member.size)
            raw = _packed(descriptor, record, min(record.packed, _HEAD_PACKED))
            return _unpack(record.method, raw, HEAD_BYTES)
        except ImageError:
            return b""

    def _refuse_if_locked(self) -> None:
        """Where every file has a password, refuse the archive instead of each image."""
        files = self._files()
        first = next(files, None)
        if first and first[1].is_locked and all(record.is_locked for _, record in files):
            raise BadArchive(self._path, "every file in it is locked with a password. Unpack it, then name the folder.")

    def _files(self) -> Iterator[tuple[int, Record]]:
        """The record of each file, not of folders, with its place."""
        place, end, found = self._directory.start, self._directory.start + self._directory.length, 0
        self._file.seek(place)
        while place < end:
            fixed = self._file.read(RECORD.size)
            if len(fixed) < RECORD.size or not fixed.startswith(RECORD_MAGIC):
                raise damaged(self._path, place)
            rest = rest_length(fixed)
            record = parse_record(fixed + self._file.read(rest))
            if record is None:
                raise damaged(self._path, place)
            if not record.name.endswith(b"/"):
                yield place, record
            found += 1
            place += RECORD.size + rest
        if (found - self._directory.entries) % 0x10000:  # before ZIP64 the count had 16 bits
            raise BadArchive(self._path, f"its directory promises {self._directory.entries:,} files, has {found:,}.")


def read_member(descriptor: int, offset: int, size: int | None, max_bytes: int) -> bytes:
    """The whole data of the member whose record is at `offset`, checked against its CRC-32.

    size: what it was when the archive was listed. Raises ImageError: changed, unsupported, too_large, corrupt.
    """
    record = _checked_record(descriptor, offset, size)
    largest = max(record.size, record.packed)
    if largest > max_bytes:
        raise ImageError("too_large", f"The file is {largest:,} bytes; the limit is {max_bytes:,}.")
    data = _unpack(record.method, _packed(descriptor, record, record.packed), record.size + 1)
    if len(data) != record.size or zlib.crc32(data) != record.crc:
        raise ImageError("corrupt", "The file in the archive is damaged: its checksum does not fit.")
    return data


def _checked_record(descriptor: int, offset: int, size: int | None) -> Record:
    record = record_at(descriptor, offset)
    if record is None or size not in (None, record.size):
        raise ImageError("changed", "The archive changed after the job was accepted.")
    if record.is_locked:
        raise ImageError("unsupported", "The file has a password in the archive. Unpack it first.")
    return record


def _packed(descriptor: int, record: Record, length: int) -> bytes:
    start = data_start(descriptor, record)
    if start is None:
        raise ImageError("corrupt", "The archive's directory points to a place where this file is not.")
    raw = read_block(descriptor, start, length)
    if len(raw) < length:
        raise ImageError("corrupt", f"The archive ends within the file: expected {length:,} bytes, got {len(raw):,}.")
    return raw


def _unpack(method: int, raw: bytes, most: int) -> bytes:
    """Unpacked data, never more than `most` bytes of it."""
    try:
        if method == _DEFLATED:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, most)
        if method == _BZIP2:
            return bz2.BZ2Decompressor().decompress(raw, most)
    except (zlib.error, OSError, EOFError) as error:
        raise ImageError("corrupt", f"The file in the archive is damaged: {error}.") from error
    if method == _STORED:
        return raw[:most]
    name = _OTHER_METHODS.get(method, f"method {method}")
    raise ImageError("unsupported", f"The file is packed with {name}; Deflate, bzip2 or none was expected.")
