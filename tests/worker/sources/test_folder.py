import os
import tracemalloc
from pathlib import Path

import pytest

from tests.finding import JPEG, find, names, without_privileges, write
from tests.pictures import jpeg
from worker.sources.errors import EmptySource, UnreadablePath
from worker.sources.opening import open_source


def test_files_come_before_subfolders_each_in_byte_order(tmp_path: Path) -> None:
    write(tmp_path, "b.jpg", "a/2.jpg", "a/10.jpg", "a/b/x.jpg", "B.jpg", "ä.jpg", "z/0.jpg")
    assert find(tmp_path) == ["B.jpg", "b.jpg", "ä.jpg", "a/10.jpg", "a/2.jpg", "a/b/x.jpg", "z/0.jpg"]


def test_two_passes_find_the_same_and_count_the_same(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "b/c.jpg")
    write(tmp_path, "notes.txt", data=b"notes")
    source = open_source([str(tmp_path)])
    assert (names(source), dict(source.ignored)) == (names(source), {".txt": 1})


def test_an_entry_carries_size_and_time(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg")
    os.utime(tmp_path / "a.jpg", ns=(5, 1_234_567_890_123_456_789))
    (entry,) = open_source([str(tmp_path)])
    assert (entry.path, entry.size, entry.mtime_ns) == (b"a.jpg", len(JPEG), 1_234_567_890_123_456_789)


def test_a_name_that_is_no_text_is_kept_byte_for_byte(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg"
    (tmp_path / os.fsdecode(name)).write_bytes(JPEG)
    assert [entry.path for entry in open_source([str(tmp_path)])] == [name]


def test_hidden_files_and_the_folders_of_other_programs_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", ".hidden.jpg", ".cache/b.jpg", "@eaDir/c.jpg", "__MACOSX/d.jpg", "sub/.e.jpg")
    source = open_source([str(tmp_path)])
    assert names(source) == ["a.jpg"]
    assert source.ignored == {"hidden": 5}


def test_without_recursion_subfolders_are_counted_only(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "sub/b.jpg")
    source = open_source([str(tmp_path)], recursive=False)
    assert names(source) == ["a.jpg"]
    assert source.ignored == {"subfolder": 1}


def test_a_picture_is_found_by_its_bytes_where_its_name_does_not_tell(tmp_path: Path) -> None:
    write(tmp_path, "photo.txt", "photo", "photo.bin")
    write(tmp_path, "list.txt", "README", data=b"eggs and milk")
    write(tmp_path, "paper.pdf", data=b"%PDF-1.7\n")
    source = open_source([str(tmp_path)])
    assert names(source) == ["photo", "photo.bin", "photo.txt"]
    assert source.ignored == {".txt": 1, "no extension": 1, ".pdf": 1}


def test_an_image_extension_counts_in_any_case_and_whatever_the_bytes(tmp_path: Path) -> None:
    write(tmp_path, "a.JPG", "b.JpEg", data=b"no picture")
    assert find(tmp_path) == ["a.JPG", "b.JpEg"]


def test_include_decides_alone(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "b.dat", "c/d.DAT", data=b"anything")
    write(tmp_path, "picture_without_name")
    source = open_source([str(tmp_path)], include=["*.dat"])
    assert names(source) == ["b.dat", "c/d.DAT"]
    assert source.ignored == {".jpg": 1, "no extension": 1}


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["cats/*"], [], ["cats/a.jpg"]),
        (["cats/**"], [], ["cats/a.jpg", "cats/small/b.jpg"]),
        (["**/b.jpg"], [], ["cats/small/b.jpg", "dogs/b.jpg"]),
        ([], ["cats"], ["c.jpg", "dogs/b.jpg"]),
        ([], ["CATS/"], ["c.jpg", "dogs/b.jpg"]),
        ([], ["cats/small"], ["c.jpg", "cats/a.jpg", "dogs/b.jpg"]),
        ([], ["b.*", "./c.jpg"], ["cats/a.jpg"]),
        (["[a-b].jpg"], ["small"], ["cats/a.jpg", "dogs/b.jpg"]),
    ],
)
def test_globs_hold_against_the_name_or_the_relative_path(
    tmp_path: Path, include: list[str], exclude: list[str], expected: list[str]
) -> None:
    write(tmp_path, "c.jpg", "cats/a.jpg", "cats/small/b.jpg", "dogs/b.jpg")
    assert find(tmp_path, include=include, exclude=exclude) == expected


def test_a_folder_named_like_a_picture_is_an_item_and_is_walked(tmp_path: Path) -> None:
    write(tmp_path, "x.jpg/inside.jpg")
    entries = list(open_source([str(tmp_path)]))
    assert [(entry.path, entry.size) for entry in entries] == [(b"x.jpg", None), (b"x.jpg/inside.jpg", len(JPEG))]


@pytest.mark.timeout(20)
def test_pipes_and_devices_are_items_when_they_bear_a_pictures_name_and_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "zero").symlink_to("/dev/zero")
    source = open_source([str(tmp_path)])
    assert [(entry.path, entry.size, entry.mtime_ns) for entry in source] == [
        (b"pipe.jpg", None, None),
        (b"zero.png", None, None),
    ]
    assert source.ignored == {"no extension": 1, "link": 1}


def test_broken_links_are_items_and_linked_files_have_their_targets_size(tmp_path: Path) -> None:
    write(tmp_path, "real.jpg")
    (tmp_path / "broken.jpg").symlink_to("nothing")
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    (tmp_path / "linked.jpg").symlink_to("real.jpg")
    found = {entry.path: entry.size for entry in open_source([str(tmp_path)])}
    assert found == {b"broken.jpg": None, b"circle.jpg": None, b"linked.jpg": len(JPEG), b"real.jpg": len(JPEG)}


def test_linked_folders_are_counted_and_not_entered(tmp_path: Path) -> None:
    write(tmp_path, "root/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "root" / "link").symlink_to("../elsewhere")
    (tmp_path / "root" / "link.jpg").symlink_to("../elsewhere")
    source = open_source([str(tmp_path / "root")])
    assert names(source) == ["a.jpg"]
    assert source.ignored == {"link to a folder": 2}
    assert source.confined


def test_linked_folders_are_followed_on_demand_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path, "root/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "root" / "link").symlink_to("../elsewhere")
    (tmp_path / "root" / "loop").symlink_to(".")
    (tmp_path / "elsewhere" / "back").symlink_to("../root")
    source = open_source([str(tmp_path / "root")], follow_links=True)
    assert names(source) == ["a.jpg", "link/b.jpg"]
    assert source.ignored == {"folder met before": 2}
    assert not source.confined


def test_a_subfolder_that_may_not_be_read_is_reported_and_costs_no_neighbour(open_folder: Path) -> None:
    write(open_folder, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    (open_folder / "b").chmod(0)
    with without_privileges(open_folder):
        source = open_source([str(open_folder)])
        assert names(source) == ["a/1.jpg", "c/3.jpg"]
        assert source.ignored == {"unreadable folder b": 1}


def test_a_folder_that_may_not_be_read_is_refused(open_folder: Path) -> None:
    locked = write(open_folder / "locked", "a.jpg")
    locked.chmod(0)
    with without_privileges(open_folder), pytest.raises(UnreadablePath, match=r"locked.*Permission denied"):
        find(locked)


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path, *(f"{n}.txt" for n in range(10)), "a.db", "b.db", data=b"text")
    write(tmp_path, ".hidden.jpg")
    with pytest.raises(EmptySource) as caught:
        find(tmp_path)
    message = str(caught.value)
    assert "0 images among 12 files: .txt 10, .db 2" in message
    assert "`--include '*.txt'` names them" in message
    assert "hidden 1" in message


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmptySource, match="0 images among 0 files"):
        find(tmp_path)


def test_labels_and_splits_come_from_folder_names_on_demand(tmp_path: Path) -> None:
    write(tmp_path, "x.jpg", "cats/1.jpg", "train/dogs/2.jpg", "Validation/dogs/3.jpg", "test/4.jpg")
    write(tmp_path, "a/b/5.jpg", "a/dev/b/6.jpg")
    marks = {entry.path: (entry.label, entry.split) for entry in open_source([str(tmp_path)], labels="folder")}
    assert marks == {
        b"x.jpg": (None, None),
        b"cats/1.jpg": ("cats", None),
        b"train/dogs/2.jpg": ("dogs", "train"),
        b"Validation/dogs/3.jpg": ("dogs", "val"),
        b"test/4.jpg": (None, "test"),
        b"a/b/5.jpg": ("b", None),
        b"a/dev/b/6.jpg": ("b", "val"),
    }
    assert {(entry.label, entry.split) for entry in open_source([str(tmp_path)])} == {(None, None)}


def test_a_label_is_text_that_a_database_takes(tmp_path: Path) -> None:
    write(tmp_path, os.fsdecode(b"caf\xe9/1.jpg"))
    (entry,) = open_source([str(tmp_path)], labels="folder")
    assert entry.label == "caf\\xe9"


def test_reasons_stay_few_whatever_a_folder_holds(tmp_path: Path) -> None:
    write(tmp_path, *(f"file.{n}" for n in range(300)), data=b"no picture")
    write(tmp_path, "a.jpg")
    source = open_source([str(tmp_path)])
    assert len(list(source)) == 1
    assert len(source.ignored) <= 201
    assert source.ignored.total() == 300


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    for folder in range(40):
        write(tmp_path, *(f"{folder}/{n}.jpg" for n in range(100)), data=b"x")
    source = open_source([str(tmp_path)])
    tracemalloc.start()
    try:
        assert sum(1 for _ in source) == 4000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000  # bytes; 4,000 entries held at once take over a million


def test_a_vanished_subfolder_costs_no_neighbour(tmp_path: Path) -> None:
    write(tmp_path, "a/1.jpg", "b/2.jpg")
    source = open_source([str(tmp_path)])
    entries = iter(source)
    assert next(entries).path == b"a/1.jpg"
    (tmp_path / "b" / "2.jpg").unlink()
    (tmp_path / "b").rmdir()
    assert names(entries) == []
    assert source.ignored == {"unreadable folder b (ENOENT)": 1}


def test_a_picture_of_another_seed_is_another_picture() -> None:
    assert jpeg(quality=50) == JPEG  # the generator is deterministic, or nothing above means anything
