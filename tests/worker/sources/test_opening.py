import io
from pathlib import Path

import pytest

from tests.finding import find, write
from worker.sources.archive import ArchiveSource
from worker.sources.errors import BadArchive, MixedSource, NoSuchPath
from worker.sources.files import FilesSource
from worker.sources.folder import FolderSource
from worker.sources.manifest import ManifestSource
from worker.sources.opening import open_source
from worker.sources.paths import PathListSource


@pytest.mark.parametrize(
    ("name", "kind", "description"),
    [
        ("photos", FolderSource, "folder "),
        ("list.csv", ManifestSource, "manifest "),
        ("list.PARQUET", ManifestSource, "manifest "),
        ("photos.tar.gz", ArchiveSource, "archive "),
        ("photos.ZIP", ArchiveSource, "archive "),
        ("a.jpg", FilesSource, ""),
        ("anything.else", FilesSource, ""),
    ],
)
def test_one_path_is_opened_as_what_it_is(tmp_path: Path, name: str, kind: type, description: str) -> None:
    if name == "photos":
        (tmp_path / name).mkdir()
    else:
        write(tmp_path, name)
    source = open_source([name], base=tmp_path)
    assert type(source) is kind
    assert source.description == f"{description}{tmp_path / name}"
    assert source.root.is_absolute()


def test_a_folder_that_is_not_there_is_refused_with_near_names(tmp_path: Path) -> None:
    write(tmp_path, "Photos/a.jpg")
    with pytest.raises(NoSuchPath, match=r"Expected a folder.*'.*/fotos'\. Did you mean .*/Photos\?") as caught:
        find(tmp_path / "fotos")
    assert caught.value.near == (str(tmp_path / "Photos"),)


def test_the_near_name_is_looked_for_where_the_path_goes_wrong(tmp_path: Path) -> None:
    write(tmp_path, "holiday/2024/a.jpg")
    with pytest.raises(NoSuchPath) as caught:
        find(tmp_path / "holidays" / "2024")
    assert caught.value.near == (str(tmp_path / "holiday"),)


@pytest.mark.parametrize("path", ["", "nothing like it", "nul\0.jpg"])
def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(NoSuchPath, match="Expected a folder"):
        open_source([path], base=tmp_path)


def test_one_missing_file_among_many_is_refused_before_anything_starts(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg")
    with pytest.raises(NoSuchPath):
        open_source(["a.jpg", "b.jpg"], base=tmp_path)


def test_nothing_named_is_refused() -> None:
    with pytest.raises(NoSuchPath):
        open_source([])


def test_a_manifest_stands_alone(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "a.jpg")
    with pytest.raises(MixedSource, match="a manifest alone"):
        open_source(["a.jpg", "a.csv"], base=tmp_path)


def test_the_list_on_standard_input_stands_alone(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg")
    with pytest.raises(MixedSource, match="'-' alone"):
        open_source(["-", "a.jpg"], base=tmp_path)
    assert type(open_source(["-"], stdin=io.BytesIO())) is PathListSource


@pytest.mark.parametrize("name", ["a.rar", "a.7z", "a.tar.zst", "a.gz"])
def test_an_archive_of_a_kind_not_read_is_refused_with_those_that_are(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    with pytest.raises(BadArchive, match=r"expected one of \.zip, \.tar.*Unpack it"):
        open_source([name], base=tmp_path)
