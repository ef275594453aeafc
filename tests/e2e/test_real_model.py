"""The main job on real photographs with a real ImageNet classifier: bars 2, 3 and 5 of the issue."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.databases import ready_home
from tests.hostile import write_hostile
from tests.killing import kill_broker, kill_child, kill_parent
from tests.running import Home, eventually, running
from tests.servers import new_postgres_database, psql

TOP_1 = 0.86


@pytest.fixture(scope="module")
def labels(shared_data: Path) -> list[str]:
    return (shared_data / "imagenet_labels.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def photos(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    with tarfile.open(shared_data / "imagenet200.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder / "imagenet200"


@pytest.fixture(scope="module")
def imported(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with MobileNetV2, imported by its file alone: the class names lie beside it."""
    home = Home(tmp_path_factory.mktemp("imported"))
    ready_home(home.path)
    home.run("models", "import", shared_data / "mobilenet_v2_imagenet.keras")
    return home


def accuracy(rows: list[dict[str, Any]], labels: list[str]) -> float:
    """File number k in sorted order is class 5k."""
    ordered = sorted(rows, key=lambda row: str(row["file_name"]))
    assert len(ordered) == 200
    return sum(bool(row["label"] == labels[5 * k]) for k, row in enumerate(ordered)) / 200


def test_two_hundred_photographs_by_json_and_by_plain_sqlite(imported: Home, photos: Path, labels: list[str]) -> None:
    rows = imported.json("classify", photos, "--model", "mobilenet_v2", "--json")
    top_1 = accuracy(rows, labels)
    assert top_1 >= TOP_1
    with sqlite3.connect(imported.path / "pixmill.db") as database:
        database.row_factory = sqlite3.Row
        plain = [dict(row) for row in database.execute("SELECT file_name, label FROM v_results WHERE job_id = 1")]
    database.close()
    assert accuracy(plain, labels) == top_1


def test_the_same_on_postgresql_by_psql(imported: Home, photos: Path, labels: list[str], postgres: str) -> None:
    url = new_postgres_database(postgres)
    home = Home(imported.path, {"PIXMILL_DATABASE_URL": url})
    rows = home.json("classify", photos, "--model", "mobilenet_v2", "--json")
    top_1 = accuracy(rows, labels)
    assert top_1 >= TOP_1
    lines = psql(url, "SELECT file_name, label FROM v_results").splitlines()
    assert (
        accuracy([dict(zip(("file_name", "label"), line.split("\t"), strict=True)) for line in lines], labels) == top_1
    )


def test_hostile_files_among_good_ones(imported: Home, photos: Path, labels: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    expected = {os.fsencode(n).decode("utf-8", "backslashreplace"): c for n, c in write_hostile(folder).items()}
    kinds = [name for name, code in expected.items() if code != "ok"]
    assert len(kinds) >= 40
    shutil.copytree(photos, folder / "good")
    rows = imported.json("classify", folder, "--model", "mobilenet_v2", "--json", code=6)
    good = [row for row in rows if row["file_name"].startswith("good/")]
    assert accuracy(good, labels) >= TOP_1
    got = {row["file_name"]: row["error_code"] or "ok" for row in rows if row["file_name"] in expected}
    assert got == expected
    assert all(row["error"] for row in rows if row["status"] == "failed")
    state = imported.sql("SELECT state, found, classified, failed FROM v_job_totals ORDER BY job_id DESC LIMIT 1")[0]
    assert state["state"] == "done_with_errors"
    assert state["found"] == state["classified"] + state["failed"] == len(rows)


DRAIN = """
import sys
from worker.devices import CPU
from worker.settings import Settings
from worker.station import Station
station = Station(Settings(), CPU, lambda: False)
station.drain()
print(*(name for name in ("tensorflow", "keras", "torch", "jax", "cv2", "sklearn") if name in sys.modules))
"""


def test_the_classify_worker_needs_no_framework(imported: Home, photos: Path) -> None:
    imported.run("classify", photos, "--no-reuse", "--detach")
    command = [sys.executable, "-P", "-c", DRAIN]
    done = subprocess.run(command, env=imported.env(), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
    assert imported.json("jobs", "list", "--limit", 1, "--json")[0]["state"] == "done"


def test_a_busy_worker_stays_below_700_megabytes(imported: Home, photos: Path, tmp_path: Path) -> None:
    for copy in range(3):
        shutil.copytree(photos, tmp_path / "many" / str(copy))
    most = 0
    with running(imported, "classify", tmp_path / "many", "--no-reuse") as process:

        def ended() -> bool:
            nonlocal most
            for one in imported.processes():
                try:
                    most = max(most, one.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            return process.poll() is not None

        eventually(ended, 120, "the end of the job")
    assert 100 << 20 < most < 700 << 20


def test_one_photograph_is_classified_within_seconds(imported: Home, photos: Path) -> None:
    """Not a benchmark: the bound is several times what it takes, so that only a broken start can fail here."""
    one = next(photos.iterdir())
    imported.run("classify", one)
    before = time.monotonic()
    (row,) = imported.json("classify", one, "--no-reuse", "--json")
    assert row["status"] == "ok"
    assert time.monotonic() - before < 20


@pytest.mark.parametrize(
    "kill",
    [kill_child, *(pytest.param(kill, marks=pytest.mark.long) for kill in (kill_parent, kill_broker))],
)
def test_kills_among_many_photographs_cost_and_double_nothing(
    imported: Home, photos: Path, tmp_path: Path, kill: Callable[[Home], None]
) -> None:
    """PIXMILL_KILLS says how often within one job: once by default, five times among 2,000 for the long dose."""
    kills = int(os.environ.get("PIXMILL_KILLS", "1"))
    images = 200 * max(4, 2 * kills)
    for copy in range(images // 200):
        for photo in photos.iterdir():
            os.link(photo, tmp_path / f"{copy}_{photo.name}")

    def done() -> int:
        rows = imported.sql("SELECT classified FROM v_job_totals ORDER BY job_id DESC LIMIT 1")
        return int(rows[0]["classified"])

    with running(imported, "classify", tmp_path, "--no-reuse", "--json") as process:
        eventually(
            lambda: imported.sql("SELECT MAX(found) AS n FROM v_job_totals WHERE state = 'running'") == [{"n": images}]
        )
        delivered, before = 0, 0
        for _ in range(kills):
            eventually(lambda: done() > before, 60, "progress after a kill")  # noqa: B023  called at once
            before = done()
            if before < images:
                with suppress(psutil.NoSuchProcess):
                    kill(imported)
                delivered += 1
        out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert delivered == kills
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == len({row["path"] for row in rows}) == images
    job_id = rows[0]["job_id"]
    query = f"SELECT COUNT(*) AS n, COUNT(DISTINCT idx) AS d FROM results WHERE job_id = {job_id} AND status = 'ok'"
    assert imported.sql(query) == [{"n": images, "d": images}]


@pytest.mark.long
def test_a_gpu_that_keras_does_not_see_is_refused_instead_of_computing_on_the_cpu(imported: Home, photos: Path) -> None:
    done = imported.run("classify", photos, "--no-reuse", "--device", "GPU-dead0000-1", code=1)
    assert "No worker can run here" in done.stderr
    log = (imported.path / "logs" / "worker-gpu-dead0000.log").read_text()
    assert "exactly one GPU, GPU-dead0000-1; it sees 0" in log
    (job,) = imported.json("jobs", "list", "--limit", 1, "--json")
    assert (job["classified"], job["pending"]) == (0, 200)
    imported.run("jobs", "follow", job["id"])
