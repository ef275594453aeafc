import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import blake3
import pytest

from models.errors import ImageError
from models.images import load_picture
from models.manifest import Preprocessing
from tests.finding import JPEG, location, without_privileges, write
from tests.hostile import write_hostile
from worker import reading
from worker.failures import ITEM_CODES
from worker.reading import Content, Location, Reader
from worker.sources.block import read_block
from worker.sources.opening import open_source


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user can reach, which pytest's own is not."""
    made = Path(tempfile.mkdtemp(prefix="pixmill-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def place(folder: Path, name: str, *, confined: bool = True) -> Location:
    """A file's location as it would be frozen now."""
    facts = (folder / name).stat()
    return Location(os.fsencode(folder), os.fsencode(name), confined, facts.st_size, facts.st_mtime_ns)


def unknown(folder: Path, name: str) -> Location:
    """A location of which nothing was known when it was frozen."""
    return Location(os.fsencode(folder), os.fsencode(name), True, None, None)


def refusal(where: Location, max_bytes: int = reading.MAX_BYTES) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        Reader(max_bytes).read(where)
    return caught.value.code, str(caught.value)


def test_a_file_comes_with_its_size_time_and_digest(folder: Path) -> None:
    write(folder, "a.jpg")
    facts = (folder / "a.jpg").stat()
    digest = blake3.blake3(JPEG).digest(length=16)
    assert Reader().read(place(folder, "a.jpg")) == Content(JPEG, len(JPEG), facts.st_mtime_ns, digest)


def test_a_file_of_which_nothing_was_frozen_is_read_as_it_is(folder: Path) -> None:
    write(folder, "a.jpg")
    assert Reader().read(unknown(folder, "a.jpg")).data == JPEG


def test_a_missing_file_is_missing(folder: Path) -> None:
    assert refusal(unknown(folder, "a.jpg")) == ("missing", f"There is no file {folder}/a.jpg, or no longer.")
    write(folder, "file")
    assert refusal(unknown(folder, "file/a.jpg"))[0] == "missing"
    assert refusal(unknown(folder, "nul\0.jpg"))[0] == "missing"


def test_a_file_that_vanishes_after_submission_is_missing(folder: Path) -> None:
    where = place(write(folder, "a.jpg"), "a.jpg")
    (folder / "a.jpg").unlink()
    assert refusal(where)[0] == "missing"


def test_an_empty_file_is_empty(folder: Path) -> None:
    write(folder, "a.jpg", data=b"")
    assert refusal(place(folder, "a.jpg")) == ("empty", "The file is empty (0 bytes).")


def test_a_file_above_the_limit_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "a.jpg", data=bytes(1001))
    monkeypatch.setattr(reading, "read_block", None)  # reading would fail
    message = "The file is 1,001 bytes; the limit is 1,000."
    assert refusal(place(folder, "a.jpg"), max_bytes=1000) == ("too_large", message)


def test_a_link_to_nothing_and_a_circle_are_broken_links(folder: Path) -> None:
    (folder / "nothing.jpg").symlink_to("gone.jpg")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    assert refusal(unknown(folder, "nothing.jpg")) == ("broken_link", "The link to gone.jpg leads to nothing.")
    assert refusal(unknown(folder, "circle.jpg"))[0] == "broken_link"
    assert refusal(unknown(folder, "circle.jpg/a.jpg"))[0] == "broken_link"


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("frozen", [None, 5])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (Path.mkdir, "a folder"),
        (os.mkfifo, "a named pipe"),
        (_socket, "a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (lambda path: path.symlink_to("/dev/tty"), "a device"),
        (lambda path: path.symlink_to("."), "a folder"),
    ],
)
def test_what_is_no_file_is_named_and_never_waited_for(
    folder: Path, make: Callable[[Path], None], kind: str, frozen: int | None
) -> None:
    make(folder / "x.jpg")
    where = replace(unknown(folder, "x.jpg"), size=frozen)  # 5: a file when it was frozen
    assert refusal(where) == ("not_a_file", f"Expected a file, got {kind}.")


def test_what_was_no_file_when_it_was_found_is_not_even_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe.jpg")
    with monkeypatch.context() as faults:
        faults.setattr(os, "open", None)  # opening would fail
        assert refusal(unknown(folder, "pipe.jpg"))[0] == "not_a_file"


def test_a_file_that_may_not_be_read_says_who_may_not(folder: Path) -> None:
    write(folder, "a.jpg")
    where = place(folder, "a.jpg")
    (folder / "a.jpg").chmod(0)
    with without_privileges(folder):
        code, message = refusal(where)
        assert (code, message) == ("permission", f"User {os.geteuid()}, who runs the worker, may not read it.")


@pytest.mark.parametrize("target", ["../{outside}/secret.jpg", "{parent}/{outside}/secret.jpg", "inner.jpg"])
def test_a_link_out_of_the_root_is_refused_only_where_reading_is_confined(tmp_path: Path, target: str) -> None:
    write(tmp_path, "outside/secret.jpg", "root/a.jpg")
    (tmp_path / "root" / "inner.jpg").symlink_to("../outside/secret.jpg")
    link = tmp_path / "root" / "link.jpg"
    link.symlink_to(target.format(parent=tmp_path, outside="outside"))
    code, message = refusal(place(tmp_path / "root", "link.jpg"))
    assert code == "outside_root"
    assert str(tmp_path / "outside" / "secret.jpg") in message
    assert Reader().read(place(tmp_path / "root", "link.jpg", confined=False)).data == JPEG


@pytest.mark.parametrize("path", ["../rootless/a.jpg", "link/a.jpg", "/etc/hostname"])
def test_no_other_way_out_of_the_root_is_open(tmp_path: Path, path: str) -> None:
    write(tmp_path, "rootless/a.jpg", "root/b.jpg")  # a folder whose name begins like the root's
    (tmp_path / "root" / "link").symlink_to("../rootless")
    assert refusal(unknown(tmp_path / "root", path))[0] == "outside_root"


def test_links_within_the_root_are_read_also_where_the_root_is_a_link(tmp_path: Path) -> None:
    write(tmp_path, "real/deep/a.jpg")
    (tmp_path / "real" / "link.jpg").symlink_to(tmp_path / "real" / "deep" / "a.jpg")
    (tmp_path / "root").symlink_to("real")
    assert Reader().read(place(tmp_path / "root", "link.jpg")).data == JPEG
    assert Reader().read(place(Path("/"), f"{tmp_path}/root/link.jpg".lstrip("/"))).data == JPEG


def test_confinement_holds_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "outside.jpg", "root/a.jpg")
    (tmp_path / "root" / "link.jpg").symlink_to("../outside.jpg")
    original = os.readlink

    def readlink(path: bytes) -> bytes:
        if path.startswith(b"/proc/"):
            raise FileNotFoundError(errno.ENOENT, "no /proc")
        return original(path)

    monkeypatch.setattr(os, "readlink", readlink)
    assert Reader().read(place(tmp_path / "root", "a.jpg")).data == JPEG
    assert refusal(place(tmp_path / "root", "link.jpg"))[0] == "outside_root"
    write(tmp_path, "root/b.jpg")
    real = os.fsencode(tmp_path / "root" / "b.jpg")  # as if the link had been pointed there after it was opened
    monkeypatch.setattr(os.path, "realpath", lambda path: real if path.endswith(b"link.jpg") else path)
    assert refusal(place(tmp_path / "root", "link.jpg"))[0] == "changed"


def test_a_name_or_a_path_too_long_for_the_system_is_told(folder: Path) -> None:
    assert refusal(unknown(folder, "l" * 300 + ".jpg"))[0] == "name_too_long"
    assert refusal(unknown(folder, "folder/" * 700 + "a.jpg"))[0] == "name_too_long"


def test_a_file_of_another_size_than_was_frozen_has_changed(folder: Path) -> None:
    write(folder, "a.jpg", data=bytes(1204))
    where = place(folder, "a.jpg")
    write(folder, "a.jpg", data=bytes(988))
    message = "The file changed after the job was accepted: 1,204 bytes then, 988 now."
    assert refusal(where) == ("changed", message)


def test_a_file_of_another_time_than_was_frozen_has_changed(folder: Path) -> None:
    write(folder, "a.jpg")
    os.utime(folder / "a.jpg", ns=(0, 1_700_000_000_123_456_000))
    where = place(folder, "a.jpg")
    os.utime(folder / "a.jpg", ns=(0, 1_700_000_001_000_000_000))
    code, message = refusal(where)
    assert code == "changed"
    assert "modified 2023-11-14 22:13:20.123456+00:00 then, 2023-11-14 22:13:21.000000+00:00 now" in message


def test_a_time_that_no_calendar_has_is_told_as_a_number(folder: Path) -> None:
    where = replace(place(write(folder, "a.jpg"), "a.jpg"), mtime_ns=1 << 80)
    assert f"{1 << 80} ns then" in refusal(where)[1]


@pytest.mark.parametrize(
    ("meddle", "words"),
    [
        (lambda path: os.truncate(path, 10), f"while it was read: {len(JPEG):,} bytes then, 10 now"),
        (lambda path: path.write_bytes(JPEG + b"more"), f"{len(JPEG):,} bytes then, {len(JPEG) + 4:,} now"),
        (lambda path: os.utime(path, ns=(0, 1)), "was written while it was read"),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, meddle: Callable[[Path], None], words: str
) -> None:
    where = place(write(folder, "a.jpg"), "a.jpg")

    def meddled(descriptor: int, offset: int, length: int) -> bytes:
        meddle(folder / "a.jpg")
        return read_block(descriptor, offset, length)

    monkeypatch.setattr(reading, "read_block", meddled)
    code, message = refusal(where)
    assert code == "changed"
    assert words in message


@pytest.mark.parametrize("step", ["open", "fstat", "pread"])
def test_an_error_of_the_disk_is_told_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    where = place(write(folder, "a.jpg"), "a.jpg")

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as faults:
        faults.setattr(os, step, broken)
        found = refusal(where)
    assert found == ("io_error", "Reading failed: Input/output error (EIO).")


def _open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_descriptor_is_left_open(folder: Path) -> None:
    outcomes = write_hostile(write(folder / "hostile", "a.jpg"))
    before = _open_descriptors()
    with Reader() as reader:
        for name in outcomes:
            try:
                reader.read(unknown(folder / "hostile", name))
            except ImageError:
                continue
    assert _open_descriptors() == before


def test_many_threads_share_a_reader(folder: Path) -> None:
    expected = {f"{n}.jpg": JPEG + str(n).encode() for n in range(200)}
    for name, data in expected.items():
        write(folder, name, data=data)
    reader = Reader()
    with ThreadPoolExecutor(8) as pool:
        contents = pool.map(lambda name: reader.read(place(folder, name)).data, expected)
    assert list(contents) == list(expected.values())


def _outcomes(folder: Path) -> dict[str, str]:
    """What becomes of every image in a folder that is listed, read and decoded."""
    source, reader, outcomes = open_source([str(folder)]), Reader(), {}
    for entry in source:
        try:
            load_picture(reader.read(location(source, entry)).data, Preprocessing())
            outcome = "ok"
        except ImageError as error:
            outcome = error.code if str(error).endswith(".") else f"no sentence: {error}"
        outcomes[os.fsdecode(entry.path)] = outcome
    return outcomes


@pytest.mark.timeout(60)
def test_every_hostile_file_is_found_once_and_fails_with_its_code_or_is_fine(tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    expected = write_hostile(folder)
    assert len(expected) > 100
    assert _outcomes(folder) == expected


def test_hostile_files_include_one_that_may_not_be_read(folder: Path) -> None:
    hostile = folder / "hostile"
    hostile.mkdir()
    folder.chmod(0o777)
    hostile.chmod(0o777)
    with without_privileges(hostile):
        expected = write_hostile(hostile)
        assert expected["locked.jpg"] == "permission"
        assert _outcomes(hostile) == expected


def test_every_code_of_the_hostile_files_is_a_documented_one(tmp_path: Path) -> None:
    codes = set(write_hostile(tmp_path, absent=True).values()) - {"ok"}
    assert codes <= {item.code for item in ITEM_CODES}
    assert {"missing", "empty", "not_image", "truncated", "corrupt", "too_many_pixels", "unsupported"} <= codes
