"""Files that come in over HTTP: where they land, what they may be called, how much may lie there, when they go."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from api.uploads.folders import remove_expired
from api.uploads.names import clean_name
from store import scanning, tokens, uploads
from store.database import Database
from tests.running import fake_model, write_images
from tests.serving import api_client, threaded
from worker.settings import Settings

UPLOADS, JOBS = "/api/v1/uploads", "/api/v1/jobs"


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    fake_model(tmp_path / "home")
    return Settings(home=tmp_path / "home", database_url=database_url, max_body_mb=1, max_upload_mb=1)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.submission.service.WAIT_S", 60.0)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with api_client(settings, []) as made:
        yield made


@pytest.fixture
def picture(tmp_path: Path) -> bytes:
    write_images(tmp_path / "one", 1)
    return next((tmp_path / "one").iterdir()).read_bytes()


@pytest.fixture
def upload(client: TestClient) -> str:
    """The address of a new, open upload."""
    made = client.post(UPLOADS, json={})
    assert made.status_code == 201
    return str(made.headers["location"])


def test_a_folder_is_sent_file_by_file_and_classified_with_its_labels(
    client: TestClient, upload: str, picture: bytes, settings: Settings
) -> None:
    for name in ("cats/1.png", "cats/2.png", "dogs/1 ä.png"):
        sent = client.put(f"{upload}/files/{name}", content=picture)
        assert (sent.status_code, sent.json()["name"], sent.json()["bytes"]) == (201, name, len(picture))
    assert client.put(f"{upload}/files/cats/1.png", content=picture + b"x").status_code == 200
    told = client.get(upload).json()
    assert (told["state"], told["files"], told["bytes"]) == ("open", 3, 3 * len(picture) + 1)

    job = client.post(JOBS, json={"kind": "classify", "source": {"upload": told["id"]}, "labels": "folder"}).json()
    assert (job["found"], job["state"]) == (3, "accepted")
    kept = _rows(settings, "SELECT path, label FROM items ORDER BY idx")
    assert kept == [("cats/1.png", "cats"), ("cats/2.png", "cats"), ("dogs/1 ä.png", "dogs")]
    assert (client.get(upload).json()["state"], client.get(upload).json()["job"]) == ("sealed", job["id"])
    assert client.put(f"{upload}/files/late.png", content=picture).status_code == 409
    assert client.delete(upload).status_code == 409
    client.post(f"{JOBS}/{job['id']}/cancel")
    assert client.delete(upload).status_code == 204
    assert not list(settings.uploads_folder.iterdir())


def test_one_file_or_archive_is_sent_at_once(client: TestClient, picture: bytes, settings: Settings) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a/1.png", picture)
        archive.writestr("a/2.png", picture)
    for name, content, found in (("x.png", picture, 1), ("x.zip", packed.getvalue(), 2), ("no ending", picture, 1)):
        made = client.post(UPLOADS, params={"name": name}, content=content)
        assert (made.status_code, made.json()["state"], made.json()["files"]) == (201, "sealed", 1)
        job = client.post(JOBS, json={"kind": "classify", "source": {"upload": made.json()["id"]}}).json()
        assert (job["found"], job["description"]) == (found, f"upload {made.json()['id']} ({name})")


def test_a_manifest_that_is_uploaded_with_its_files_names_them(
    client: TestClient, upload: str, picture: bytes, settings: Settings
) -> None:
    client.put(f"{upload}/files/in/1.png", content=picture)
    client.put(f"{upload}/files/list.csv", content=b"file_name,label\nin/1.png,bee\n")
    job = client.post(JOBS, json={"kind": "classify", "source": {"upload": upload.rsplit("/", 1)[1]}})
    assert job.json()["found"] == 1
    assert _rows(settings, "SELECT path, label FROM items") == [("in/1.png", "bee")]


@pytest.mark.parametrize("line", ["/etc/passwd", "../../../../etc/passwd", "../parts/x", "{home}/token"])
def test_an_uploaded_manifest_cannot_name_other_files(
    client: TestClient, upload: str, settings: Settings, line: str
) -> None:
    named = line.replace("{home}", str(settings.home))
    client.put(f"{upload}/files/list.csv", content=f"file_name\n{named}\n".encode())
    refused = client.post(JOBS, json={"kind": "classify", "source": {"upload": upload.rsplit("/", 1)[1]}})
    assert (refused.status_code, refused.json()["type"]) == (403, "/errors#root-not-allowed")
    assert _rows(settings, "SELECT id FROM jobs") == []


NAMES = [
    "../x", "a/../x", "a/../../x", "..", ".", "./x", "a//x", "/etc/x", "//x", "a/", "a/./b", "C:/x", "c:x", "a\\b",
    "..\\x", "\\\\server\\share", "a\0b", "\0", "a\nb", "a\rb", "\x1b[31m", "a\x7f", "\x85", "a" * 256, "ä" * 128,
    "a/" * 32 + "x", "a" * 1025, "nul", "NUL.png", "aux.jpg", "con", "a/prn.txt", "com1", "LPT9.png", "nul ", "con.",
    "com¹", "conin$", "", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_no_names_are_refused(name: str) -> None:
    from api.problems import Problem

    with pytest.raises(Problem) as refused:
        clean_name(name)
    assert refused.value.status_code == 422


SPELLINGS = [
    "../x", "..%2fx", "%2e%2e/x", "%2e%2e%2fx", "%252e%252e%252fx", "..%5cx", "..%c0%afx", "%c0%ae%c0%ae/x",
    "a/%2e%2e/%2e%2e/x",
    "/etc/x", "%2fetc%2fx", "%00", "a%00.png", "a%0d%0aSet-Cookie:x", "%ed%a0%80", "%ff", "．．／x", "..;/x",
    "a%2f..%2f..%2fx",
    "nul", "aux.png", "C:%5cx", "a" * 300, "a/" * 1000 + "x", "file:///etc/x", "x?y", "..%3fx", "%E2%80%A5/x",
]  # fmt: skip


def test_no_spelling_of_a_name_leaves_the_uploads_folder(
    client: TestClient, upload: str, settings: Settings, picture: bytes
) -> None:
    for spelling in SPELLINGS:
        sent = client.put(f"{upload}/files/{spelling}", content=picture)
        assert sent.status_code in (200, 201, 400, 404, 405, 422), (spelling, sent.text)
        made = client.post(f"{UPLOADS}?name={spelling}", content=picture)
        assert made.status_code in (201, 400, 422), (spelling, made.text)
    everything = {path for path in settings.home.parent.rglob("*") if path.is_file() and path.read_bytes() == picture}
    sent_here = {path for path in everything if "one" not in path.parts}
    assert sent_here
    assert all(settings.uploads_folder in path.parents and "files" in path.parts for path in sent_here)
    assert not list(settings.uploads_folder.rglob("parts/*"))


def test_a_file_and_a_folder_cannot_have_one_name(client: TestClient, upload: str, picture: bytes) -> None:
    client.put(f"{upload}/files/a", content=picture)
    client.put(f"{upload}/files/b/c", content=picture)
    for name in ("a/b", "a/b/c", "b"):
        refused = client.put(f"{upload}/files/{name}", content=picture)
        assert (refused.status_code, refused.json()["type"]) == (409, "/errors#conflict"), name
    assert (client.get(upload).json()["files"], client.get(upload).json()["bytes"]) == (2, 2 * len(picture))


def test_bodies_beyond_the_limit_leave_nothing(client: TestClient, upload: str, settings: Settings) -> None:
    large = b"x" * ((1 << 20) + 1)
    whole = client.put(f"{upload}/files/large.png", content=large)
    chunked = client.put(f"{upload}/files/large.png", content=iter([large[: 1 << 19], large[1 << 19 :], large]))
    for refused in (whole, chunked, client.post(UPLOADS, params={"name": "x.png"}, content=large)):
        assert (refused.status_code, refused.json()["type"]) == (413, "/errors#too-large")
    assert [path for path in settings.uploads_folder.rglob("*") if path.is_file()] == []
    assert client.get(upload).json()["files"] == 0
    assert len(client.get(UPLOADS).json()["items"]) == 1


def test_too_many_files_are_refused(
    client: TestClient, upload: str, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.uploads.receiving.MOST_FILES", 2)
    codes = [client.put(f"{upload}/files/{n}.png", content=picture).status_code for n in range(3)]
    assert codes == [201, 201, 413]


def test_a_quota_holds_whatever_comes_at_once(settings: Settings, picture: bytes) -> None:
    size = 100_000
    with threaded(settings, []) as served:
        database = Database(settings.database)
        limits = tokens.TokenLimits(max_upload_bytes=5 * size)
        _, secret = tokens.create(database, name="few", owner="ann", scopes=("read", "submit"), limits=limits)
        database.close()
        headers = {"Authorization": f"Bearer {secret}"}
        where = served.url + served.client.post(UPLOADS, json={}, headers=headers).headers["location"]
        together, codes = threading.Barrier(12), []

        def send(n: int) -> None:
            together.wait(60)
            codes.append(served.client.put(f"{where}/files/{n}", content=b"x" * size, headers=headers).status_code)

        threads = [threading.Thread(target=send, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(codes) <= {201, 429}
        assert 1 <= codes.count(201) <= 5
        assert served.client.get(where, headers=headers).json()["bytes"] == codes.count(201) * size
    lies = [path.stat().st_size for path in settings.uploads_folder.rglob("*") if path.is_file()]
    assert sum(lies) == codes.count(201) * size


def test_a_full_disk_is_told_before_anything_is_written(
    client: TestClient, upload: str, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.uploads.folders.LEAST_FREE", 1 << 62)
    for refused in (client.put(f"{upload}/files/x.png", content=picture), client.post(UPLOADS, json={})):
        assert (refused.status_code, refused.json()["type"]) == (507, "/errors#disk-full")


@pytest.mark.parametrize("body", [b"[]", b"x", b'{"name": "x"}', b"\xff" * 100_000, b"[" * 100_000])
def test_a_session_is_begun_with_an_empty_object(client: TestClient, body: bytes) -> None:
    refused = client.post(UPLOADS, content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == 422, refused.text
    assert client.get(UPLOADS).json()["items"] == []


def test_an_empty_file_is_refused(client: TestClient, upload: str) -> None:
    assert client.put(f"{upload}/files/x.png", content=b"").status_code == 422
    assert client.post(UPLOADS, params={"name": "x"}, content=b"").status_code == 422
    assert client.post("/api/v1/classify", content=b"").status_code == 422
    assert len(client.get(UPLOADS).json()["items"]) == 1


def test_uploads_are_listed_page_by_page(client: TestClient) -> None:
    made = [client.post(UPLOADS, json={}).json()["id"] for _ in range(5)]
    seen, url = [], f"{UPLOADS}?limit=2"
    while url:
        page = client.get(url)
        seen += [row["id"] for row in page.json()["items"]]
        assert (page.json()["next"] is None) == ("link" not in page.headers)
        url = page.links["next"]["url"] if "link" in page.headers else ""
    assert seen == made[::-1]
    assert client.get(f"{UPLOADS}?cursor=nonsense").json()["type"] == "/errors#bad-cursor"


def test_uploads_go_after_their_time_unless_a_job_reads_them(
    client: TestClient, picture: bytes, settings: Settings
) -> None:
    context: Any = cast(Any, client.app).state.context
    old, read = (client.post(UPLOADS, params={"name": "x.png"}, content=picture).json()["id"] for _ in range(2))
    client.post(JOBS, json={"kind": "classify", "source": {"upload": read}})
    assert remove_expired(context) == 0
    with context.database.write() as connection:
        connection.execute(text("UPDATE uploads SET touched_at = 0"))
    assert remove_expired(context) == 1
    assert client.get(f"{UPLOADS}/{old}").status_code == 404
    assert [path.name for path in settings.uploads_folder.iterdir()] == [read]


def test_the_files_stay_while_any_job_reads_them(client: TestClient, picture: bytes, settings: Settings) -> None:
    context: Any = cast(Any, client.app).state.context
    upload = client.post(UPLOADS, params={"name": "x.png"}, content=picture).json()["id"]
    body = {"kind": "classify", "source": {"upload": upload}}
    first, second = (client.post(JOBS, json=body).json()["id"] for _ in range(2))
    client.post(f"{JOBS}/{second}/cancel")
    for _ in range(2):  # the second job ended; then it is removed
        with context.database.write() as connection:
            connection.execute(text("UPDATE uploads SET touched_at = 0"))
            connection.execute(text("UPDATE jobs SET finished_at = 0 WHERE finished_at IS NOT NULL"))
        refused = client.delete(f"{UPLOADS}/{upload}")
        assert (refused.status_code, f"Job {first} reads" in refused.json()["detail"]) == (409, True)
        assert remove_expired(context) == 0
        assert [path.name for path in settings.uploads_folder.rglob("*") if path.is_file()] == ["x.png"]
        client.delete(f"{JOBS}/{second}")
    client.post(f"{JOBS}/{first}/cancel")
    assert client.delete(f"{UPLOADS}/{upload}").status_code == 204
    assert not list(settings.uploads_folder.iterdir())


def test_an_upload_that_goes_while_a_job_is_made_of_it_makes_none(
    client: TestClient, picture: bytes, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = client.post(UPLOADS, params={"name": "x.png"}, content=picture).json()["id"]
    open_job = scanning.open_job

    def late(database: Database, *arguments: Any) -> int:
        assert uploads.retire(database, upload)  # its files are still there
        return open_job(database, *arguments)

    monkeypatch.setattr(scanning, "open_job", late)
    refused = client.post(JOBS, json={"kind": "classify", "source": {"upload": upload}})
    assert (refused.status_code, refused.json()["type"]) == (404, "/errors#not-found")
    assert _rows(settings, "SELECT id FROM jobs") == []


def test_what_was_refused_does_not_count_as_arriving(client: TestClient, settings: Settings) -> None:
    database = Database(settings.database)
    limits = tokens.TokenLimits(max_upload_bytes=1000)
    _, secret = tokens.create(database, name="few", owner="ann", scopes=("read", "submit"), limits=limits)
    database.close()
    headers = {"Authorization": f"Bearer {secret}"}
    where = client.post(UPLOADS, json={}, headers=headers).headers["location"]
    for n in range(4):
        chunked = client.put(f"{where}/files/{n}", content=iter([b"x" * 600, b"x" * 600]), headers=headers)
        assert (chunked.status_code, chunked.json()["type"]) == (429, "/errors#upload-full")
        assert (chunked.headers["retry-after"], chunked.json()["retry_after"]) == ("60", 60)
    assert client.put(f"{where}/files/fits", content=b"x" * 1000, headers=headers).status_code == 201


def test_one_image_is_classified_through_the_queue(client: TestClient, picture: bytes, settings: Settings) -> None:
    later = client.post("/api/v1/classify?name=my.png&top_k=2", content=picture, headers={"Prefer": "wait=0"})
    assert (later.status_code, later.json()["priority"], later.json()["found"]) == (202, 0, 1)
    assert later.headers["location"] == f"{JOBS}/{later.json()['id']}"
    for name in ("../x", "a/b", "x.zip", "x.csv", "nul"):
        refused = client.post("/api/v1/classify", params={"name": name}, content=picture)
        assert refused.status_code == 422, name
    for query in ("top_k=0", "top_k=99", "top_k=x", "unknown=1", "name=", "model=%00"):
        assert client.post(f"/api/v1/classify?{query}", content=picture).status_code == 422, query
    assert len(list(settings.uploads_folder.iterdir())) == 1


def _rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    database = Database(settings.database)
    with database.read() as connection:
        found = [tuple(row) for row in connection.execute(text(query))]
    database.close()
    return found
