import os
from pathlib import Path

import pytest

from tests.finding import JPEG, find, names, write
from worker.sources.errors import EmptySource, NoSuchPath
from worker.sources.opening import open_source


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write(tmp_path, "a.jpg", "b.jpg", "notes.txt", "cats/1.jpg", "cats/small/2.jpg", "dogs/3.png", ".h/x.jpg")


def test_one_file_is_relative_to_its_folder(photos: Path) -> None:
    source = open_source([str(photos / "cats" / "1.jpg")])
    (entry,) = source
    assert (source.root, entry.path, entry.size) == (photos / "cats", b"1.jpg", len(JPEG))
    assert not source.confined


def test_named_files_keep_their_order_and_are_images_whatever_their_name(photos: Path) -> None:
    assert find(photos / "notes.txt", photos / "b.jpg", photos / "a.jpg") == ["notes.txt", "b.jpg", "a.jpg"]


def test_files_and_folders_mix_and_are_relative_to_what_they_share(photos: Path) -> None:
    source = open_source([str(photos / "dogs"), str(photos / "cats" / "1.jpg")])
    assert source.root == photos
    assert names(source) == ["dogs/3.png", "cats/1.jpg"]


def test_a_path_named_twice_counts_once(photos: Path) -> None:
    assert find(photos / "a.jpg", photos / "cats" / ".." / "a.jpg") == ["a.jpg"]


def test_relative_paths_count_from_the_base(photos: Path) -> None:
    assert find("a.jpg", "cats", base=photos) == ["a.jpg", "cats/1.jpg", "cats/small/2.jpg"]


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*.jpg", ["a.jpg", "b.jpg"]),
        ("?.jpg", ["a.jpg", "b.jpg"]),
        ("[!a].jpg", ["b.jpg"]),
        ("*/*.jpg", ["cats/1.jpg"]),
        ("**/*.jpg", ["a.jpg", "b.jpg", "cats/1.jpg", "cats/small/2.jpg"]),
        ("cats/**", ["1.jpg", "small/2.jpg"]),
        ("**/small/*", ["cats/small/2.jpg"]),
        ("*.*", ["a.jpg", "b.jpg", "notes.txt"]),
        ("d*s", ["dogs/3.png"]),
        (".h/*.jpg", ["x.jpg"]),
    ],
)
def test_a_glob_that_no_shell_expanded_is_expanded(photos: Path, glob: str, expected: list[str]) -> None:
    assert find(glob, base=photos) == expected


def test_a_glob_tells_upper_from_lower_case_as_a_shell_does(photos: Path) -> None:
    with pytest.raises(NoSuchPath, match="at least one file that matches this glob"):
        find("*.JPG", base=photos)


def test_an_existing_file_is_never_taken_for_a_glob(tmp_path: Path) -> None:
    write(tmp_path, "photo[1].jpg", "photo1.jpg")
    assert find("photo[1].jpg", base=tmp_path) == ["photo[1].jpg"]


def test_include_and_exclude_hold_for_named_files_too(photos: Path) -> None:
    source = open_source([str(photos / "*.*")], exclude=["b.*"])
    assert names(source) == ["a.jpg", "notes.txt"]
    assert source.ignored == {"excluded": 1}
    assert find(photos / "**", include=["3.*"]) == ["dogs/3.png"]
    with pytest.raises(EmptySource):
        find(photos / "a.jpg", exclude=["*.jpg"])


def test_a_named_broken_link_or_pipe_is_an_item(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe.zip")
    assert find(tmp_path / "link", tmp_path / "pipe.zip") == ["link", "pipe.zip"]


def test_a_name_that_is_no_text_can_be_named(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    write(tmp_path, name, "b.jpg")
    entries = list(open_source([str(tmp_path / name), str(tmp_path / "b.jpg")]))
    assert [entry.path for entry in entries] == [b"caf\xe9.jpg", b"b.jpg"]
