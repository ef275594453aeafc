"""Attacks on submissions: none gets at a file outside the roots, none makes the server fail."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from models.errors import ImageError
from tests.api.submission.conftest import JOBS, Ask
from worker.reading import Location, Reader
from worker.sources.patterns import compile_pattern

Rows = Callable[..., list[dict[str, Any]]]

REFUSED = {400, 403, 404, 413, 422}
SPELLINGS = [
    "/etc",
    "/",
    "{photos}/../outside",
    "{photos}/./../outside",
    "{photos}//..//outside",
    "{photos}/%2e%2e/outside",
    "{photos}/..%2foutside",
    "{photos}/..\\outside",
    "{photos}/\u2025/outside",
    "{photos}/．．/outside",
    "{outside}",
    "{photos}-not",
    "outside",
    "../outside",
    "~root",
    "file://{outside}",
    "/proc/self/root{outside}",
    "/proc/self/cwd",
    "/dev/fd/0",
    "/dev/zero",
    "//{outside}",
    "{photos}/link",
    "{photos}/link/deeper",
    "{photos}/chain",
    "{photos}/loop",
    "{photos}/" + "a/" * 1500,
    "{photos}/" + "a" * 3000,
    "-",
    "\ufeff{outside}",
    " {outside}",
    "{outside}\n",
    "C:\\Windows",
    "\\\\server\\share",
    "http://169.254.169.254/",
    "s3://bucket/x",
]

MODELS = [
    "hf://user/model", "gs://bucket/m", "http://127.0.0.1/m.keras", "file:///etc/passwd", "../../etc", "/etc/passwd",
    "fake/../../x", "fake@../1", "fake@", "@1", "fake@1@1", "fake@0", "fake@-1", "fake@99999999999999999999",
    "fake@٣", "fake@1/../1", ".staging", "fake\\x", "FAKE@1.0", "~/x", "a" * 200, "%2e%2e", "fake@latest/..",
]  # fmt: skip


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """One database is enough: what is refused does not get there."""
    return f"sqlite:///{tmp_path}/pixmill.db"


@pytest.mark.parametrize("form", ["folder", "paths", "manifest", "archive", "globs"])
def test_no_spelling_of_a_path_leaves_the_roots(
    submit: Ask, photos: Path, outside: Path, rows: Rows, form: str
) -> None:
    (photos / "link").symlink_to(outside)
    (photos / "chain").symlink_to("link")
    (photos / "loop").symlink_to("loop")
    (outside / "deeper").mkdir()
    for path in SPELLINGS:
        named = path.replace("{photos}", str(photos)).replace("{outside}", str(outside))
        source: dict[str, Any] = {form: named}
        if form in ("paths", "globs"):
            source = {"paths": [named if form == "paths" else f"{named}/*.png"]}
        answer = submit(source)
        assert answer.status_code in REFUSED, (path, answer.text)
        assert "000000.png" not in answer.text
    assert rows("SELECT id FROM jobs") == []


@pytest.mark.parametrize("bad", ["\0", "a\0b", "\ud800", ""])
@pytest.mark.parametrize("where", ["folder", "include", "model", "name", "paths", "files"])
def test_text_that_no_path_and_no_database_can_hold_is_refused(
    client: TestClient, photos: Path, bad: str, where: str
) -> None:
    body: dict[str, Any] = {"kind": "classify", "source": {"folder": str(photos)}}
    if where in ("folder", "paths", "files"):
        body["source"] = {where: bad if where == "folder" else [bad]}
    elif where == "name":
        body |= {"kind": "finetune", "name": bad, "preset": "cifar_cnn"}
    else:
        body[where] = [bad] if where == "include" else bad
    answer = client.post(JOBS, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text


def test_a_model_is_a_name_in_the_registry_and_nothing_else(client: TestClient, photos: Path, rows: Rows) -> None:
    for model in MODELS:
        for body in (
            {"kind": "classify", "source": {"folder": str(photos)}, "model": model},
            {"kind": "finetune", "source": {"folder": str(photos)}, "name": "x", "base": model},
            {"kind": "finetune", "source": {"folder": str(photos)}, "name": "x", "preset": model},
        ):
            answer = client.post(JOBS, json=body)
            assert answer.status_code == 422, (model, answer.text)
        assert client.post("/api/v1/classify", params={"model": model}, content=b"x").status_code == 422
    assert rows("SELECT id FROM jobs") == []


@pytest.mark.parametrize(
    "recipe",
    [
        '{"epochs": NaN}',
        '{"optimizer": {"learning_rate": Infinity}}',
        '{"optimizer": {"learning_rate": 1e400}}',
        '{"seed": 170141183460469231731687303715884105728}',
        '{"seed": ' + "9" * 5000 + "}",
        '{"split": {"seed": 9223372036854775808}}',
        '{"preset": "x\\u0000y"}',
        '{"preset": "\\ud800"}',
        '{"base": "hf://x/y"}',
        '{"base": "../../../etc/passwd"}',
        '{"preset": "__import__(1)"}',
        '{"optimizer": {"name": {"a": {"b": 1}}}}',
        '{"optimizer": [1, 2]}',
        '{"epochs": true}',
        '{"epochs": "5"}',
        '{"image": {"width": 1000000}}',
        '{"batch_size": 1000000}',
        '{"__class__": "x"}',
        '{"' + "k" * 100 + '": 1}',
        "{" + ",".join(f'"k{n}": 1' for n in range(1000)) + "}",
        "[" * 100_000,
        '{"a": ' * 100_000,
        '"text"',
        "1",
    ],
)
def test_a_hostile_recipe_is_refused(client: TestClient, photos: Path, rows: Rows, recipe: str) -> None:
    for field in ("recipe", "set"):
        body = json.dumps({"kind": "finetune", "name": "x", "preset": "cifar_cnn", "source": {"folder": str(photos)}})
        text = f'{body[:-1]}, "{field}": {recipe}}}'
        answer = client.post(JOBS, content=text, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422), answer.text
        assert len(answer.content) < 20_000
    assert rows("SELECT id FROM jobs") == []


@pytest.mark.parametrize(
    "change",
    [
        {"top_k": 2**63},
        {"top_k": True},
        {"top_k": "5"},
        {"top_k": 0},
        {"priority": -1},
        {"priority": 5.5},
        {"owner": "somebody"},
        {"state": "done"},
        {"reuse": "yes"},
        {"kind": "sql"},
        {"source": {"folder": "/a", "upload": "b"}},
        {"source": {}},
        {"source": []},
        {"source": "folder"},
        {"source": {"paths": []}},
        {"source": {"files": []}},
        {"source": {"paths": ["/a"] * 10_001}},
        {"source": {"upload": "../../x"}},
        {"source": {"upload": "A" * 32}},
        {"source": {"folder": "/a", "root": "/"}},
        {"include": ["x"] * 101},
        {"include": ["*a" * 600]},
        {"labels": "folders"},
    ],
)
def test_a_body_of_another_shape_is_refused(submit: Ask, photos: Path, rows: Rows, change: dict[str, Any]) -> None:
    body = {"source": {"folder": str(photos)}, **change}
    answer = submit(**body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert rows("SELECT id FROM jobs") == []


@pytest.mark.parametrize("name", ["../outside/000000.png", "{outside}/000000.png", "link/000000.png", "/etc/passwd"])
@pytest.mark.parametrize("first", [True, False])
def test_a_manifest_cannot_name_files_outside_the_roots(
    submit: Ask, photos: Path, outside: Path, rows: Rows, name: str, first: bool
) -> None:
    (photos / "link").symlink_to(outside)
    lines = [name.replace("{outside}", str(outside)), "000001.png"]
    (photos / "list.csv").write_text("file_name\n" + "\n".join(lines if first else lines[::-1]) + "\n")
    answer = submit({"manifest": str(photos / "list.csv")})
    assert (answer.status_code, answer.json()["type"]) == (403, "/errors#root-not-allowed")
    assert rows("SELECT id FROM jobs") == []
    assert rows("SELECT idx FROM items") == []


def test_a_link_to_a_file_outside_becomes_a_row_that_says_so(
    submit: Ask, photos: Path, outside: Path, rows: Rows
) -> None:
    (photos / "leak.png").symlink_to(outside / "000000.png")
    (photos / "list.csv").write_text("file_name\nleak.png\n")
    for source in (
        {"folder": str(photos)},
        {"manifest": str(photos / "list.csv")},
        {"paths": [str(photos / "*.png")]},
        {"files": [str(photos / "leak.png")]},
    ):
        job = submit(source).json()
        item = rows("SELECT * FROM items WHERE job_id = :id AND path = 'leak.png'", id=job["id"])[0]
        row = rows("SELECT root, confined FROM jobs WHERE id = :id", id=job["id"])[0]
        place = Location(row["root"].encode(), b"leak.png", bool(row["confined"]), item["size"], item["mtime_ns"])
        with Reader() as reader, pytest.raises(ImageError) as refused:
            reader.read(place)
        assert refused.value.code == "outside_root"
    assert submit({"paths": [str(photos / "leak.png")]}).json()["type"] == "/errors#root-not-allowed"


def test_the_own_home_inside_a_root_is_nobodys_to_read(client: TestClient, submit: Ask, rows: Rows, home: Path) -> None:
    inside = cast(Any, client.app).state.context
    upload = client.post("/api/v1/uploads", params={"name": "secret.png"}, content=b"x").json()["id"]
    from api.roots import Roots

    inside.roots = Roots([home.parent], private=home, uploads=home / "uploads")
    job = submit({"folder": str(home.parent)}).json()
    assert job["ignored"]["Pixmill's own"] == 1
    assert not [row for row in rows("SELECT path FROM items") if "secret" in row["path"]]
    (home.parent / "list.csv").write_text(f"file_name\nhome/uploads/{upload}/files/secret.png\n")
    assert submit({"manifest": str(home.parent / "list.csv")}).status_code == 403
    assert submit({"folder": str(home / "uploads")}).status_code == 403


def test_another_owners_upload_and_run_are_not_there(
    client: TestClient, photos: Path, rows: Rows, bearer: Callable[..., dict[str, str]]
) -> None:
    upload = client.post("/api/v1/uploads", params={"name": "a.png"}, content=b"x", headers=bearer("ann")).json()["id"]
    bob = bearer("bob")
    body = {"kind": "classify", "source": {"upload": upload}}
    refused = client.post(JOBS, json=body, headers=bob)
    unknown = client.post(JOBS, json={"kind": "classify", "source": {"upload": "0" * 32}}, headers=bob)
    for answer in (refused, unknown):
        assert (answer.status_code, answer.json()["type"]) == (404, "/errors#not-found")
    assert client.get(f"/api/v1/uploads/{upload}", headers=bob).status_code == 404
    assert client.put(f"/api/v1/uploads/{upload}/files/b.png", content=b"x", headers=bob).status_code == 404
    assert client.delete(f"/api/v1/uploads/{upload}", headers=bob).status_code == 404
    assert client.get("/api/v1/uploads", headers=bob).json()["items"] == []
    assert client.post(JOBS, json=body, headers=bearer("ann")).status_code == 202


def test_zip_slip_writes_nothing_and_reads_only_the_archive(submit: Ask, photos: Path, rows: Rows) -> None:
    picture = (photos / "000001.png").read_bytes()
    before = {path for path in photos.parent.rglob("*") if "home" not in path.parts}
    with zipfile.ZipFile(photos / "slip.zip", "w") as archive:
        for name in ("../../evil.png", "/etc/evil.png", "a/../../../evil.png", "..\\evil.png"):
            archive.writestr(name, picture)
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    job = submit({"archive": str(photos / "slip.zip")}).json()
    assert job["found"] == 4  # a name that begins with a dot is hidden
    root = rows("SELECT root FROM jobs")[0]["root"].encode()
    with Reader() as reader:
        for item in rows("SELECT * FROM items"):
            place = Location(root, b"slip.zip", True, item["size"], item["mtime_ns"], item["member"], item["offset"])
            if item["member"] == "link.png":
                with pytest.raises(ImageError):
                    reader.read(place)
            else:
                assert reader.read(place).data == picture
    after = {path for path in photos.parent.rglob("*") if "home" not in path.parts}
    assert after - before == {photos / "slip.zip"}


def test_a_zip_bomb_costs_its_row_and_nothing_else(submit: Ask, photos: Path, rows: Rows) -> None:
    with zipfile.ZipFile(photos / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", b"\0" * (300 << 20))
    job = submit({"archive": str(photos / "bomb.zip")}).json()
    item = rows("SELECT * FROM items WHERE job_id = :id", id=job["id"])[0]
    place = Location(
        str(photos).encode(), b"bomb.zip", True, item["size"], item["mtime_ns"], item["member"], item["offset"]
    )
    with Reader() as reader, pytest.raises(ImageError) as refused:
        reader.read(place)
    assert refused.value.code == "too_large"


def test_a_tar_that_unpacks_beyond_the_limit_is_refused(
    submit: Ask, photos: Path, home: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.submission.sources.UNPACKED_FACTOR", 0)
    import gzip

    (photos / "bomb.tar.gz").write_bytes(gzip.compress(b"\0" * (8 << 20)))
    answer = submit({"archive": str(photos / "bomb.tar.gz")})
    assert (answer.status_code, answer.json()["type"]) == (422, "/errors#bad-source")
    assert "unpacks to more than" in answer.json()["detail"]
    assert not [path for path in (home / "cache" / "archives").iterdir() if path.suffix in (".tar", ".part")]


def test_a_pixel_bomb_is_a_row(client: TestClient, submit: Ask, photos: Path) -> None:
    from models.images import load_picture  # what the worker decodes with
    from models.manifest import Preprocessing

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b""))
    )
    bomb = b"\x89PNG\r\n\x1a\n" + chunks
    assert client.post("/api/v1/classify", content=bomb, headers={"Prefer": "wait=0"}).status_code == 202
    with pytest.raises(ImageError) as refused:
        load_picture(bomb, Preprocessing(width=16, height=16))
    assert refused.value.code == "too_many_pixels"


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("*a" * 500 + "b", "a" * 255),
        ("**/" * 300 + "b", "a/" * 500),
        ("?*" * 500 + "b", "a" * 255),
        ("**a" * 300 + "b", "a" * 4000),
        ("**/*a*a*a*a/" * 50 + "b", "aaaaaa/" * 500),
    ],
)
def test_a_hostile_glob_costs_no_more_than_its_length(glob: str, path: str) -> None:
    # Tried backwards, each of these takes longer than the universe is old: it ends, or the suite's time limit says so.
    assert compile_pattern(glob).fullmatch(path) is None


def test_a_hostile_glob_is_a_glob(submit: Ask, photos: Path) -> None:
    (photos / ("a" * 200 + ".png")).write_bytes((photos / "000001.png").read_bytes())
    answer = submit(include=["*a" * 500 + "b"])
    assert (answer.status_code, answer.json()["type"]) == (422, "/errors#bad-source")


def test_folders_nested_beyond_what_a_path_can_be_are_passed_over(submit: Ask, photos: Path) -> None:
    here = os.open(photos, os.O_RDONLY)
    for _ in range(3000):  # far beyond the 4,096 bytes that a path may have
        os.mkdir("ab", dir_fd=here)
        below = os.open("ab", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        answer = submit()
    finally:
        subprocess.run(["rm", "-rf", str(photos / "ab")], check=True)  # shutil gives up at a thousand levels
    assert answer.status_code == 202, answer.text
    assert answer.json()["found"] == 5
    assert any("unreadable folder" in reason for reason in answer.json()["ignored"])


def test_devices_and_pipes_in_a_folder_are_never_opened(submit: Ask, photos: Path, rows: Rows) -> None:
    os.mkfifo(photos / "pipe.png")
    os.mkfifo(photos / "pipe")
    (photos / "zero.png").symlink_to("/dev/zero")
    began = time.monotonic()
    job = submit().json()
    assert time.monotonic() - began < 60  # not a measurement: a pipe that is opened waits for ever
    assert job["found"] == 7
    sizes = rows("SELECT path, size FROM items WHERE size IS NULL ORDER BY path")
    assert [row["path"] for row in sizes] == ["pipe.png", "zero.png"]
