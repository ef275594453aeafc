"""Originals: byte for byte what was classified, or a problem; never another file's bytes."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from api.images import content
from api.images.content import Copies
from store import tokens
from store.database import Database
from tests.api.images.conftest import Gallery
from tests.api.picture_jobs import classified, hash_of
from tests.pictures import picture, saved
from tests.serving import api_client
from worker.settings import Settings


def kind_of(answer: object) -> str:
    """The slug of a problem."""
    return str(answer.json()["type"]).removeprefix("/errors#")  # type: ignore[attr-defined]  # a response


def keep_times(path: Path, data: bytes) -> None:
    """Write other bytes and leave size and times as they were: only the content tells."""
    facts = path.stat()
    assert len(data) == facts.st_size
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_an_original_is_the_file_byte_for_byte_shown_alone_and_as_nothing_but_a_picture(gallery: Gallery) -> None:
    answer = gallery.get("original")
    assert answer.status_code == 200
    assert answer.content == (gallery.folder / "a.jpg").read_bytes()
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert 'filename="a.jpg"' in answer.headers["content-disposition"]
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["etag"] == f'"{hash_of(gallery.database, gallery.job, 0)}"'
    assert gallery.get("original", 1).headers["content-type"] == "image/png"


def test_who_has_it_already_gets_304_and_an_address_with_its_hash_may_be_kept_for_ever(gallery: Gallery) -> None:
    tag = gallery.get("original").headers["etag"]
    known = gallery.get("original", headers={"If-None-Match": tag})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
    assert "immutable" in gallery.get("original", params={"v": tag.strip('"')}).headers["cache-control"]
    assert "immutable" not in gallery.get("original", params={"v": "0" * 32}).headers["cache-control"]


@pytest.mark.parametrize(
    ("asked", "start", "end"), [("bytes=0-9", 0, 10), ("bytes=100-", 100, None), ("bytes=-7", -7, None)]
)
def test_one_range_is_sent_as_206(gallery: Gallery, asked: str, start: int, end: int | None) -> None:
    whole = (gallery.folder / "a.jpg").read_bytes()
    answer = gallery.get("original", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, whole[start:end])
    assert answer.headers["content-range"].endswith(f"/{len(whole)}")


@pytest.mark.parametrize(
    ("asked", "status"),
    [("bytes=99999999-", 416), ("bytes=-0", 416), ("bytes=5-1", 416), ("bytes=0-1,3-4", 200), ("lines=1-2", 200),
     ("bytes=-", 200), ("bytes=99999999999999999999999-", 200)],
)  # fmt: skip
def test_a_range_that_makes_no_sense_breaks_nothing(gallery: Gallery, asked: str, status: int) -> None:
    assert gallery.get("original", headers={"Range": asked}).status_code == status


def test_a_picture_of_another_owners_job_is_not_there(gallery: Gallery) -> None:
    assert gallery.get("original", headers=gallery.of("ann")).status_code == 200
    for what in ("original", "thumbnail"):
        others = gallery.get(what, headers=gallery.of("bob"))
        none = gallery.client.get(f"/api/v1/jobs/999/items/0/{what}", headers=gallery.of("bob"))
        assert (others.status_code, none.status_code) == (404, 404)
        assert others.json()["type"] == none.json()["type"]
        assert gallery.get(what, headers={"Authorization": ""}).status_code == 401


@pytest.mark.parametrize("idx", [2, 3, 2**53 - 1])
def test_only_classified_items_have_a_picture(gallery: Gallery, idx: int) -> None:
    assert [gallery.get(what, idx).status_code for what in ("original", "thumbnail")] == [404, 404]


@pytest.mark.parametrize("idx", ["-1", str(2**53), str(2**63), "1e3", "%00", "..", "0x1"])
def test_a_number_out_of_range_is_refused(gallery: Gallery, idx: str) -> None:
    answer = gallery.client.get(f"/api/v1/jobs/{gallery.job}/items/{idx}/original")
    assert answer.status_code in (404, 422)


def test_a_file_that_became_a_link_out_of_the_root_is_not_read(gallery: Gallery, tmp_path: Path) -> None:
    target = gallery.folder / "a.jpg"
    outside = tmp_path / "outside.jpg"
    target.rename(outside)
    target.symlink_to(outside)
    assert (gallery.get("original").status_code, kind_of(gallery.get("original"))) == (403, "root-not-allowed")
    assert gallery.get("thumbnail").status_code == 403


def test_a_folder_that_became_a_link_out_of_the_root_is_not_followed(gallery: Gallery, tmp_path: Path) -> None:
    gallery.folder.rename(tmp_path / "elsewhere")
    gallery.folder.symlink_to(tmp_path / "elsewhere")
    assert gallery.get("original").status_code == 403


def test_a_file_with_other_bytes_of_the_same_size_and_time_is_not_sent(gallery: Gallery) -> None:
    target = gallery.folder / "a.jpg"
    keep_times(target, target.read_bytes()[:-1] + b"\0")
    for what in ("original", "thumbnail"):
        answer = gallery.get(what)
        assert (answer.status_code, kind_of(answer)) == (409, "changed")


def test_a_file_that_was_written_again_is_not_sent(gallery: Gallery) -> None:
    target = gallery.folder / "b.png"
    target.write_bytes(b"secret notes")
    assert kind_of(gallery.get("original", 1)) == "changed"


def test_a_pipe_in_its_place_is_not_waited_for(gallery: Gallery) -> None:
    target = gallery.folder / "a.jpg"
    target.unlink()
    os.mkfifo(target)
    for what in ("original", "thumbnail"):
        assert gallery.get(what).status_code in (404, 409)


def test_a_file_that_is_gone_is_a_problem_that_says_so(gallery: Gallery) -> None:
    (gallery.folder / "a.jpg").unlink()
    assert (gallery.get("original").status_code, kind_of(gallery.get("original"))) == (404, "file-missing")


def test_a_job_outside_of_the_roots_shows_nothing_even_to_an_administrator(
    settings: Settings, store: Database, photos: Path, tmp_path: Path
) -> None:
    job = classified(store, photos, failed=(2,))
    (tmp_path / "other").mkdir()
    with api_client(settings, [tmp_path / "other"]) as client:
        for what in ("original", "thumbnail"):
            assert client.get(f"/api/v1/jobs/{job}/items/0/{what}").status_code == 403


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_a_picture_inside_an_archive_is_sent(settings: Settings, store: Database, tmp_path: Path, kind: str) -> None:
    data = saved(picture(50, 30), "JPEG")
    archive = tmp_path / "photos" / f"many.{kind}"
    archive.parent.mkdir()
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("in/a.jpg", data)
    else:
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as tar:
            info = tarfile.TarInfo("in/a.jpg")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        archive.write_bytes(gzip.compress(plain.getvalue()) if kind == "tar.gz" else plain.getvalue())
    job = classified(store, archive, cache=settings.cache_folder / "archives")
    with api_client(settings, [archive.parent]) as client:
        answer = client.get(f"/api/v1/jobs/{job}/items/0/original")
        assert (answer.status_code, answer.content) == (200, data)
        assert 'filename="a.jpg"' in answer.headers["content-disposition"]
        for unpacked in (settings.cache_folder / "archives").glob("*.tar"):
            unpacked.unlink()
        again = client.get(f"/api/v1/jobs/{job}/items/0/original")
        assert again.status_code == (404 if kind == "tar.gz" else 200)  # this process unpacks nothing
        facts = archive.stat()
        archive.write_bytes(archive.read_bytes().replace(data[200:210], b"0123456789"))
        os.utime(archive, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        if kind == "tar":
            assert client.get(f"/api/v1/jobs/{job}/items/0/original").status_code == 409


def test_a_large_picture_is_sent_in_blocks(settings: Settings, store: Database, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    data = saved(picture(1800, 1200), "BMP")  # 6.5 MB: more than is kept in memory
    (folder / "large.bmp").write_bytes(data)
    job = classified(store, folder)
    with api_client(settings, [folder]) as client:
        assert client.get(f"/api/v1/jobs/{job}/items/0/original").content == data


def test_originals_that_are_not_taken_yet_count_for_their_token(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "ROOM", 2 * content.LEAST)
    copies = gallery.client.app.state.context.part(Copies)  # type: ignore[attr-defined]  # FastAPI's
    row, secret = tokens.create(gallery.database, name="n", owner="ann", scopes=("read",))
    theirs = {"Authorization": f"Bearer {secret}"}
    with copies.held(row.id, 100):
        refused = gallery.get("original", headers=theirs)
        assert (refused.status_code, kind_of(refused)) == (503, "unavailable")
        assert gallery.get("thumbnail", headers=theirs).status_code == 200
        assert gallery.get("original").status_code == 200
    for headers in ({}, {"Range": "bytes=0-9"}, {"Range": "bytes=99999999-"}):  # each gives its room back
        assert gallery.get("original", headers={**theirs, **headers}).status_code in (200, 206, 416)
    (gallery.folder / "a.jpg").write_bytes(b"another")
    assert gallery.get("original", headers=theirs).status_code == 409
    assert gallery.get("original", 1, headers=theirs).status_code == 200
