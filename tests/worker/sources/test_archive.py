import io
import os
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from models.errors import ImageError
from tests.finding import JPEG, find, location, names, write
from worker.reading import Reader
from worker.sources.errors import BadArchive, EmptySource, UnreadablePath
from worker.sources.opening import open_source

FILES = {
    "cats/1.jpg": JPEG,
    "train/dogs/2.jpg": JPEG,
    "photo": JPEG,
    "notes.txt": b"text",
    ".hidden.jpg": JPEG,
    "__MACOSX/._1.jpg": b"fork",
    "../../etc/evil.jpg": JPEG,
}
SUFFIXES = ["zip", "tar", "tar.gz", "tgz", "tar.xz", "tar.bz2"]


def pack(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    kind = {".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}.get(path.suffix, "w")
    with tarfile.open(path, kind) as tar:  # type: ignore[call-overload]  # the mode is one of its modes
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_archives_of_every_kind_are_listed_and_read_alike(tmp_path: Path, suffix: str) -> None:
    path = pack(tmp_path / f"photos.{suffix}", FILES)
    source = open_source([str(path)], labels="folder", cache_dir=tmp_path / "cache")
    entries = list(source)
    assert (source.root, source.confined) == (tmp_path, False)
    assert [(entry.member, entry.label, entry.split) for entry in entries] == [
        ("cats/1.jpg", "cats", None),
        ("train/dogs/2.jpg", "dogs", "train"),
        ("photo", None, None),
        ("../../etc/evil.jpg", "etc", None),
    ]
    facts = {(entry.path, entry.size, entry.mtime_ns) for entry in entries}
    assert facts == {(path.name.encode(), len(JPEG), path.stat().st_mtime_ns)}
    assert source.ignored == {".txt": 1, "hidden": 2}
    reader = Reader(cache_dir=tmp_path / "cache")
    assert {reader.read(location(source, entry)).data for entry in entries} == {JPEG}


def test_the_rules_of_folders_hold_in_archives(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", FILES)
    assert find(path, exclude=["cats/*", "evil*"]) == ["train/dogs/2.jpg", "photo"]
    assert find(path, include=["*.TXT"]) == ["notes.txt"]
    assert find(path, recursive=False) == ["photo"]


def test_archives_mix_with_files(tmp_path: Path) -> None:
    pack(tmp_path / "a.zip", {"1.jpg": JPEG})
    pack(tmp_path / "b.tar", {"2.jpg": JPEG})
    write(tmp_path, "c.jpg")
    source = open_source(["*.zip", "b.tar", "c.jpg"], base=tmp_path)
    entries = list(source)
    assert [(entry.path, entry.member) for entry in entries] == [
        (b"a.zip", "1.jpg"),
        (b"b.tar", "2.jpg"),
        (b"c.jpg", None),
    ]
    reader = Reader()
    assert {reader.read(location(source, entry)).data for entry in entries} == {JPEG}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_written_anew_after_the_job_was_accepted_is_noticed(tmp_path: Path, suffix: str) -> None:
    path = pack(tmp_path / f"a.{suffix}", {"1.jpg": JPEG})
    source = open_source([str(path)], cache_dir=tmp_path / "cache")
    (entry,) = list(source)
    os.utime(path, ns=(0, entry.mtime_ns + 1 if entry.mtime_ns else 0))
    with pytest.raises(ImageError, match="The archive was written after the job was accepted") as caught:
        Reader(cache_dir=tmp_path / "cache").read(location(source, entry))
    assert caught.value.code == "changed"


def test_an_archive_that_is_gone_is_missing(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"1.jpg": JPEG})
    source = open_source([str(path)])
    (entry,) = list(source)
    path.unlink()
    with pytest.raises(ImageError) as caught:
        Reader().read(location(source, entry))
    assert caught.value.code == "missing"


def test_an_archive_without_images_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(EmptySource, match=r"archive .*0 images among 2 files: \.txt 2"):
        find(pack(tmp_path / "a.zip", {"a.txt": b"1", "b.txt": b"2"}))


def test_an_archive_is_opened_as_what_its_bytes_say(tmp_path: Path) -> None:
    packed = pack(tmp_path / "a.tar.gz", {"1.jpg": JPEG})
    misnamed = packed.rename(tmp_path / "misnamed.tar")
    zipped = pack(tmp_path / "b.zip", {"2.jpg": JPEG}).rename(tmp_path / "zipped.tar")
    assert find(misnamed, cache_dir=tmp_path / "cache") == ["1.jpg"]
    assert find(zipped) == ["2.jpg"]


def test_an_archive_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"1.jpg": JPEG})
    source = open_source([str(path)])
    path.unlink()
    with pytest.raises(UnreadablePath):
        list(source)


@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_memory_does_not_grow_with_the_number_of_members(tmp_path: Path, suffix: str) -> None:
    path = pack(tmp_path / f"a.{suffix}", {f"class/{n:05d}.jpg": b"x" for n in range(3000)})
    source = open_source([str(path)])
    tracemalloc.start()
    try:
        assert sum(1 for _ in source) == 3000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300_000  # bytes; the standard library's list of members takes over a million


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.xz", "tar.bz2"])
def test_a_compressed_archive_that_is_cut_short_is_refused(tmp_path: Path, suffix: str) -> None:
    path = pack(tmp_path / f"a.{suffix}", {f"{n}.jpg": os.urandom(5000) for n in range(10)})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadArchive, match="damaged or cut short after"):
        names(open_source([str(path)], cache_dir=tmp_path / "cache"))
    assert not list((tmp_path / "cache").glob("*.tar"))
