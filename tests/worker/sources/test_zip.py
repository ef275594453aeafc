import io
import os
import stat
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.errors import ImageError
from tests.finding import JPEG, location
from worker.reading import Reader
from worker.sources.errors import BadArchive
from worker.sources.opening import open_source
from worker.sources.zip import ZipListing, read_member

FILES = [("a.jpg", b"first"), ("sub/b.jpg", b"second" * 100), ("empty.jpg", b"")]
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]


def made(files: list[tuple[str, bytes]] = FILES, method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
        archive.comment = comment
    return buffer.getvalue()


def unpacked(path: Path) -> list[tuple[str, bytes]]:
    """Every file in the archive, read as a worker reads it."""
    with path.open("rb") as file:
        members = list(ZipListing(file, str(path)))
        return [
            (member.name.decode(), read_member(file.fileno(), member.offset, member.size, 1 << 20))
            for member in members
            if member.offset is not None
        ]


def lock(data: bytes, *, only: str = "") -> bytes:
    """Set the flag of a password on every member, or on one."""
    locked = bytearray(data)
    for magic, flags, name in ((b"PK\1\2", 8, 46), (b"PK\3\4", 6, 30)):
        at = data.find(magic)
        while at >= 0:
            if data.startswith(only.encode(), at + name):
                locked[at + flags] |= 1
            at = data.find(magic, at + 1)
    return bytes(locked)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.text("abc/ü.", min_size=1, max_size=9), st.binary(max_size=300)), max_size=6),
    st.sampled_from(METHODS),
    st.binary(max_size=50),
    st.binary(max_size=50),
)
@example([], zipfile.ZIP_STORED, b"", b"")
@example(FILES, zipfile.ZIP_STORED, b"PK", b"#!/bin/sh\n")
def test_any_archive_is_read_as_the_standard_library_reads_it(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, bytes]], method: int, comment: bytes, before: bytes
) -> None:
    path = tmp_path_factory.mktemp("zip") / "a.zip"
    unique = [(name, data) for name, data in dict(files).items() if not name.endswith("/")]
    path.write_bytes(before + made(unique, method, comment))
    with zipfile.ZipFile(path) as archive:
        expected = [(info.filename, archive.read(info)) for info in archive.infolist()]
    assert unpacked(path) == expected == unique


def test_archives_beyond_the_32_bit_limits_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 3)  # the library writes the wide form of every field
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in FILES:
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)
    assert b"PK\6\6" in buffer.getvalue()
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    assert unpacked(tmp_path / "a.zip") == FILES


def test_a_stream_of_unknown_sizes_is_read(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):  # nothing that can be gone back in: sizes come behind the data
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += bytes(data)
            return memoryview(data).nbytes

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES:
            archive.writestr(name, data)
    (tmp_path / "a.zip").write_bytes(pipe.data)
    assert unpacked(tmp_path / "a.zip") == FILES


def test_two_members_of_one_name_are_two_members(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jpg", b"one")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.jpg", b"two")
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    assert unpacked(tmp_path / "a.zip") == [("a.jpg", b"one"), ("a.jpg", b"two")]


def test_one_member_with_a_password_fails_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(lock(made(), only="a.jpg"))
    source = open_source([str(path)])
    first, second, _ = list(source)
    with pytest.raises(ImageError, match="password") as caught:
        Reader().read(location(source, first))
    assert caught.value.code == "unsupported"
    assert Reader().read(location(source, second)).data == FILES[1][1]


def test_an_archive_full_of_passwords_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(lock(made()))
    with pytest.raises(BadArchive, match="locked with a password"):
        list(open_source([str(tmp_path / "a.zip")]))


def test_a_damaged_member_fails_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    data = bytearray(made([("a.jpg", JPEG), ("b.jpg", JPEG)], zipfile.ZIP_STORED))
    data[100] ^= 1
    path.write_bytes(data)
    source = open_source([str(path)])
    first, second = list(source)
    with pytest.raises(ImageError, match="checksum") as caught:
        Reader().read(location(source, first))
    assert caught.value.code == "corrupt"
    assert Reader().read(location(source, second)).data == JPEG


def test_a_link_in_an_archive_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("link.jpg")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    source = open_source([str(path)])
    (entry,) = list(source)
    with pytest.raises(ImageError) as caught:
        Reader().read(location(source, entry))
    assert caught.value.code == "not_a_file"


def test_a_method_that_is_not_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(made(method=zipfile.ZIP_LZMA))
    source = open_source([str(path)])
    entry, *_ = list(source)
    with pytest.raises(ImageError, match="LZMA") as caught:
        Reader().read(location(source, entry))
    assert caught.value.code == "unsupported"


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(made([("a.jpg", bytes(10 << 20))]))
    assert path.stat().st_size < 20_000
    source = open_source([str(path)])
    (entry,) = list(source)
    with pytest.raises(ImageError, match="10,485,760 bytes; the limit is 1,000") as caught:
        Reader(max_bytes=1000).read(location(source, entry))
    assert caught.value.code == "too_large"


def test_a_bomb_that_lies_about_its_size_is_cut_off(tmp_path: Path) -> None:
    data = bytearray(made([("a.jpg", bytes(10 << 20))]))
    at = data.index(b"PK\1\2") + 24
    data[at : at + 4] = (5).to_bytes(4, "little")
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    source = open_source([str(path)])
    (entry,) = list(source)
    with pytest.raises(ImageError) as caught:
        Reader(max_bytes=1 << 20).read(location(source, entry))
    assert caught.value.code == "corrupt"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-60], "cut short"),
        (lambda data: data[: len(data) // 2], "cut short"),
        (lambda data: data[:0], "cut short"),
        (lambda data: data.replace(b"PK\1\2", b"PK\0\0", 1), "directory is damaged"),
        (lambda data: data[:-11] + b"\1" + data[-10:], "promises 259 files, has 3"),
    ],
)
def test_a_damaged_directory_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes], words: str) -> None:
    (tmp_path / "a.zip").write_bytes(damage(made()))
    with pytest.raises(BadArchive, match=words):
        list(open_source([str(tmp_path / "a.zip")]))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_no_damage_gets_past_our_errors(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(made([*FILES, ("photo", JPEG)]))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("zip") / "a.zip"
    path.write_bytes(whole)
    source, reader = open_source([os.fspath(path)]), Reader()
    try:
        entries = list(source)
    except BadArchive:
        return
    for entry in entries:
        with suppress(ImageError):
            reader.read(location(source, entry))
