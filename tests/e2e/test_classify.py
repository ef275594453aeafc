"""`pixmill classify` from the outside, with the stand-in engine."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.hostile import write_hostile
from tests.running import Home, eventually, fake_model, running, write_images


def test_every_picture_becomes_one_row(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 300)
    rows = fake_home.json("classify", tmp_path / "photos", "--json")
    assert len(rows) == 300
    assert {row["status"] for row in rows} == {"ok"}
    assert len({row["path"] for row in rows}) == 300
    with sqlite3.connect(fake_home.path / "pixmill.db") as database:
        assert database.execute("SELECT COUNT(DISTINCT path) FROM v_results").fetchone() == (300,)
        totals = database.execute("SELECT state, found, classified, failed, pending FROM v_job_totals").fetchall()
    assert totals == [("done", 300, 300, 0, 0)]


def test_the_summary_says_totals_classes_database_and_what_next(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 30)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "photos" / "notes.txt").write_text("hello")
    done = fake_home.run("classify", tmp_path / "photos", code=6)
    assert done.stdout == ""
    for part in ("31 found = 30 classified + 1 failed", "not_image", ".txt 1", "pixmill.db", "pixmill jobs retry 1"):
        assert part in done.stderr


def test_hostile_files_get_their_code_and_cost_no_neighbour_its_row(fake_home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    expected = write_hostile(folder)
    write_images(folder / "good", 20)
    rows = {row["file_name"]: row for row in fake_home.json("classify", folder, "--json", code=6)}
    good = [row for name, row in rows.items() if name.startswith("good/")]
    assert [row["status"] for row in good] == ["ok"] * 20
    shown = {os.fsencode(name).decode("utf-8", "backslashreplace"): code for name, code in expected.items()}
    got = {name: row["error_code"] or "ok" for name, row in rows.items() if name in shown}
    assert got == {name: code for name, code in shown.items() if code != "missing" or name in got}
    (job,) = fake_home.json("jobs", "list", "--json")
    assert job["state"] == "done_with_errors"
    assert job["found"] == job["classified"] + job["failed"]


def test_unchanged_files_are_answered_without_being_opened(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 200)
    first = fake_home.json("classify", tmp_path / "photos", "--json")
    for path in (tmp_path / "photos").iterdir():  # the content is gone; path, size and time are the same
        facts = path.stat()
        path.write_bytes(bytes(facts.st_size))
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    second = fake_home.json("classify", tmp_path / "photos", "--json")
    assert [row["label"] for row in second] == [row["label"] for row in first]
    assert all(row["reused"] for row in second)
    third = fake_home.json("classify", tmp_path / "photos", "--json", "--no-reuse", code=6)
    assert {row["error_code"] for row in third} == {"not_image"}


def test_the_same_bytes_elsewhere_are_neither_decoded_nor_classified(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 50)
    fake_home.run("classify", tmp_path / "photos")
    (tmp_path / "photos").rename(tmp_path / "moved")
    for path in (tmp_path / "moved").iterdir():
        path.touch()
    rows = fake_home.json("classify", tmp_path / "moved", "--json")
    assert [row["reused"] for row in rows] == [True] * 50
    assert {row["reused"] for row in fake_home.json("classify", tmp_path / "moved", "--json", "--no-reuse")} == {False}


def test_another_model_answers_anew(fake_home: Home, tmp_path: Path) -> None:
    fake_model(fake_home.path, "other", ("x", "y"))
    write_images(tmp_path / "photos", 10)
    fake_home.run("classify", tmp_path / "photos", "--model", "fake")
    rows = fake_home.json("classify", tmp_path / "photos", "--model", "other@1", "--json")
    assert {(row["reused"], row["model"]) for row in rows} == {(False, "other@1")}
    assert fake_home.sql("SELECT COUNT(*) AS n FROM v_model_diff") == [{"n": 10}]


def test_two_commands_beside_each_other_both_finish(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "one", 400)
    write_images(tmp_path / "two", 400, start=1000)
    with running(fake_home, "classify", tmp_path / "one", "--json") as first:
        rows = fake_home.json("classify", tmp_path / "two", "--json")
        out, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    assert len(rows) == len(out.splitlines()) == 400


def test_ctrl_c_pauses_and_resume_goes_on(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 1500)
    points = tmp_path / "points"
    points.mkdir()
    (points / "slice.before").write_text("after 2 sleep 5")  # so that the job is not over before the person is
    slowly = replace(fake_home, environment={**fake_home.environment, "PIXMILL_FAILPOINTS": str(points)})
    with running(slowly, "classify", tmp_path / "photos", "--no-reuse") as process:
        eventually(lambda: bool(fake_home.sql("SELECT 1 AS x FROM v_job_totals WHERE classified > 0")))
        for _ in range(3):  # an impatient person
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "paused" in err
    assert "Traceback" not in err
    fake_home.run("jobs", "resume", "1")
    assert fake_home.sql("SELECT state, classified FROM v_job_totals") == [{"state": "done", "classified": 1500}]


def test_failures_run_again_in_the_same_job(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 5)
    broken = tmp_path / "photos" / "000009.png"
    broken.write_bytes(b"not yet an image")
    fake_home.run("classify", tmp_path / "photos", code=6)
    facts = broken.stat()
    whole = (tmp_path / "photos" / "000001.png").read_bytes()
    broken.write_bytes(whole[: facts.st_size] if len(whole) > facts.st_size else whole)
    fake_home.run("jobs", "retry", "1", code=6)
    (row,) = fake_home.json("results", "1", "--status", "failed", "--json")
    assert row["error_code"] == "changed"


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_results_are_written_to_files(fake_home: Home, tmp_path: Path, ending: str) -> None:
    write_images(tmp_path / "photos", 12)
    out = tmp_path / f"rows.{ending}"
    fake_home.run("classify", tmp_path / "photos", "--out", out, "--top-k", 2)
    if ending == "csv":
        rows = list(csv.DictReader(out.read_text().splitlines()))
        assert rows[0]["label_2"] in ("ant", "bee", "cat", "dog", "eel")
    elif ending == "jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert len(rows[0]["topk"]) == 2
    else:
        import pyarrow.parquet as pq

        rows = pq.read_table(out).to_pylist()
        assert rows[0]["topk"][1]["score"] <= rows[0]["score"]
    assert len(rows) == 12


def test_images_are_filed_into_class_folders(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 40)
    rows = fake_home.json("classify", tmp_path / "photos", "--json")
    for _ in range(2):  # a second time changes nothing
        fake_home.run("sort", 1, tmp_path / "sorted", "--min-score", 0.3)
    there = {str(path.relative_to(tmp_path / "sorted")) for path in (tmp_path / "sorted").rglob("*.png")}
    assert there == {f"{row['label'] if row['score'] >= 0.3 else 'unsure'}/{row['file_name']}" for row in rows}


def test_a_manifest_brings_labels_ids_and_columns_along(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 3)
    manifest = tmp_path / "photos" / "list.csv"
    manifest.write_text("file_name,label,id,site\n000000.png,ant,a1,north\n000002.png,bee,a2,south\ngone.png,cat,a3,\n")
    rows = fake_home.json("classify", manifest, "--json", code=6)
    facts = [(row["file_name"], row["true_label"], row["id"], row["extra"].get("site")) for row in rows]
    assert facts[:2] == [("000000.png", "ant", "a1", "north"), ("000002.png", "bee", "a2", "south")]
    assert rows[2]["error_code"] == "missing"


def test_paths_on_standard_input(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 3)
    listing = "\n".join(str(path) for path in sorted((tmp_path / "photos").iterdir()))
    rows = fake_home.json("classify", "-", "--json", input=listing)
    assert [row["status"] for row in rows] == ["ok"] * 3


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_archives_are_read_in_place(fake_home: Home, tmp_path: Path, kind: str) -> None:
    import shutil

    write_images(tmp_path / "photos", 9)
    form = {"zip": "zip", "tar": "tar", "tar.gz": "gztar"}[kind]
    archive = shutil.make_archive(str(tmp_path / "all"), form, tmp_path / "photos")
    plain = fake_home.json("classify", tmp_path / "photos", "--json", "--no-reuse")
    rows = fake_home.json("classify", archive, "--json", "--no-reuse")
    assert sorted(row["label"] for row in rows) == sorted(row["label"] for row in plain)
    assert {Path(row["path"]).name for row in rows} == {Path(archive).name}


def test_detached_jobs_wait_for_whoever_follows(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 5)
    done = fake_home.run("classify", tmp_path / "photos", "--detach")
    assert done.stdout.strip() == "1"
    assert fake_home.json("jobs", "show", 1, "--json")[0]["state"] == "accepted"
    fake_home.run("jobs", "follow", 1)
    assert fake_home.json("jobs", "show", 1, "--json")[0]["state"] == "done"
    fake_home.run("jobs", "rm", 1)
    assert fake_home.json("jobs", "list", "--json") == []


def test_the_answers_of_a_removed_job_are_never_given_to_other_images(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "one", 30)
    write_images(tmp_path / "two", 30, start=500)
    first = fake_home.json("classify", tmp_path / "one", "--json")
    fake_home.run("jobs", "rm", first[0]["job_id"])
    fake_home.run("classify", tmp_path / "two")
    again = fake_home.json("classify", tmp_path / "one", "--json")
    assert [(row["label"], row["content_hash"]) for row in again] == [(r["label"], r["content_hash"]) for r in first]


def test_a_relative_database_is_one_file_for_command_and_worker(fake_home: Home, tmp_path: Path) -> None:
    fake_home.environment["PIXMILL_DATABASE_URL"] = "sqlite:///rel.db"
    write_images(tmp_path / "photos", 6)
    assert len(fake_home.json("classify", tmp_path / "photos", "--json", cwd=tmp_path)) == 6
    assert (tmp_path / "rel.db").exists()
    assert not list(fake_home.path.glob("run/*.db"))


def test_images_of_one_name_size_and_time_are_all_filed(fake_home: Home, tmp_path: Path) -> None:
    for n, name in enumerate("xyz"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (4, 4), (n, n, n)).save(folder / "img.bmp")
        os.utime(folder / "img.bmp", (1_000_000, 1_000_000))
    fake_home.run("classify", tmp_path / "photos")
    fake_home.run("sort", 1, tmp_path / "out")
    (told,) = fake_home.json("sort", 1, tmp_path / "out", "--json")
    assert told["left_out"] == {"there already": 3}
    contents = {path.read_bytes() for path in (tmp_path / "out").rglob("*.bmp")}
    assert contents == {path.read_bytes() for path in (tmp_path / "photos").rglob("*.bmp")}


def test_a_reader_that_has_enough_ends_the_command_in_peace(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 3000)
    fake_home.run("classify", tmp_path / "photos")
    for form in ("--json", "--format=csv"):
        command = fake_home.command("results", 1, form)
        reader = subprocess.Popen(
            command, env=fake_home.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert reader.stdout
        assert reader.stderr
        reader.stdout.readline()
        reader.stdout.close()
        assert (reader.wait(30), reader.stderr.read()) == (0, "")
        reader.stderr.close()


@pytest.mark.parametrize("move", ["pause", "cancel"])
def test_moves_print_the_job_as_json(fake_home: Home, tmp_path: Path, move: str) -> None:
    write_images(tmp_path / "photos", 5)
    (submitted,) = fake_home.json("classify", tmp_path / "photos", "--detach", "--json")
    (moved,) = fake_home.json("jobs", move, submitted["id"], "--json")
    assert moved["state"] == {"pause": "paused", "cancel": "cancelled"}[move]
    (ended,) = fake_home.json("jobs", "follow", submitted["id"], "--json", code=7)
    assert ended["pending"] == 5


def test_control_characters_in_names_do_not_reach_the_terminal(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 1)
    (tmp_path / "photos" / "000000.png").rename(tmp_path / "photos" / "red\x1b[31m\nline.png")
    fake_home.run("classify", tmp_path / "photos")
    shown = fake_home.run("results", 1).stdout
    assert "\x1b" not in shown
    assert "red\\x1b[31m\\nline.png" in shown


def test_a_result_file_can_be_classified_again(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 5)
    fake_home.run("classify", tmp_path / "photos", "--out", tmp_path / "out.csv")
    rows = fake_home.json("classify", tmp_path / "out.csv", "--json")
    assert [(row["status"], row["true_label"]) for row in rows] == [("ok", None)] * 5
