"""Submissions while something is broken: the broker frozen or away, the server killed in the middle of a look."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from store import scanning
from store.database import Database
from tests.api.submission.conftest import JOBS
from tests.running import Home, eventually, fake_model, write_images
from tests.serving import Served, serving
from worker.settings import Settings

SUBMISSIONS = 100


@pytest.fixture
def place(tmp_path: Path) -> Home:
    fake_model(tmp_path / "home")
    write_images(tmp_path / "photos", 3)
    return Home(tmp_path / "home")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_without_a_broker_every_submission_is_taken_and_every_job_finishes(
    place: Home, tmp_path: Path, how: signal.Signals
) -> None:
    photos = tmp_path / "photos"
    with serving(place, [photos], workers=1) as served:
        broker = _broker(place)
        broker.send_signal(how)  # as `pixmill up` restarts one that is killed, "away" is a matter of seconds
        try:
            with ThreadPoolExecutor(4) as pool:
                codes = list(pool.map(lambda _: _submit(served, photos), range(SUBMISSIONS)))
            assert codes == [202] * SUBMISSIONS
        finally:
            if how == signal.SIGSTOP:
                broker.send_signal(signal.SIGCONT)
        query = "SELECT state, COUNT(*) AS n FROM jobs GROUP BY state"
        eventually(lambda: place.sql(query) == [{"state": "done", "n": SUBMISSIONS}], 150, "the end of every job")


def test_a_look_that_was_cut_short_by_a_kill_is_begun_again(place: Home, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    with serving(place, [photos]) as served:
        job = _open_as_a_process_that_dies(place, photos)
        assert served.client.get(f"{JOBS}/{job}").json()["state"] == "scanning"
        assert served.process is not None
        served.process.kill()
        served.process.wait()
    database = Database(f"sqlite:///{place.path}/pixmill.db")
    with database.write() as connection:  # as if it had been silent for long
        connection.exec_driver_sql(f"UPDATE jobs SET claimed_at = claimed_at - {scanning.SILENT_S + 60}")
    database.close()
    with serving(place, [photos]) as served:
        eventually(lambda: served.client.get(f"{JOBS}/{job}").json()["state"] == "accepted", 60)
        assert served.client.get(f"{JOBS}/{job}").json()["found"] == 3
    assert place.sql("SELECT COUNT(*) AS n FROM items") == [{"n": 3}]


def _submit(served: Served, photos: Path) -> int:
    body = {"kind": "classify", "source": {"folder": str(photos)}, "reuse": False}
    return served.client.post(JOBS, json=body).status_code


def _broker(place: Home) -> psutil.Process:
    """The server that `pixmill up` started for this home."""
    socket = str(Settings(home=place.path).socket)
    found = [
        process for process in psutil.process_iter(["cmdline"]) if socket in " ".join(process.info["cmdline"] or [])
    ]
    assert len(found) == 1
    return found[0]


def _open_as_a_process_that_dies(place: Home, photos: Path) -> int:
    """What the API writes before it looks: a job that is opened, with its request, and nothing after that."""
    code = f"""
from api.schemas.submit import ClassifyJob, Folder
from api.submission.asked import Asked
from store import scanning
from store import scanning
from store.database import Database
asked = Asked(ClassifyJob(kind="classify", source=Folder(folder={str(photos)!r})), "", None, "fake@1")
print(scanning.open_job(Database("sqlite:///{place.path}/pixmill.db"), asked.draft(), asked.to_json()))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=place.env())
    return int(done.stdout)
