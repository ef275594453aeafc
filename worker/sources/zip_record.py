"""The records of a ZIP file's directory, as bytes have them. Layouts: PKWARE APPNOTE.TXT 6.3, sections 4.3 to 4.5."""

import os
import stat
import struct
from dataclasses import dataclass

from worker.sources.block import read_block
from worker.sources.errors import BadArchive

RECORD = struct.Struct("<5xB2xHH4xIIIHHH4xII")  # central directory file header
RECORD_MAGIC = b"PK\1\2"
_LENGTHS = slice(6, 9)  # of the name, the extra field and the comment, which follow a record
_LOCAL = struct.Struct("<26xHH")  # the header before a file's data: its sizes may be absent, only lengths are taken
_END = struct.Struct("<4xHH2xHII2x")
_END64 = struct.Struct("<16xII8xQQQ")
_LOCATOR64_SIZE = 20
_LONGEST_COMMENT = 0xFFFF
_FULL = 0xFFFFFFFF  # a 32-bit field that says: look in the ZIP64 field
_UNIX = 3


@dataclass(frozen=True, slots=True)
class Record:
    """A file as the directory has it; `size` is unpacked, `packed` in the archive, both in bytes."""

    name: bytes
    is_locked: bool
    is_link: bool
    method: int
    crc: int
    packed: int
    size: int
    header: int  # where its local header is said to be


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the records are. `shift`: bytes before the archive proper, of a program that unpacks it."""

    start: int
    length: int
    entries: int
    shift: int


def rest_length(fixed: bytes) -> int:
    """How many bytes follow the fixed part of a record."""
    return sum(RECORD.unpack(fixed)[_LENGTHS])


def parse_record(raw: bytes) -> Record | None:
    """A record from its bytes; None where they are too few for what they promise."""
    system, flags, method, crc, packed, size, *lengths, mode, header = RECORD.unpack_from(raw)
    if len(raw) < RECORD.size + sum(lengths):
        return None
    name_end = RECORD.size + lengths[0]
    extra = raw[name_end : name_end + lengths[1]]
    wide = _wide_fields(extra, [size, packed, header])
    if wide is None:
        return None
    size, packed, header = wide
    is_link = system == _UNIX and stat.S_ISLNK(mode >> 16)
    return Record(raw[RECORD.size : name_end], bool(flags & 1), is_link, method, crc, packed, size, header)


def record_at(descriptor: int, offset: int) -> Record | None:
    """The record at this place of the file; None where there is none."""
    fixed = read_block(descriptor, offset, RECORD.size)
    if len(fixed) < RECORD.size or not fixed.startswith(RECORD_MAGIC):
        return None
    return parse_record(fixed + read_block(descriptor, offset + RECORD.size, rest_length(fixed)))


def data_start(descriptor: int, record: Record) -> int | None:
    """Where the packed data begins: behind a local header of the same name; None where that is not to be found."""
    start = _behind_header(descriptor, record, record.header)
    if start is not None:
        return start
    try:
        shift = find_directory(descriptor, "").shift
    except BadArchive:
        return None
    return _behind_header(descriptor, record, record.header + shift)


def find_directory(descriptor: int, path: str) -> Directory:
    """Read the end record, which a comment may follow, and the ZIP64 end record if there is one. Raises BadArchive."""
    total = os.fstat(descriptor).st_size
    start = max(0, total - _END.size - _LONGEST_COMMENT)
    tail = read_block(descriptor, start, total - start)
    at = tail.rfind(b"PK\5\6", 0, max(0, len(tail) - _END.size + 4))
    if at < 0:
        raise BadArchive(path, "it ends without a ZIP directory. It is cut short or no ZIP file; fetch it again.")
    end = start + at
    disk, first_disk, entries, length, offset = _END.unpack_from(tail, at)
    wide = _read_wide_end(descriptor, end)
    if wide is not None:
        disk, first_disk, entries, length, offset = wide
        end -= _END64.size + _LOCATOR64_SIZE
    if disk or first_disk:
        raise BadArchive(path, "it is one part of a split ZIP file. Join the parts, or unpack it and name the folder.")
    if offset + length > end:
        raise damaged(path, end)
    return Directory(end - length, length, entries, end - length - offset)


def damaged(path: str, place: int) -> BadArchive:
    """The error for a directory that makes no sense from this byte on."""
    return BadArchive(path, f"its directory is damaged at byte {place:,}. Fetch it again, or unpack what can be saved.")


def _behind_header(descriptor: int, record: Record, at: int) -> int | None:
    raw = read_block(descriptor, at, _LOCAL.size + len(record.name))
    if len(raw) < _LOCAL.size or not raw.startswith(b"PK\3\4"):
        return None
    name_length, extra_length = _LOCAL.unpack_from(raw)
    if raw[_LOCAL.size : _LOCAL.size + name_length] != record.name:
        return None
    return at + _LOCAL.size + int(name_length) + int(extra_length)


def _wide_fields(extra: bytes, fields: list[int]) -> list[int] | None:
    """Put the 64-bit values of the ZIP64 extra field, in this order, where a 32-bit field is full."""
    if _FULL not in fields:
        return fields
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            count = fields.count(_FULL)
            if length < 8 * count or at + 4 + 8 * count > len(extra):
                return None
            values = iter(struct.unpack_from(f"<{count}Q", extra, at + 4))
            return [next(values) if field == _FULL else field for field in fields]
        at += 4 + length
    return fields


def _read_wide_end(descriptor: int, end: int) -> tuple[int, int, int, int, int] | None:
    """Disk, first disk, entries, length and offset of the ZIP64 end record, which stands right before its locator."""
    at = end - _LOCATOR64_SIZE - _END64.size
    if at < 0:
        return None
    raw = read_block(descriptor, at, _END64.size + _LOCATOR64_SIZE)
    if not raw.startswith(b"PK\6\6") or raw[_END64.size : _END64.size + 4] != b"PK\6\7":
        return None
    disk, first_disk, entries, length, offset = _END64.unpack_from(raw)
    return disk, first_disk, entries, length, offset
