import io
import tarfile
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ImageError
from tests.finding import JPEG, find, location
from worker.reading import Reader
from worker.sources.errors import BadArchive, SourceError
from worker.sources.opening import open_source


def made(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


FILES = {"a.jpg": JPEG, "sub/b.jpg": JPEG * 2, "./sub/c.png": b"x" * 512}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_dialect_is_read_at_its_offsets(tmp_path: Path, form: int) -> None:
    files = FILES | ({"long/" * 40 + "d.jpg": JPEG, "bäckerei.jpg": JPEG} if form != tarfile.USTAR_FORMAT else {})
    (tmp_path / "a.tar").write_bytes(made(files, form))
    source, reader = open_source([str(tmp_path / "a.tar")]), Reader()
    assert {entry.member: reader.read(location(source, entry)).data for entry in source} == files


def test_links_and_devices_are_no_files_and_folders_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in {
            "link.jpg": tarfile.SYMTYPE,
            "hard.jpg": tarfile.LNKTYPE,
            "device.jpg": tarfile.CHRTYPE,
            "pipe.jpg": tarfile.FIFOTYPE,
            "folder.jpg": tarfile.DIRTYPE,
        }.items():
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = "/etc/passwd"
            archive.addfile(info)
    source, codes = open_source([str(path)]), {}
    for entry in source:
        with pytest.raises(ImageError) as caught:
            Reader().read(location(source, entry))
        codes[entry.member] = caught.value.code
    assert codes == dict.fromkeys(("link.jpg", "hard.jpg", "device.jpg", "pipe.jpg"), "not_a_file")


def test_a_member_whose_name_is_no_text_is_listed_as_text(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(made({"caf\udce9.jpg": JPEG}, tarfile.GNU_FORMAT))
    source = open_source([str(tmp_path / "a.tar")])
    (entry,) = list(source)
    assert entry.member == "caf\\xe9.jpg"
    assert Reader().read(location(source, entry)).data == JPEG


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[: 512 + 100], "cut short within 'a.jpg'"),
        (lambda data: data[:512] + data[512:].replace(b"b.jpg", b"b.jp_", 1), "damaged at byte"),
        (lambda data: data[:100], "expected a TAR file"),
        (lambda data: data[:0], "expected a TAR file"),
        (lambda data: data[1:], "expected a TAR file"),
    ],
)
def test_a_damaged_archive_is_refused_and_no_image_lost_without_a_word(
    tmp_path: Path, damage: Callable[[bytes], bytes], words: str
) -> None:
    (tmp_path / "a.tar").write_bytes(damage(made(FILES, tarfile.USTAR_FORMAT)))
    with pytest.raises(BadArchive, match=words):
        find(tmp_path / "a.tar")


def test_an_archive_may_lack_the_zeros_at_its_end(tmp_path: Path) -> None:
    whole = made({"a.jpg": b"x" * 512}, tarfile.USTAR_FORMAT)
    (tmp_path / "a.tar").write_bytes(whole[:1024])
    assert find(tmp_path / "a.tar") == ["a.jpg"]


def sign(archive: bytearray, at: int) -> None:
    """Write the checksum anew into the header at this place, so that damage before it passes for a header."""
    archive[at + 148 : at + 156] = b" " * 8
    archive[at + 148 : at + 156] = b"%06o\0 " % sum(archive[at : at + 512])


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (b"0", b"\xff" * 10 + b"\xfe\x00"),  # -512: back to this header, for ever
        (b"0", b"\xff" + bytes(11)),
        (b"1", b"\xff" + bytes(11)),
        (b"Z", b"\x80" + b"\xff" * 11),  # a kind that nobody knows, whose data would have to be skipped
        (b"0", b"\x80" + b"\xff" * 11),
        (b"1", b"\x80" + b"\xff" * 11),
        (b"L", b"77777777777\0"),  # a name of 8 GiB
        (b"L", b"\x80" + b"\xff" * 11),
        (b"x", b"\x80" + b"\xff" * 11),
    ],
)
def test_a_size_that_cannot_be_is_refused(tmp_path: Path, kind: bytes, size: bytes) -> None:
    whole = bytearray(made(FILES, tarfile.GNU_FORMAT))
    second = whole.index(b"sub/b.jpg")
    whole[second + 156 : second + 157] = kind
    whole[second + 124 : second + 136] = size
    sign(whole, second)
    (tmp_path / "a.tar").write_bytes(whole)
    tracemalloc.start()
    try:
        with pytest.raises(BadArchive):
            find(tmp_path / "a.tar")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000  # bytes; the long name alone would be 8 GiB


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_no_damage_gets_past_our_errors(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    form = data.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    whole = bytearray(made({"a.jpg": b"12345", "ü" * 60 + ".jpg": b"6", "c": JPEG}, form))
    headers = [at for at in range(0, len(whole), 512) if whole.startswith(b"ustar", at + 257)]
    for _ in range(data.draw(st.integers(1, 3))):
        header = data.draw(st.sampled_from(headers))
        value = data.draw(st.sampled_from(b"\x00\x80\xff0123456789LKSxg") | st.integers(0, 255))
        whole[header + data.draw(st.integers(0, 511))] = value
        sign(whole, header)
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    path.write_bytes(whole)
    with suppress(SourceError):
        list(open_source([str(path)]))
