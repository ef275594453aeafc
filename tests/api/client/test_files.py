"""Which files are sent, and which are left out."""

import os
from pathlib import Path

import pytest

from api.client.errors import NotReadable
from api.client.files import files_of, why_not


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a picture, a link out of it, a link to nothing, a link inside, and a FIFO."""
    (tmp_path / "secret.txt").write_text("not theirs")
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"picture")
    (folder / "inside.jpg").symlink_to("a.jpg")
    (folder / "out.jpg").symlink_to(tmp_path / "secret.txt")
    (folder / "dead.jpg").symlink_to("nothing")
    os.mkfifo(folder / "pipe.jpg")
    return folder


def test_links_out_of_a_folder_and_what_is_no_file_are_left_out(folder: Path) -> None:
    assert [sending.name for sending in files_of([folder])] == [b"a.jpg", b"inside.jpg"]


def test_a_file_that_was_named_itself_may_be_a_link(folder: Path) -> None:
    (sending,) = files_of([folder / "out.jpg"])
    with sending.open() as file:
        assert file.read() == b"not theirs"


def test_a_named_file_that_cannot_be_read_is_told(folder: Path) -> None:
    with pytest.raises(NotReadable, match=r"dead\.jpg cannot be read: No such file"):
        list(files_of([folder / "dead.jpg"]))


def test_the_reason_is_told(folder: Path) -> None:
    assert why_not(folder / "a.jpg", folder) is None
    assert why_not(folder / "out.jpg", folder) == f"is a link out of {folder}"
    assert why_not(folder / "pipe.jpg", folder) == "is no plain file"
