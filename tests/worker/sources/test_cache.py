import errno
import gzip
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from worker.sources import cache as cache_module
from worker.sources.cache import ArchiveCache
from worker.sources.errors import BadArchive, UnreadablePath


def packed(path: Path, data: bytes = b"some bytes") -> Path:
    path.write_bytes(gzip.compress(data))
    return path


def unpack(cache: ArchiveCache, path: Path) -> Path:
    return cache.unpacked(os.fsencode(path), path.stat())


def test_an_archive_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, path = ArchiveCache(tmp_path / "cache"), packed(tmp_path / "a.tar.gz")
    plain = unpack(cache, path)
    assert plain.read_bytes() == b"some bytes"
    monkeypatch.setattr(cache_module, "_decompress", None)  # a second unpacking would fail
    assert unpack(ArchiveCache(tmp_path / "cache"), path) == plain


def test_a_changed_archive_is_unpacked_anew(tmp_path: Path) -> None:
    cache, path = ArchiveCache(tmp_path / "cache"), packed(tmp_path / "a.tar.gz")
    first = unpack(cache, path)
    packed(path, b"other bytes")
    assert unpack(cache, path).read_bytes() == b"other bytes"
    assert first.read_bytes() == b"some bytes"


def test_many_who_ask_at_once_unpack_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls, original = packed(tmp_path / "a.tar.gz", bytes(5_000_000)), [], cache_module._decompress

    def counted(*arguments: object) -> Iterator[None]:
        calls.append(arguments)
        yield from original(*arguments)  # type: ignore[arg-type]  # passed through as they came

    monkeypatch.setattr(cache_module, "_decompress", counted)
    with ThreadPoolExecutor(8) as pool:
        plains = list(pool.map(lambda _: unpack(ArchiveCache(tmp_path / "cache"), path), range(8)))
    assert len(set(plains)) == len(calls) == 1
    assert plains[0].stat().st_size == 5_000_000


def test_what_a_killed_process_left_does_not_pass_for_an_archive(tmp_path: Path) -> None:
    cache, path = ArchiveCache(tmp_path / "cache"), packed(tmp_path / "a.tar.gz")
    plain = unpack(cache, path)
    plain.rename(plain.with_suffix(".part"))
    plain.with_suffix(".part").write_bytes(b"half")
    assert unpack(cache, path).read_bytes() == b"some bytes"
    assert not plain.with_suffix(".part").exists()


def test_an_archive_larger_than_the_limit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    cache, path = ArchiveCache(tmp_path / "cache", max_bytes=1_000_000), packed(tmp_path / "a.tar.gz", bytes(2_000_000))
    with pytest.raises(BadArchive, match="more than 1,000,000 bytes"):
        unpack(cache, path)
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".lock"]


def test_the_least_recently_used_archive_goes_first(tmp_path: Path) -> None:
    cache = ArchiveCache(tmp_path / "cache", max_bytes=250)
    paths = [packed(tmp_path / f"{n}.tar.gz", bytes(100)) for n in range(3)]
    plains = [unpack(cache, path) for path in paths[:2]]
    os.utime(plains[0], (1, 1))
    os.utime(plains[1], (2, 2))
    os.utime(unpack(cache, paths[0]))  # used again
    third = unpack(cache, paths[2])
    assert [plain.exists() for plain in (*plains, third)] == [True, False, True]


def test_an_archive_just_unpacked_stays_where_clocks_disagree(tmp_path: Path) -> None:
    cache = ArchiveCache(tmp_path / "cache", max_bytes=150)
    paths = [packed(tmp_path / f"{n}.tar.gz", bytes(100)) for n in range(2)]
    first = unpack(cache, paths[0])
    os.utime(first, (2**32, 2**32))
    second = unpack(cache, paths[1])
    assert (first.exists(), second.exists()) == (False, True)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_module, "_decompress", full)
    with pytest.raises(BadArchive, match="no room to unpack it"):
        unpack(ArchiveCache(tmp_path / "cache"), packed(tmp_path / "a.tar.gz"))


def test_a_cache_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(UnreadablePath, match="cache"):
        unpack(ArchiveCache(tmp_path / "cache"), packed(tmp_path / "a.tar.gz"))
