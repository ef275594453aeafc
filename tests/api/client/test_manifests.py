"""What goes with a manifest: what it names, under names that it still finds there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api.client.errors import NotReadable
from api.client.manifests import Packed, packed, sendings
from tests.running import write_images
from worker.sources.manifest import ManifestSource
from worker.sources.opening import open_source
from worker.sources.rules import Rules


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with pictures of two classes."""
    write_images(tmp_path / "data" / "ant", 2)
    write_images(tmp_path / "data" / "bee", 2)
    return tmp_path / "data"


def pack(manifest: Path, folder: Path, **rules: list[str]) -> Packed:
    folder.mkdir(exist_ok=True)
    return packed(ManifestSource(manifest, Rules.of(**rules)), manifest, folder)


def named(found: Packed) -> dict[str, Path]:
    return {file.name.decode(): file.path for file in found.files}


def test_what_lies_below_the_manifest_keeps_its_name(data: Path, tmp_path: Path) -> None:
    manifest = data / "labels.csv"
    manifest.write_text("file_name,label\nant/000000.png,ant\n./bee/000001.png,bee\nbee/gone.png,bee\n")
    found = pack(manifest, tmp_path / "out")
    assert list(named(found)) == ["ant/000000.png", "bee/000001.png", "labels.csv"]
    assert named(found)["labels.csv"] == manifest
    assert (found.missing, found.is_rewritten) == ([b"bee/gone.png"], False)


def test_of_a_file_named_twice_one_is_sent_and_what_is_excluded_is_not(data: Path, tmp_path: Path) -> None:
    manifest = data / "labels.csv"
    manifest.write_text("file_name\nant/000000.png\nant/000000.png\nbee/000000.png\n")
    assert list(named(pack(manifest, tmp_path / "out", exclude=["bee/*"]))) == ["ant/000000.png", "labels.csv"]


def test_names_of_elsewhere_are_written_anew(data: Path, tmp_path: Path) -> None:
    """One file lies elsewhere: all get their whole paths, and rows keep what was said of them."""
    (tmp_path / "tables").mkdir()
    manifest = tmp_path / "tables" / "labels.jsonl"
    write_images(tmp_path / "tables" / "cat", 1)
    lines = [
        {"file_name": str(data / "ant" / "000000.png"), "label": "ant", "camera": "Ä1"},
        {"file_name": "../data/bee/000001.png", "split": "val", "id": "7"},
        {"file_name": "cat/000000.png", "file": "also a column"},
    ]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = pack(manifest, tmp_path / "out")
    whole = [str(path).lstrip("/") for path in (data / "ant/000000.png", data / "bee/000001.png")]
    whole.append(str(tmp_path / "tables/cat/000000.png").lstrip("/"))
    assert found.is_rewritten
    assert list(named(found)) == [*whole, "manifest.jsonl"]
    assert [path.is_file() for path in named(found).values()] == [True] * 4
    wanted = [{**line, "file_name": name} for line, name in zip(lines, whole, strict=True)]
    assert [json.loads(line) for line in named(found)["manifest.jsonl"].read_text().splitlines()] == wanted


def test_only_pictures_are_sent_from_elsewhere(data: Path, tmp_path: Path) -> None:
    """Whoever wrote the manifest is not asked whether the server may have a key of this machine."""
    (tmp_path / "id_rsa").write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    (data / "link.png").symlink_to(tmp_path / "id_rsa")
    (data / "notes.txt").write_text("lies in the folder")
    manifest = data / "labels.csv"
    manifest.write_text("file_name\n../id_rsa\nlink.png\nnotes.txt\nant/000000.png\n")
    found = pack(manifest, tmp_path / "out")
    assert found.missing == [b"../id_rsa", b"link.png"]
    assert [path.name for path in named(found).values()] == ["notes.txt", "000000.png", "manifest.jsonl"]


def test_a_table_that_is_named_is_not_taken_for_the_manifest(data: Path, tmp_path: Path) -> None:
    (data / "other.csv").write_text("a\n")
    manifest = data / "labels.csv"
    manifest.write_text("file_name\nother.csv\nant/000000.png\n")
    names = list(named(pack(manifest, tmp_path / "out")))
    assert [name for name in names if "/" not in name] == ["manifest.jsonl"]


def test_paths_are_sent_as_what_they_are(data: Path) -> None:
    manifest = data / "labels.csv"
    manifest.write_text("file_name\nant/000001.png\n")
    with sendings([manifest]) as files:
        assert [file.name for file in files] == [b"ant/000001.png", b"labels.csv"]
    with sendings([data]) as files:
        assert len(list(files)) == 5
    manifest.write_text("file\x00_name\n")
    with pytest.raises(NotReadable, match=r"labels\.csv"), sendings([manifest]):
        pass


def test_a_rewritten_manifest_is_read_back_as_it_was(data: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "labels.csv"
    manifest.write_text(f"file_name,label,camera\n{data}/ant/000000.png,ant,x\n{data}/bee/000000.png,bee,\n")
    rewritten = named(pack(manifest, tmp_path / "out"))["manifest.jsonl"]
    rows = [(entry.label, entry.extra) for entry in open_source([str(rewritten)])]
    assert rows == [(entry.label, entry.extra) for entry in open_source([str(manifest)])]
