"""POST /jobs: what is accepted, and as what."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from models.errors import InvalidRecipe
from models.recipes import check_recipe
from store import scanning
from store.database import Database
from tests.api.submission.conftest import JOBS, Ask, classify
from tests.cli.histories import History, finished_run
from tests.running import eventually, fake_model, write_images
from worker.settings import Settings
from worker.wishes import Wishes, further_recipe

Rows = Callable[..., list[dict[str, Any]]]


def test_a_folder_is_accepted_with_its_address_and_its_record(submit: Ask, photos: Path, rows: Rows) -> None:
    answer = submit(top_k=3, priority=2, reuse=False)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"{JOBS}/{job['id']}"
    told = {key: job[key] for key in ("state", "found", "model", "top_k", "priority", "reuse", "description", "root")}
    assert told == {
        "state": "accepted", "found": 5, "model": "fake@1", "top_k": 3, "priority": 2, "reuse": False,
        "description": f"folder {photos}", "root": str(photos),
    }  # fmt: skip
    kept = rows("SELECT path FROM items WHERE job_id = :id ORDER BY idx", id=job["id"])
    assert [row["path"] for row in kept] == [f"{n:06}.png" for n in range(5)]
    assert rows("SELECT confined FROM jobs")[0]["confined"] in (True, 1)


def test_globs_and_folder_labels_are_taken_as_on_the_command_line(client: TestClient, photos: Path, rows: Rows) -> None:
    write_images(photos / "cats", 2)
    body = {"kind": "classify", "source": {"folder": str(photos)}, "labels": "folder", "include": ["cats/*"]}
    job = client.post(JOBS, json={**body, "exclude": ["*1.png"]}).json()
    kept = rows("SELECT path, label FROM items WHERE job_id = :id", id=job["id"])
    assert kept == [{"path": "cats/000000.png", "label": "cats"}]


def test_paths_of_all_kinds_make_one_job(submit: Ask, photos: Path, rows: Rows) -> None:
    write_images(photos / "more", 2)
    with zipfile.ZipFile(photos / "some.zip", "w") as archive:
        archive.write(photos / "000004.png", "inner/a.png")
    paths = [photos / "000001.png", photos / "more", photos / "some.zip", photos / "*3.png"]
    job = submit({"paths": [str(path) for path in paths]}).json()
    assert job["found"] == 5
    kept = rows("SELECT path, member FROM items WHERE job_id = :id ORDER BY idx", id=job["id"])
    assert [(row["path"], row["member"]) for row in kept][-2:] == [("some.zip", "inner/a.png"), ("000003.png", None)]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_manifest_keeps_its_columns(submit: Ask, photos: Path, rows: Rows, suffix: str) -> None:
    lines = [{"file_name": f"{n:06}.png", "label": "bee", "camera": "left"} for n in range(3)]
    path = photos / f"list{suffix}"
    _write(path, lines)
    answer = submit({"manifest": str(path)})
    assert answer.status_code == 202, answer.text
    kept = rows("SELECT path, label, extra FROM items ORDER BY idx")
    assert [(row["path"], row["label"]) for row in kept] == [(f"{n:06}.png", "bee") for n in range(3)]
    assert json.loads(kept[0]["extra"]) == {"camera": "left"}
    assert answer.json()["description"] == f"manifest {path}"


def test_a_manifest_may_name_files_elsewhere_below_its_root(submit: Ask, photos: Path, rows: Rows) -> None:
    (photos / "lists").mkdir()
    lines = [{"file_name": "../000001.png"}, {"file_name": str(photos / "000002.png")}]
    _write(photos / "lists" / "some.csv", lines)
    job = submit({"manifest": str(photos / "lists" / "some.csv")}).json()
    assert job["root"] == str(photos)
    kept = rows("SELECT path FROM items ORDER BY idx")
    assert [row["path"] for row in kept] == ["000001.png", str(photos / "000002.png")]


def test_a_broken_parquet_manifest_is_refused_with_its_name(submit: Ask, photos: Path) -> None:
    (photos / "bad.parquet").write_bytes(b"PAR1 nothing PAR1")
    answer = submit({"manifest": str(photos / "bad.parquet")})
    assert (answer.status_code, answer.json()["type"]) == (422, "/errors#bad-source")
    assert str(photos / "bad.parquet") in answer.json()["detail"]


def test_an_archive_is_read_in_place(submit: Ask, photos: Path, rows: Rows) -> None:
    with tarfile.open(photos / "some.tar.gz", "w:gz") as archive:
        archive.add(photos / "000001.png", "a/b.png")
    assert submit({"archive": str(photos / "some.tar.gz")}).json()["found"] == 1
    assert rows("SELECT path, member FROM items") == [{"path": "some.tar.gz", "member": "a/b.png"}]


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ({"folder": "{photos}/000001.png"}, "bad-source"),
        ({"manifest": "{photos}"}, "bad-source"),
        ({"archive": "{photos}/000001.png"}, "bad-source"),
        ({"folder": "{photos}/nowhere"}, "no-such-path"),
        ({"folder": "{photos}/empty"}, "bad-source"),
        ({"paths": ["{photos}/*.gif"]}, "no-such-path"),
    ],
)
def test_what_a_quick_look_finds_wrong_leaves_no_job(
    submit: Ask, photos: Path, rows: Rows, source: dict[str, Any], kind: str
) -> None:
    (photos / "empty").mkdir()
    filled = json.loads(json.dumps(source).replace("{photos}", str(photos)))
    answer = submit(filled)
    assert (answer.status_code, answer.json()["type"]) == (422, f"/errors#{kind}"), answer.text
    assert rows("SELECT id FROM jobs") == []


def test_the_log_says_which_job_a_submission_made(
    submit: Ask, client: TestClient, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="pixmill.access")
    job = submit().json()["id"]
    picture = next(photos.iterdir()).read_bytes()
    quick = client.post("/api/v1/classify", content=picture, headers={"Prefer": "wait=0"}).json()["id"]
    assert submit({"folder": "/nowhere"}).status_code == 403
    lines = [record.__dict__ for record in caplog.records if record.name == "pixmill.access"]
    assert [(line["path"], line.get("job")) for line in lines] == [
        (JOBS, str(job)),
        ("/api/v1/classify", str(quick)),
        (JOBS, None),
    ]


def test_a_long_look_is_answered_before_it_is_over(
    submit: Ask, client: TestClient, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = _hold(monkeypatch)
    job = submit().json()
    assert job["state"] == "scanning"
    go_on.set()
    eventually(lambda: rows("SELECT state, n_items FROM jobs") == [{"state": "accepted", "n_items": 5}])


def test_what_a_long_look_finds_wrong_is_told_by_the_job(
    submit: Ask, photos: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(photos / "bad.csv", [{"file_name": "a.png"}, {"file_name": "b.png", "label": "x"}, {"file_name": ""}])
    go_on = _hold(monkeypatch)
    assert submit({"manifest": str(photos / "bad.csv")}).json()["state"] == "scanning"
    go_on.set()
    eventually(lambda: rows("SELECT state FROM jobs") == [{"state": "failed"}])
    assert "line 4: expected a file_name" in rows("SELECT error FROM jobs")[0]["error"]


def test_a_job_may_be_deleted_while_its_images_are_looked_for(
    submit: Ask, client: TestClient, rows: Rows, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.submission.turns.LOOK_EVERY", 1)
    monkeypatch.setattr("api.submission.turns.STEP_S", 0.0)
    go_on = _hold(monkeypatch)
    job = submit().json()
    threading.Timer(0.2, go_on.set).start()
    assert client.delete(f"{JOBS}/{job['id']}").status_code == 204
    assert rows("SELECT id FROM jobs") == []
    assert rows("SELECT idx FROM items") == []


def test_a_dry_run_tells_what_a_job_would_hold_and_makes_none(client: TestClient, photos: Path, rows: Rows) -> None:
    (photos / "notes.txt").write_text("no picture")
    answer = client.post(f"{JOBS}?dry_run=true", json={"kind": "classify", "source": {"folder": str(photos)}})
    assert answer.status_code == 200
    found = answer.json()
    sizes = sorted(path.stat().st_size for path in photos.glob("*.png"))
    assert (found["items"], found["formats"], found["ignored"]) == (5, {".png": 5}, {".txt": 1})
    assert found["bytes"] == {"total": sum(sizes), "smallest": sizes[0], "median": sizes[2], "largest": sizes[-1]}
    assert (found["complete"], found["model"], found["seconds"]) == (True, "fake@1", None)
    assert rows("SELECT id FROM jobs") == []


def test_a_dry_run_estimates_by_the_past_jobs_of_the_model(
    client: TestClient, submit: Ask, photos: Path, database: Database
) -> None:
    """Five images at the median of 20, 40 and 80 a second; a small job, and one that was paused, say nothing."""
    for n_items, took in ((1000, 50), (1000, 25), (1000, 12.5), (5, 0.001), (1000, 1)):
        job = submit().json()["id"]
        with database.write() as connection:
            values = f"state = 'done', n_items = {n_items}, started_at = 1.7e9, finished_at = 1.7e9 + {took}"
            connection.execute(text(f"UPDATE jobs SET {values} WHERE id = {job}"))
    with database.write() as connection:
        connection.execute(text(f"UPDATE events SET kind = 'paused' WHERE job_id = {job}"))
    body = {"kind": "classify", "source": {"folder": str(photos)}}
    found = client.post(f"{JOBS}?dry_run=true", json=body).json()
    assert (found["images_per_s"], found["seconds"]) == (40.0, 0.1)


def test_an_evaluation_is_a_job_over_labelled_images(client: TestClient, photos: Path, rows: Rows) -> None:
    for n, label in enumerate(("ant", "bee")):
        write_images(photos / "test" / label, 2, start=10 * n)
        write_images(photos / "train" / label, 1, start=100 + n)
    body = {"kind": "evaluate", "source": {"folder": str(photos)}, "model": "fake", "split": "test"}
    answer = client.post(JOBS, json=body)
    assert answer.status_code == 202, answer.text
    assert (answer.json()["found"], answer.json()["kind"]) == (4, "classify")
    assert [row["label"] for row in rows("SELECT label FROM items ORDER BY idx")] == ["ant", "ant", "bee", "bee"]
    write_images(photos / "test" / "zebra", 1)
    strange = client.post(JOBS, json=body)
    assert (strange.status_code, strange.json()["type"]) == (422, "/errors#invalid-recipe")
    assert "zebra" in strange.json()["detail"]


def test_a_training_is_queued_with_the_recipe_that_the_command_line_would_make(
    client: TestClient, photos: Path, rows: Rows
) -> None:
    for n, label in enumerate(("ant", "bee")):
        write_images(photos / label, 4, start=10 * n)
    wishes = {"preset": "cifar_cnn", "epochs": 3, "set": {"optimizer.learning_rate": 0.5, "split": {"validation": 0.5}}}
    body = {"kind": "finetune", "name": "Insects", "source": {"folder": str(photos)}, "priority": 1, **wishes}
    answer = client.post(JOBS, json=body)
    assert answer.status_code == 202, answer.text
    assert (answer.json()["kind"], answer.json()["found"], answer.json()["priority"]) == ("finetune", 8, 1)
    run = rows("SELECT name, recipe, owner FROM runs")[0]
    from models.recipes import make_recipe

    said = {"epochs": 3, "optimizer": {"learning_rate": 0.5}, "split": {"validation": 0.5}}
    expected = make_recipe(None, base=None, preset="cifar_cnn", said=said).model_dump(exclude_none=True)
    assert (run["name"], json.loads(run["recipe"])) == ("insects", expected)
    assert rows("SELECT queue FROM shards") == [{"queue": "train"}]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"preset": None}, "invalid-recipe"),
        ({"preset": "cifar_cmm"}, "invalid-recipe"),
        ({"base": "nobody"}, "invalid-recipe"),
        ({"preset": None, "base": "nobody"}, "unknown-model"),
        ({"mode": "head"}, "invalid-recipe"),
        ({"name": "../x"}, "invalid-model"),
        ({"name": None}, "contradictory"),
        ({"source": None}, "contradictory"),
        ({"add_epochs": 3}, "contradictory"),
        ({"recipe": {"epochs": -1}}, "invalid-recipe"),
        ({"recipe": {"no_such_key": 1}}, "invalid-recipe"),
        ({"set": {"a.b.c.d": 1}}, "invalid-recipe"),
        ({"set": {"": 1}}, "invalid-recipe"),
        ({"set": {"optimizer": 5}}, "invalid-recipe"),
        ({"epochs": 10**7}, "invalid"),
        ({"continue_run": 77}, "contradictory"),
        ({"continue_run": 77, "source": None}, "not-found"),
    ],
)
def test_a_training_that_cannot_be_is_refused_before_its_pictures_are_read(
    client: TestClient, photos: Path, rows: Rows, change: dict[str, Any], kind: str
) -> None:
    body = {"kind": "finetune", "name": "x", "source": {"folder": str(photos)}, "preset": "cifar_cnn", **change}
    answer = client.post(JOBS, json={key: value for key, value in body.items() if value is not None})
    assert answer.json()["type"] == f"/errors#{kind}", answer.text
    assert answer.status_code in (404, 422)
    assert rows("SELECT id FROM jobs") == []


def test_without_a_model_the_only_one_is_taken_and_of_several_one_must_be_named(submit: Ask, home: Path) -> None:
    assert submit().json()["model"] == "fake@1"
    fake_model(home, "other")
    refused = submit()
    assert (refused.status_code, refused.json()["type"]) == (422, "/errors#unknown-model")
    assert "fake, other" in refused.json()["detail"]
    shutil.rmtree(home / "models")
    assert submit(model="fake").json()["type"] == "/errors#unknown-model"


def test_prefer_wait_is_answered_when_the_time_is_up(submit: Ask) -> None:
    answer = submit(headers={"Prefer": "respond-async, wait=1"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=1"
    assert "preference-applied" not in submit(headers={"Prefer": "wait=soon"}).headers


def test_prefer_wait_is_answered_with_the_job_as_soon_as_it_is_over(submit: Ask, settings: Settings) -> None:
    begun = time.monotonic()
    with ThreadPoolExecutor(1) as worker:
        worker.submit(classify, settings)
        answer = submit(headers={"Prefer": "wait=60"})
    assert (answer.status_code, answer.json()["state"], answer.json()["classified"]) == (202, "done", 5)
    assert answer.headers["preference-applied"] == "wait=60"
    assert time.monotonic() - begun < 50


def _hold(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Make every scan wait, as on a slow disk, until the event is set."""
    go_on = threading.Event()
    fill = scanning.fill

    def slow(*arguments: Any, **options: Any) -> None:
        assert go_on.wait(60)
        fill(*arguments, **options)

    monkeypatch.setattr(scanning, "fill", slow)
    monkeypatch.setattr("api.submission.service.WAIT_S", 0.05)
    return go_on


def _write(path: Path, lines: list[dict[str, str]]) -> None:
    names = sorted({name for line in lines for name in line}, reverse=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    elif path.suffix == ".csv":
        text = io.StringIO()
        table = csv.DictWriter(text, names, restval="")
        table.writeheader()
        table.writerows(lines)
        path.write_text(text.getvalue())
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(lines), path)


@pytest.mark.parametrize("total", [2, 3, 4, 6])
def test_a_run_that_was_ended_early_goes_on_as_on_the_command_line(
    client: TestClient, settings: Settings, home: Path, total: int
) -> None:
    """Three of its four epochs were trained: from there on it is counted, whole recipe or single choices."""
    fake_model(home, "birds", ("robin", "wren"))
    database = Database(settings.database)
    before = finished_run(database, History())
    database.close()
    assert (before.epochs, before.epochs_planned) == (3, 4)
    try:
        recipe = further_recipe(check_recipe(before.recipe), before.epochs, Wishes(epochs=total))
    except InvalidRecipe:
        recipe = check_recipe({**before.recipe, "epochs": total})
        allowed = False
    else:
        allowed = True
    assert allowed == (total > 3)
    going_on = {"kind": "finetune", "name": f"on{total}", "continue_run": before.id}
    for chosen in ({"recipe": recipe.model_dump(mode="json", exclude_none=True)}, {"epochs": total}):
        answer = client.post(JOBS, json={**going_on, **chosen})
        assert (answer.status_code == 202) == allowed, answer.text
        assert allowed or answer.json()["type"] == "/errors#invalid-recipe"
