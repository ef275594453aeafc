"""The broker is away, flushed, frozen or deaf, the database stands still: jobs finish, and nobody hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest
import redis

from tests.chaos.proxy import Proxy
from tests.freezing import Freezer
from tests.killing import is_worker, worker_parents
from tests.running import Home, eventually, fake_model, running, write_images, write_slow
from tests.serving import free_port, serving
from worker import watchdog
from worker.broker import EmbeddedBroker
from worker.devices import Device
from worker.settings import Settings
from worker.supervisor import DRAIN_S, STOP_S, Supervisor

IMAGES = 600
WORKER = ("worker", "--devices", "cpu", "--queues", "classify")
HANG_S = 5.0  # no command, from the start of its process to its end, and no request, takes longer


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that take some milliseconds each, so that the faults meet work."""
    return write_slow(tmp_path_factory.mktemp("photos"), IMAGES)


@contextmanager
def broker(folder: Path) -> Iterator[tuple[EmbeddedBroker, Settings]]:
    """A broker that nobody starts again."""
    settings = Settings(home=folder)
    made = EmbeddedBroker(settings)
    made.start()
    try:
        yield made, settings
    finally:
        process = made.kept.process if made.kept else None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGCONT)
        made.stop()


def children(home: Home) -> list[psutil.Process]:
    return [child for parent in worker_parents(home) for child in parent.children() if is_worker(child)]


def signed_in(home: Home) -> bool:
    pids = {row["pid"] for row in home.sql("SELECT pid FROM workers WHERE state = 'idle'")}
    return bool(pids & {child.pid for child in children(home)})


def state(home: Home, job: int = 1) -> str:
    rows = home.sql(f"SELECT state FROM jobs WHERE id = {job}")
    return str(rows[0]["state"]) if rows else ""


def is_done(home: Home, job: int) -> bool:
    return state(home, job) == "done"


def finished(home: Home, images: int, seconds: float = 120) -> None:
    """The job ends, each image with one row."""
    eventually(lambda: state(home) == "done", seconds, "the end of the job")
    rows = home.sql("SELECT COUNT(*) AS n, COUNT(DISTINCT idx) AS d FROM results WHERE status = 'ok'")
    assert rows == [{"n": images, "d": images}]


def supervised(process: subprocess.Popen[str]) -> str:
    """End a supervisor in order; what it said."""
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=STOP_S + 20)
    assert process.returncode == 0, said
    return said


def test_without_any_broker_an_idle_worker_finds_the_job_and_a_killed_one_is_replaced(
    fake_home: Home, photos: Path
) -> None:
    """From before the submission to the end of the job nobody listens where the broker should be."""
    fake_home.environment["PIXMILL_BROKER_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    with running(fake_home, *WORKER) as supervisor:
        eventually(lambda: signed_in(fake_home), what="a worker that signed in without a broker")
        fake_home.run("classify", photos, "--no-reuse", "--detach")
        eventually(lambda: fake_home.sql("SELECT COUNT(*) AS n FROM results") != [{"n": 0}])
        (child,) = children(fake_home)
        child.kill()  # the pool's loop waits for the broker: mostly the supervisor has to replace both
        eventually(lambda: any(one.pid != child.pid for one in children(fake_home)), 60, "another child")
        finished(fake_home, IMAGES)
        said = supervised(supervisor)
    assert "Traceback" not in said


def test_without_any_broker_jobs_begin_about_as_soon(fake_home: Home, tmp_path: Path) -> None:
    """Each one is submitted right after a look for work, and waits for the next one."""
    photos, jobs = tmp_path / "few", range(1, 6)
    write_images(photos, 3)
    fake_home.environment["PIXMILL_BROKER_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    with running(fake_home, *WORKER) as supervisor:
        eventually(lambda: signed_in(fake_home), what="a worker that signed in without a broker")
        for job in jobs:
            fake_home.run("classify", photos, "--no-reuse", "--detach")
            eventually(partial(is_done, fake_home, job), 60, "the end of the job")
        supervised(supervisor)
    (row,) = fake_home.sql("SELECT SUM(started_at - created_at) AS waited FROM jobs")
    assert row["waited"] < 2 * len(jobs)


def test_a_broker_that_is_flushed_all_the_time_and_then_dies_is_not_missed(
    fake_home: Home, tmp_path: Path, photos: Path
) -> None:
    ended = threading.Event()
    with broker(tmp_path / "elsewhere") as (server, settings):
        client = redis.Redis(unix_socket_path=str(settings.socket))

        def flush() -> None:
            while not ended.wait(0.2):  # ten times as often as the issue says
                client.flushall()

        fake_home.environment["PIXMILL_BROKER_URL"] = settings.broker
        flusher = threading.Thread(target=flush)
        flusher.start()
        try:
            with running(fake_home, *WORKER) as supervisor:
                fake_home.run("classify", photos, "--no-reuse", "--detach")
                finished(fake_home, IMAGES)
                ended.set()
                flusher.join()
                client.close()
                server.stop()  # before the submission's hint could be heard: there was none yet
                fake_home.run("classify", photos, "--no-reuse", "--detach")
                eventually(lambda: state(fake_home, 2) == "done", 120, "the end of the second job")
                supervised(supervisor)
        finally:
            ended.set()
            flusher.join()


def test_a_worker_whose_broker_is_a_black_hole_finds_work(fake_home: Home, tmp_path: Path, photos: Path) -> None:
    """The consumer's connection stays and nothing comes through it, although hints lie in the queue."""
    with broker(tmp_path / "elsewhere") as (_, settings), Proxy(settings.socket) as proxy:
        fake_home.environment["PIXMILL_BROKER_URL"] = f"redis://127.0.0.1:{proxy.port}/0"
        with running(fake_home, *WORKER) as supervisor:
            eventually(lambda: signed_in(fake_home))
            proxy.swallow()
            direct = {"PIXMILL_BROKER_URL": settings.broker}
            fake_home.run("classify", photos, "--no-reuse", "--detach", env={**fake_home.env(), **direct})
            finished(fake_home, IMAGES)
            before = time.monotonic()
            said = supervised(supervisor)
            assert time.monotonic() - before < STOP_S
    assert "starting it again" not in said


def test_a_worker_whose_parent_stands_still_works_on(fake_home: Home, photos: Path) -> None:
    """Celery's consumer is deaf in every way that a process can be."""
    with running(fake_home, *WORKER) as supervisor:
        eventually(lambda: signed_in(fake_home))
        (parent,) = worker_parents(fake_home)
        parent.suspend()
        fake_home.run("classify", photos, "--no-reuse", "--detach")
        finished(fake_home, IMAGES)
        parent.resume()
        assert "starting it again" not in supervised(supervisor)


def test_sigterm_drains_a_worker_that_works_on_what_nobody_rang_for(fake_home: Home, photos: Path) -> None:
    fake_home.environment["PIXMILL_BROKER_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    with running(fake_home, *WORKER) as supervisor:
        eventually(lambda: signed_in(fake_home))
        fake_home.run("classify", photos, "--no-reuse", "--detach")
        eventually(lambda: fake_home.sql("SELECT COUNT(*) AS n FROM results") != [{"n": 0}])
        before = time.monotonic()
        supervised(supervisor)
        assert time.monotonic() - before < DRAIN_S
    assert fake_home.sql("SELECT COUNT(*) AS n FROM shards WHERE state = 'leased'") == [{"n": 0}]
    assert fake_home.sql("SELECT COUNT(*) AS n FROM attempts WHERE outcome IS NULL") == [{"n": 0}]


def test_a_worker_that_stands_still_beside_work_is_started_again(
    fake_home: Home, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both of its processes are stopped while it is idle: nothing of it can notice, or be told."""
    for name, value in fake_home.environment.items():
        monkeypatch.setenv(name, value)
    told: list[str] = []
    device = Device(f"gpu-dddd{os.getpid() % 10000:04}", "GPU-dddd", "A pretended GPU")
    patient = watchdog.Watchdog.__init__

    def hasty(self: watchdog.Watchdog, database: object, **_: object) -> None:
        patient(self, database, patience_s=2.0, starting_s=0.0)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(watchdog.Watchdog, "__init__", hasty)
    supervisor = Supervisor(Settings(home=fake_home.path), [device], told.append)
    supervisor.start()
    try:
        eventually(lambda: signed_in(fake_home))
        before = children(fake_home)
        for process in (*worker_parents(fake_home), *before):
            process.suspend()
        fake_home.run("classify", photos, "--no-reuse", "--detach")
        finished(fake_home, IMAGES)
        assert [text for text in told if "took no work for long though there was some" in text]
        assert all(not child.is_running() for child in before)
    finally:
        supervisor.stop()


def test_a_child_that_died_and_was_replaced_is_told_of(fake_home: Home, photos: Path) -> None:
    with serving(fake_home, [photos], workers=1):
        eventually(lambda: signed_in(fake_home))
        (child,) = children(fake_home)
        said = fake_home.path / "served.log"
        eventually(lambda: "worker classify · CPU: ready" in said.read_text())
        time.sleep(3.5)  # a round, so that the supervisor has seen it
        child.kill()
        eventually(lambda: f"The worker on CPU lost its process {child.pid}" in said.read_text())


@pytest.fixture
def frozen(fake_home: Home, tmp_path: Path) -> Iterator[Home]:
    """A home whose broker accepts connections and answers nothing."""
    with broker(tmp_path / "elsewhere") as (server, settings):
        fake_home.environment["PIXMILL_BROKER_URL"] = settings.broker
        assert server.kept
        assert server.kept.process
        server.kept.process.send_signal(signal.SIGSTOP)
        yield fake_home


def test_no_command_waits_for_a_broker_that_is_frozen(frozen: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 3)
    commands: list[tuple[int | None, tuple[object, ...]]] = [
        (0, ("classify", tmp_path / "photos", "--detach")),
        (0, ("jobs", "show", 1)),
        (0, ("jobs", "pause", 1)),
        (0, ("jobs", "resume", 1, "--detach")),
        (0, ("jobs", "cancel", 1)),
        (7, ("jobs", "follow", 1)),
        (None, ("jobs", "retry", 1, "--detach")),
        (0, ("workers",)),
        (1, ("doctor", "--quick")),
    ]
    for code, words in commands:
        before = time.monotonic()
        done = frozen.run(*words, code=None)
        took = time.monotonic() - before
        assert took < HANG_S, (words, took)
        assert code is None or done.returncode == code, (words, done.stderr)


def test_no_request_waits_for_a_broker_that_is_frozen(frozen: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 3)
    body = {"kind": "classify", "source": {"folder": str(tmp_path / "photos")}}
    with serving(frozen, [tmp_path]) as served:
        requests: list[tuple[str, str, dict[str, object]]] = [
            ("POST", "/api/v1/jobs", {"json": body}),
            ("POST", "/api/v1/jobs", {"json": body, "headers": {"Prefer": "wait=1"}}),
            ("GET", "/api/v1/jobs/1", {}),
            ("POST", "/api/v1/jobs/1/pause", {}),
            ("POST", "/api/v1/jobs/1/resume", {}),
            ("POST", "/api/v1/jobs/1/cancel", {}),
            ("GET", "/readyz?verbose", {}),
            ("GET", "/metrics", {}),
            ("GET", "/api/v1/workers", {}),
        ]
        for method, path, more in requests:
            before = time.monotonic()
            answer = served.client.request(method, path, **more)  # type: ignore[arg-type]  # passed on
            took = time.monotonic() - before
            assert took < HANG_S, (method, path, took)
            assert answer.status_code < 500 or path.startswith("/readyz"), (method, path, answer.text)


def test_a_worker_ends_in_time_while_the_broker_is_frozen(frozen: Home) -> None:
    with running(frozen, *WORKER) as supervisor:
        eventually(lambda: signed_in(frozen), what="a worker that signed in")
        before = time.monotonic()
        supervised(supervisor)
        assert time.monotonic() - before < STOP_S


@pytest.fixture
def server(freezable: Freezer) -> Iterator[Freezer]:
    yield freezable
    freezable.thaw()


def test_a_postgresql_that_stands_still_in_the_middle_of_a_job_costs_time_and_nothing_else(
    home: Home, photos: Path, server: Freezer
) -> None:
    """Longer than the leases last; `up` answers, commands say what is wrong, and then all goes on by itself."""
    url = server.new_database()
    home.environment |= {"PIXMILL_DATABASE_URL": url, "PIXMILL_LEASE_S": "6"}
    fake_model(home.path)
    try:
        with serving(home, [photos], workers=1, database_url=url) as served:
            body = {"kind": "classify", "source": {"folder": str(photos)}, "reuse": False}
            assert served.client.post("/api/v1/jobs", json=body).status_code == 202
            eventually(lambda: home.sql("SELECT COUNT(*) AS n FROM results") != [{"n": 0}])
            server.freeze()
            before = time.monotonic()
            done = home.run("jobs", "list", code=3)
            assert "cannot be reached" in done.stderr
            assert served.client.get("/livez").status_code == 200
            eventually(lambda: time.monotonic() - before > 8)
            server.thaw()
            finished(home, IMAGES)
    finally:
        server.thaw()


@pytest.mark.long
def test_up_ends_in_time_while_postgresql_stands_still(home: Home, photos: Path, server: Freezer) -> None:
    fake_model(home.path)
    try:
        with serving(home, [photos], workers=1, database_url=server.new_database()) as served:
            eventually(lambda: served.client.get("/api/v1/workers").json()["items"] != [])
            server.freeze()
            before = time.monotonic()
            assert served.process
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(STOP_S + 10) == 0
            assert time.monotonic() - before < STOP_S
    finally:
        server.thaw()


KINDS: list[Callable[[Home], list[psutil.Process]]] = [worker_parents, children]


@pytest.mark.parametrize("seen", KINDS, ids=["parent", "child"])
def test_a_supervisor_that_is_killed_while_it_starts_leaves_nothing_running(
    fake_home: Home, seen: Callable[[Home], list[psutil.Process]]
) -> None:
    process = fake_home.start(*WORKER)
    try:
        eventually(lambda: bool(seen(fake_home)))
    finally:
        process.kill()
        process.communicate()
    eventually(lambda: not fake_home.processes(), 10, "the end of all that it had started")


SLOW_CHILD = """
import os, sys, time
if "worker" in sys.orig_argv:
    os.register_at_fork(after_in_child=lambda: time.sleep(5 * os.path.exists(__file__ + ".slow")))
"""


@pytest.mark.long
def test_a_child_that_takes_longer_than_four_seconds_to_start_is_not_killed_for_it(
    fake_home: Home, tmp_path: Path, photos: Path
) -> None:
    """Celery's default ends every such replacement, for ever (celery#4323)."""
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "sitecustomize.py").write_text(SLOW_CHILD)
    fake_home.environment["PYTHONPATH"] = str(tmp_path / "hooks")
    with running(fake_home, *WORKER) as supervisor:
        eventually(lambda: signed_in(fake_home), 60)
        (first,) = children(fake_home)
        (tmp_path / "hooks" / "sitecustomize.py.slow").touch()
        first.kill()
        fake_home.run("classify", photos, "--no-reuse", "--detach")
        finished(fake_home, IMAGES)
        assert "starting it again" not in supervised(supervisor)
