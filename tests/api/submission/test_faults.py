"""Submissions while something is broken: a broker frozen, killed or down, the server killed in the middle of a look."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from store import scanning
from store.database import Database
from tests.api.submission.conftest import JOBS
from tests.chaos.servers import Broker
from tests.running import Home, eventually, fake_model, write_images
from tests.serving import Served, serving
from worker.settings import Settings

SUBMISSIONS = 100
TAKEN_S = 1.0  # the issue's, for each of them with four clients at once; measured: 0.7 s at most on two busy cores


class Away(NamedTuple):
    """How a broker goes, and how it is there again."""

    leaves: Callable[[], object]
    comes_back: Callable[[], object]


@pytest.fixture
def place(tmp_path: Path) -> Home:
    fake_model(tmp_path / "home")
    write_images(tmp_path / "photos", 3)
    return Home(tmp_path / "home")


@contextmanager
def frozen(place: Home, photos: Path) -> Iterator[tuple[Served, Away]]:
    """The embedded broker, stopped in the middle: connections stay open and nothing answers."""
    with serving(place, [photos], workers=1) as served:
        broker = _broker(place)
        yield served, Away(broker.suspend, broker.resume)


@contextmanager
def killed(place: Home, photos: Path) -> Iterator[tuple[Served, Away]]:
    """The embedded broker, killed; `pixmill up` starts it again within seconds."""
    with serving(place, [photos], workers=1) as served:
        yield served, Away(_broker(place).kill, lambda: None)


@contextmanager
def down(place: Home, photos: Path) -> Iterator[tuple[Served, Away]]:
    """A broker of its own, ended in order: whoever connects is refused until it is started again."""
    broker = Broker(place.path)
    broker.start()
    with ExitStack() as stack:
        stack.callback(broker.stop)
        url = f"redis+socket://{broker.socket}"
        yield stack.enter_context(serving(place, [photos], workers=1, broker_url=url)), Away(broker.stop, broker.start)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [frozen, killed, down], ids=lambda fault: fault.__name__)
def test_without_a_broker_every_submission_is_taken_at_once_and_every_job_finishes(
    place: Home, tmp_path: Path, fault: Callable[[Home, Path], AbstractContextManager[tuple[Served, Away]]]
) -> None:
    photos = tmp_path / "photos"
    with fault(place, photos) as (served, broker):
        _submit(served, photos)  # the first of a server, which imports what it needs
        broker.leaves()
        try:
            with ThreadPoolExecutor(4) as pool:
                told = list(pool.map(lambda _: _submit(served, photos), range(SUBMISSIONS)))
        finally:
            broker.comes_back()
        assert [code for code, _ in told] == [202] * SUBMISSIONS
        assert max(seconds for _, seconds in told) < TAKEN_S
        query = "SELECT state, COUNT(*) AS n FROM jobs GROUP BY state"
        eventually(lambda: place.sql(query) == [{"state": "done", "n": SUBMISSIONS + 1}], 150, "the end of every job")


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


def _submit(served: Served, photos: Path) -> tuple[int, float]:
    """The status, and what passed on the client's clock from the request to the whole answer."""
    body = {"kind": "classify", "source": {"folder": str(photos)}, "reuse": False}
    before = time.perf_counter()
    answer = served.client.post(JOBS, json=body)
    return answer.status_code, time.perf_counter() - before


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
