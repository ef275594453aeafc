"""Paths that callers name: nothing outside the roots is read, in whatever spelling, and nothing of it is revealed."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from api.problems import Problem
from api.roots import Roots

Trap = Callable[[Path, Path], str]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """An allowed root with a picture in a folder."""
    root = tmp_path / "photos"
    (root / "birds").mkdir(parents=True)
    (root / "birds" / "a.jpg").write_bytes(b"picture")
    (tmp_path / "photos-private").mkdir()
    (tmp_path / "photos-private" / "b.jpg").write_bytes(b"not yours")
    (tmp_path / "secret.txt").write_bytes(b"not yours")
    return root


@pytest.fixture
def roots(photos: Path, tmp_path: Path) -> Roots:
    return Roots([photos], private=tmp_path / "home", uploads=tmp_path / "home" / "uploads")


def kind_of(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(Problem) as caught:
        call()
    return caught.value.kind, str(caught.value.detail)


def read(handle: int) -> bytes:
    with os.fdopen(handle, "rb") as file:
        return file.read()


def test_what_lies_below_a_root_is_given_as_its_real_path(roots: Roots, photos: Path) -> None:
    real = os.fsencode(photos)
    for good in ("", "/", "/.", "//birds", "/birds/", "/birds/./a.jpg"):
        assert roots.check(f"{photos}{good}").startswith(real)
    assert roots.check(f"{photos}/birds/a.jpg") == real + b"/birds/a.jpg"
    assert roots.root_of(real + b"/birds/a.jpg") == real


def test_a_root_that_is_a_link_is_known_by_both_names(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    roots = Roots([tmp_path / "link"])
    assert roots.check(f"{tmp_path}/link/birds") == roots.check(f"{photos}/birds") == os.fsencode(photos / "birds")


SPELLINGS: list[Trap] = [
    lambda root, _: f"{root}/../secret.txt",
    lambda root, _: f"{root}/birds/../../secret.txt",
    lambda root, _: f"{root}/..",
    lambda root, _: f"{root}/birds/../birds/a.jpg",  # it stays inside, but `..` after a link does not
    lambda _, out: f"{out}/secret.txt",
    lambda _, out: f"{out}/photos-private/b.jpg",
    lambda root, _: f"{root}-private/b.jpg",
    lambda _, out: f"{out}/nothing-here",
    lambda *_: "/etc/passwd",
    lambda *_: "/",
    lambda *_: "//etc/passwd",
    lambda *_: "/proc/self/root/etc/passwd",
    lambda *_: "/proc/self/fd/0",
    lambda *_: "/dev/stdin",
    lambda *_: "birds/a.jpg",
    lambda *_: "./birds",
    lambda *_: "../photos/birds",
    lambda *_: "~",
    lambda *_: "~root/.ssh/id_rsa",
    lambda *_: "",
    lambda *_: " ",
    lambda root, _: f" {root}/birds",
    lambda root, _: f"file://{root}/birds",
    lambda root, _: f"{root}\0/birds",
    lambda root, _: f"{root}/birds/a.jpg\0.png",
    lambda root, _: f"{root}/\ud800",
    lambda root, _: f"{root}/" + "a/" * 3000,
    lambda root, _: str(root).upper(),
    lambda root, _: str(root).replace("/", "\\"),
    lambda root, _: str(root).replace("/", "\uff0f"),  # a full-width solidus
    lambda root, _: str(root).replace("photos", "pho\u200btos"),
]


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_a_path_outside_is_refused_in_every_spelling(roots: Roots, photos: Path, tmp_path: Path, spelled: Trap) -> None:
    kind, detail = kind_of(lambda: roots.check(spelled(photos, tmp_path)))
    assert kind == "root-not-allowed"
    assert "not yours" not in detail


@pytest.mark.parametrize(
    "spelled", ["%2e%2e/secret.txt", "..%2fsecret.txt", "..\\secret.txt", "....//secret.txt", "\uff0e\uff0e/x"]
)
def test_what_only_looks_like_a_way_out_is_a_name_that_is_not_there(roots: Roots, photos: Path, spelled: str) -> None:
    assert kind_of(lambda: roots.check(f"{photos}/{spelled}"))[0] == "no-such-path"


def test_outside_it_cannot_be_told_what_is_there(roots: Roots, tmp_path: Path) -> None:
    there = kind_of(lambda: roots.check(f"{tmp_path}/secret.txt"))
    absent = kind_of(lambda: roots.check(f"{tmp_path}/absent.txt"))
    assert there[0] == absent[0]
    assert there[1].replace("secret", "absent") == absent[1]


def test_a_link_out_is_refused_and_one_within_is_followed(roots: Roots, photos: Path, tmp_path: Path) -> None:
    for name, target in {
        "file": tmp_path / "secret.txt",
        "folder": tmp_path,
        "relative": Path("../secret.txt"),
        "chain": photos / "folder",
        "proc": Path("/proc/self/cwd"),
    }.items():
        (photos / name).symlink_to(target)
    (photos / "loop").symlink_to(photos / "loop")
    (photos / "within").symlink_to(photos / "birds")
    for name in ("file", "folder", "folder/secret.txt", "relative", "chain/secret.txt", "proc", "loop"):
        assert kind_of(lambda name=name: roots.check(f"{photos}/{name}"))[0] == "root-not-allowed", name  # type: ignore[misc]
        gone = kind_of(lambda name=name: roots.open(os.fsencode(photos), name.encode()))  # type: ignore[misc]
        assert gone[0] in ("root-not-allowed", "changed", "file-missing"), name
    assert roots.check(f"{photos}/within/a.jpg") == os.fsencode(photos / "birds/a.jpg")
    assert read(roots.open(os.fsencode(photos), b"within/a.jpg")) == b"picture"


def test_pixmills_own_home_is_never_read_by_name(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "uploads" / "u1").mkdir(parents=True)
    (home / "uploads" / "u1" / "a.jpg").write_bytes(b"uploaded")
    (home / "token").write_text("pxm_secret")
    (home / "shared").mkdir()
    wide = Roots([tmp_path], private=home, uploads=home / "uploads")
    for name in ("home", "home/token", "home/uploads/u1/a.jpg", "home/shared"):
        assert kind_of(lambda name=name: wide.check(f"{tmp_path}/{name}"))[0] == "root-not-allowed", name  # type: ignore[misc]
    assert kind_of(lambda: wide.open(os.fsencode(home), b"token"))[0] == "root-not-allowed"
    assert read(wide.open(os.fsencode(home / "uploads" / "u1"), b"a.jpg")) == b"uploaded"  # the item of an upload's job
    on_purpose = Roots([tmp_path, home / "shared"], private=home)
    assert on_purpose.check(str(home / "shared"))


@pytest.mark.parametrize(
    ("relative", "kind"),
    [
        (b"../secret.txt", "root-not-allowed"),
        (b"birds/../../secret.txt", "root-not-allowed"),
        (b"/etc/passwd", "root-not-allowed"),
        (b"birds/a.jpg\0", "root-not-allowed"),
        (b"", "root-not-allowed"),
        (b".", "root-not-allowed"),
        (b"birds", "file-missing"),
        (b"birds/none.jpg", "file-missing"),
        (b"birds/a.jpg/x", "changed"),
        (b"birds/" + b"x" * 300, "file-missing"),
    ],
)
def test_only_an_items_own_file_is_opened(roots: Roots, photos: Path, relative: bytes, kind: str) -> None:
    assert kind_of(lambda: roots.open(os.fsencode(photos), relative))[0] == kind


def test_a_job_of_listed_paths_has_the_root_of_all_and_is_still_confined(roots: Roots, photos: Path) -> None:
    assert read(roots.open(b"/", os.fsencode(photos / "birds/a.jpg")[1:])) == b"picture"
    assert kind_of(lambda: roots.open(b"/", b"etc/passwd"))[0] == "root-not-allowed"


def test_a_fifo_a_socket_and_a_device_are_refused_without_waiting(roots: Roots, photos: Path) -> None:
    os.mkfifo(photos / "fifo.jpg")
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        before = Path.cwd()
        os.chdir(photos)  # a socket's path must be short
        try:
            listener.bind("socket.jpg")
        finally:
            os.chdir(before)
        for name in (b"fifo.jpg", b"socket.jpg"):
            assert kind_of(lambda name=name: roots.open(os.fsencode(photos), name))[0] in ("file-missing", "changed")  # type: ignore[misc]
    assert kind_of(lambda: Roots([Path("/dev")]).open(b"/dev", b"zero"))[0] == "file-missing"


@pytest.mark.parametrize("swapped", ["folder", "file"])
def test_a_link_put_in_place_after_the_check_is_not_followed(
    roots: Roots, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    """The race itself: the swap happens between the resolution of the path and the walk down to it."""
    realpath = os.path.realpath

    def slow(path: bytes, *, strict: bool = False) -> bytes:
        found = realpath(path, strict=strict)
        if swapped == "folder":
            shutil.move(photos / "birds", tmp_path / "aside")
            (photos / "birds").symlink_to(tmp_path / "photos-private")
            (tmp_path / "photos-private" / "a.jpg").write_bytes(b"not yours")
        else:
            (photos / "birds" / "a.jpg").unlink()
            (photos / "birds" / "a.jpg").symlink_to(tmp_path / "secret.txt")
        return found

    monkeypatch.setattr(os.path, "realpath", slow)
    assert kind_of(lambda: roots.open(os.fsencode(photos), b"birds/a.jpg"))[0] == "changed"


def test_nothing_stays_open_after_a_refusal(roots: Roots, photos: Path) -> None:
    os.mkfifo(photos / "fifo.jpg")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in (b"fifo.jpg", b"birds/none.jpg", b"birds", b"../secret.txt"):
        kind_of(lambda name=name: roots.open(os.fsencode(photos), name))  # type: ignore[misc]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_without_roots_nothing_can_be_named(tmp_path: Path) -> None:
    assert kind_of(lambda: Roots([]).check(str(tmp_path)))[0] == "root-not-allowed"
    with pytest.raises(FileNotFoundError):
        Roots([tmp_path / "absent"])


def test_names_that_are_not_utf_8_can_be_opened(roots: Roots, photos: Path) -> None:
    name = b"birds/caf\xe9.jpg"
    Path(os.fsdecode(os.fsencode(photos) + b"/" + name)).write_bytes(b"coffee")
    assert read(roots.open(os.fsencode(photos), name)) == b"coffee"
