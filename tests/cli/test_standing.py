"""How everything stands: the news of jobs, the speed of workers, the API seen from outside."""

import json
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from sqlalchemy import text

from cli.standing import Api, News, Observer, PartLine
from store import jobs, pace, workers
from store.catalog import register_model
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.rows import NewItem, NewJob, NewResult
from worker.kept import Kept, Program, drain
from worker.settings import Settings
from worker.supervisor import Supervisor


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server on this machine that answers everything with a status; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _hang_up(server: socket.socket) -> None:
    server.accept()[0].close()


def access_line(path: str) -> str:
    return json.dumps({"path": path, "status": 200, "ms": 3}) + "\n"


def test_an_api_that_answers_is_asked_again_only_after_a_while(tmp_path: Path) -> None:
    with answering(200) as port:
        api = Api("127.0.0.1", port, tmp_path / "api.log")
        assert api.answers(0)
    assert api.answers(4)  # nobody is there any more, and nobody was asked
    assert not api.answers(6)
    with answering(503) as port:
        assert not Api("127.0.0.1", port, tmp_path / "api.log").answers(0)


def test_a_port_where_nobody_speaks_http_is_no_api(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_hang_up, args=[server], daemon=True).start()
        assert not Api("127.0.0.1", server.getsockname()[1], tmp_path / "api.log").answers(0)


def test_requests_are_counted_from_the_log_without_our_own_and_without_half_lines(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    log.write_text(access_line("/api/v1/jobs") * 100)  # of an earlier start
    api = Api("127.0.0.1", 1, log)
    assert api.rate(0) == 0
    with log.open("a") as file:
        file.write(access_line("/api/v1/jobs") * 19 + access_line("/livez") + '{"event": "x"}\n')
        file.write(access_line("/api/v1/jobs")[:10])
    assert api.rate(2) == 19 / 2
    with log.open("a") as file:
        file.write(access_line("/api/v1/jobs")[10:])
    assert api.rate(4) == 20 / 4
    log.write_text(access_line("/again"))  # it was put aside
    assert api.rate(8) == 21 / 8


def new_job(database: Database, images: int = 4) -> int:
    model = register_model(database, ("fake", 1), "digest", ("ant", "bee"), "{}", "/models/fake/1")
    return jobs.accept(database, NewJob(model), [NewItem(b"%d.png" % n) for n in range(images)])


def test_news_tell_what_is_open_what_begins_and_what_ends(home_database: Database) -> None:
    first = new_job(home_database)
    news = News()
    assert list(news.look(home_database)) == [f"job {first}: still open, goes on"]
    second = new_job(home_database)
    assert list(news.look(home_database)) == []  # accepted: that passes by itself
    jobs.cancel(home_database, first)
    assert claim(home_database, Claimer("here/cpu"))
    assert list(news.look(home_database)) == [
        f"job {first}: cancelled, 0 of 4 classified",
        f"job {second}: running, 4 images",
    ]
    jobs.fail(home_database, second, "no model")
    (line,) = news.look(home_database)
    assert line.startswith(f"job {second}: failed")
    assert line.endswith(": no model")
    assert list(news.look(home_database)) == []


@pytest.fixture
def observed(tmp_path: Path, home_database: Database) -> Iterator[tuple[Observer, Kept]]:
    """An observer of a supervisor that has one worker, a process that does nothing."""
    settings = Settings(home=tmp_path / "home")
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    program = Program(
        "worker", "It", command, tmp_path / "log", tmp_path, queue="classify", device="CPU", id="here/cpu"
    )
    supervisor = Supervisor(settings, ())
    kept = Kept(program)
    supervisor.workers = [kept]
    kept.keep()
    yield Observer(supervisor, home_database, Api("127.0.0.1", 1, tmp_path / "api.log")), kept
    drain([kept], 0, lambda: True)


def signed_in(database: Database, pid: int, state: str = "idle", model: str | None = None) -> None:
    workers.report(database, workers.WorkerReport("here/cpu", "here", "CPU", pid, state, model))


def worker_line(observer: Observer) -> PartLine:
    return observer.look().parts[-1]


def test_a_worker_is_starting_until_it_signs_in_itself(
    observed: tuple[Observer, Kept], home_database: Database
) -> None:
    observer, kept = observed
    assert worker_line(observer) == PartLine("worker", "classify · CPU", "starting", "soon")
    signed_in(home_database, os.getpid())  # a predecessor's row: another process group
    assert worker_line(observer).state == "starting"
    assert kept.process
    signed_in(home_database, kept.process.pid, model="fake@1")
    assert worker_line(observer) == PartLine("worker", "classify · CPU", "idle", "well", "fake@1")


def test_a_worker_that_died_says_when_it_starts_again(observed: tuple[Observer, Kept]) -> None:
    observer, kept = observed
    assert kept.process
    kept.process.kill()
    kept.process.wait()
    kept.keep()
    assert (worker_line(observer).state, worker_line(observer).mood) == ("starts again in 1 s", "soon")
    kept.not_before = math.inf
    assert (worker_line(observer).state, worker_line(observer).mood) == ("down, see log", "ill")


def test_speeds_of_workers_and_jobs_come_from_what_is_done(
    observed: tuple[Observer, Kept], home_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    observer, kept = observed
    assert kept.process
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    job = new_job(home_database, 100)
    lease = claim(home_database, Claimer("here/cpu"))
    assert lease
    signed_in(home_database, kept.process.pid, "busy", "fake@1")
    (line,) = observer.look().jobs
    assert (line.name, line.done, line.total, line.words) == (f"job {job}", 0, 100, ("0 of 100",))
    rows = [NewResult(lease.lo + n, "failed", error_code="truncated", error="x") for n in range(10)]
    commit_slice(home_database, lease, rows, last=False)
    now += 5
    look = observer.look()
    assert look.parts[-1].speed == "2 img/s"
    assert look.jobs[0].words == ("10 of 100", "10 failed", "2 img/s", "0:45 left")
    assert pace.images_done(home_database) == {("here/cpu", job): 10}
    assert (look.waiting, look.trouble) == (0, "")


def test_at_the_end_nothing_is_said_to_be_starting(
    tmp_path: Path, observed: tuple[Observer, Kept], home_database: Database
) -> None:
    observer, kept = observed
    api = Kept(Program("api", "The API", kept.program.command, tmp_path / "api.log", tmp_path))
    api.keep()
    try:
        observer._supervisor.others = [api]
        assert [part.state for part in observer.look().parts] == ["starting", "not ours", "starting"]
        observer._supervisor.begin_stop()
        assert [part.state for part in observer.look().parts if part.kind != "broker"] == ["stopping", "stopping"]
        assert kept.process
        signed_in(home_database, kept.process.pid, "busy")
        assert worker_line(observer).state == "finishing"
        signed_in(home_database, kept.process.pid, "idle")
        assert worker_line(observer).state == "stopping"
    finally:
        drain([api], 0, lambda: True)


def test_a_database_that_is_away_is_trouble_and_no_end(
    observed: tuple[Observer, Kept], home_database: Database
) -> None:
    observer, _ = observed
    with home_database.write() as connection:
        connection.execute(text("DROP TABLE workers"))
    look = observer.look()
    assert look.trouble.startswith("The database is away")
    assert look.parts[-1].state == "starting"
