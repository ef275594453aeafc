"""`pixmill up`: everything runs under one supervisor, comes back when it dies, and ends in order."""

import os
import pty
import re
import signal
import socket
import stat
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from fcntl import ioctl
from pathlib import Path

import httpx2
import psutil
import pytest

from store import schema
from store.database import Database
from tests.killing import worker_parents
from tests.running import Home, command_of, eventually, fake_model, write_images
from tests.serving import Served, free_port, serving
from worker.broker import EmbeddedBroker
from worker.settings import Settings

IMAGES = 3000


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_images(folder, 40)
    for n in range(40, IMAGES):
        os.link(folder / f"{n % 40:06}.png", folder / f"{n:06}.png")
    return folder


@contextmanager
def up(home: Home, *roots: Path, **options: object) -> Iterator[Served]:
    """`pixmill up` with one classify worker."""
    with serving(home, roots, workers=1, **options) as served:  # type: ignore[arg-type]  # passed on
        yield served


def said(home: Home) -> str:
    return (home.path / "served.log").read_text()


def api_of(home: Home) -> list[psutil.Process]:
    """The API's process; those that it started are not counted."""
    found = [one for one in home.processes() if command_of(one)[2:5] == ["-m", "cli", "api"]]
    return [one for one in found if _started_by(one) not in {None, *(other.pid for other in found)}]


def _started_by(process: psutil.Process) -> int | None:
    with suppress(psutil.NoSuchProcess):
        return process.ppid()
    return None


def broker_of(home: Home) -> list[psutil.Process]:
    """The embedded broker's process. It writes its title over its environment: its socket tells whose it is."""
    title = f"unixsocket:{home.path}/"
    return [one for one in psutil.process_iter(["cmdline"]) if any(title in word for word in one.info["cmdline"] or ())]


def submit(served: Served, folder: Path, **more: object) -> int:
    answer = served.client.post(
        "/api/v1/jobs", json={"kind": "classify", "source": {"folder": str(folder)}, "reuse": False, **more}
    )
    assert answer.status_code == 202, answer.text
    job: int = answer.json()["id"]
    return job


def state(home: Home, job: int = 1) -> str:
    rows = home.sql(f"SELECT state FROM jobs WHERE id = {job}")
    return str(rows[0]["state"]) if rows else ""


def classified(home: Home) -> int:
    rows = home.sql("SELECT COUNT(*) AS n, COUNT(DISTINCT idx) AS d FROM results WHERE status = 'ok'")
    assert rows[0]["n"] == rows[0]["d"]
    return int(rows[0]["n"])


def test_everything_runs_and_a_job_is_done_and_the_end_is_in_order(fake_home: Home, photos: Path) -> None:
    with up(fake_home, photos) as served:
        assert len(api_of(fake_home)) == 1
        assert len(worker_parents(fake_home)) == 1
        assert len(broker_of(fake_home)) == 1
        submit(served, photos)
        eventually(lambda: state(fake_home) == "done", 60)
        served.process.terminate()  # type: ignore[union-attr]  # it has one
        assert served.process.wait(60) == 0  # type: ignore[union-attr]
    assert not broker_of(fake_home)
    assert classified(fake_home) == IMAGES
    text = said(fake_home)
    shown = [
        f"Pixmill is up at {served.url}",
        f"Token   {fake_home.path}/token",
        f"Reads   {photos}",
        "Stopping: first the API",
        "Stopped. Open jobs go on at the next start.",
    ]
    places = [text.find(words) for words in shown]
    assert min(places) >= 0, text
    assert places == sorted(places)
    for words in (
        "serving",
        "worker classify · CPU: ready",
        "job 1: running, 3,000 images",
        "job 1: done, 3,000 of 3,000",
    ):
        assert words in text, text
    assert "\x1b" not in text  # nobody watches a terminal
    assert "Traceback" not in text + fake_home.logs()


def test_the_first_start_makes_a_token_for_its_owners_eyes_and_says_how_to_begin(fake_home: Home, photos: Path) -> None:
    with up(fake_home, photos) as served:
        place = fake_home.path / "token"
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        eventually(lambda: "Ctrl-C stops" in said(fake_home))
        lines = [line.strip() for line in said(fake_home).splitlines()]
        export = next(line for line in lines if line.startswith("export PIXMILL_SERVER="))
        first = next(line for line in lines if line.startswith("curl "))
        assert served.token not in said(fake_home) + fake_home.logs()
        done = subprocess.run(
            ["sh", "-c", f'{export}\necho "$PIXMILL_TOKEN $PIXMILL_SERVER"'], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [served.token, served.url]
        if _has("curl"):
            done = subprocess.run(["sh", "-c", f"{export}\n{first} -sS"], capture_output=True, text=True, check=True)
            assert re.match(r'\{"id":\s*1,', done.stdout), done.stdout


def test_an_api_that_is_killed_comes_back_and_is_told_of(fake_home: Home, photos: Path) -> None:
    with up(fake_home, photos) as served:
        (api,) = api_of(fake_home)
        api.kill()
        eventually(lambda: "The API ended (status -9); starting it again in 1 s. Log: " in said(fake_home))
        eventually(lambda: bool(api_of(fake_home)) and _answers(served), 30, "the API's return")
        assert api_of(fake_home) != [api]
        submit(served, photos)
        eventually(lambda: state(fake_home) == "done", 60)


def test_a_killed_up_takes_everything_with_it_and_the_next_start_finishes_the_job(
    fake_home: Home, photos: Path
) -> None:
    with up(fake_home, photos) as served:
        submit(served, photos)
        eventually(lambda: classified(fake_home) > 0)
        assert served.process
        served.process.kill()
        served.process.wait()
        eventually(lambda: not fake_home.processes() and not broker_of(fake_home), 10, "the end of the children")
    with up(fake_home, photos):
        eventually(lambda: state(fake_home) == "done", 60)
    assert classified(fake_home) == IMAGES


def test_ctrl_c_gives_back_what_is_left_and_the_next_start_goes_on(fake_home: Home, photos: Path) -> None:
    with up(fake_home, photos) as served:
        submit(served, photos)
        eventually(lambda: classified(fake_home) > 0)
        assert served.process
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(60) == 0
    assert fake_home.sql("SELECT COUNT(*) AS n FROM shards WHERE state = 'leased'") == [{"n": 0}]
    assert fake_home.sql("SELECT COUNT(*) AS n FROM attempts WHERE outcome IS NULL") == [{"n": 0}]
    with up(fake_home, photos):
        eventually(lambda: state(fake_home) == "done", 60)
        eventually(lambda: "job 1: done" in said(fake_home))
    assert classified(fake_home) == IMAGES


def test_a_second_ctrl_c_waits_for_nobody(fake_home: Home, photos: Path) -> None:
    with up(fake_home, photos) as served:
        (worker,) = worker_parents(fake_home)
        worker.suspend()  # it cannot drain
        assert served.process
        served.process.send_signal(signal.SIGINT)
        eventually(lambda: "Ctrl-C again ends at once" in said(fake_home))
        eventually(lambda: not api_of(fake_home), 15, "the end of the API")
        assert served.process.poll() is None
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(10) == 130
    assert "Ended at once." in said(fake_home)


def test_a_second_up_for_the_same_home_says_where_the_first_is(fake_home: Home, photos: Path) -> None:
    with up(fake_home, photos) as served:
        done = fake_home.run("up", photos, "--port", free_port(), "--devices", "cpu", code=2)
        assert f"Pixmill is already up for {fake_home.path}: {served.url}" in done.stderr
        assert _answers(served)


def test_a_port_that_is_taken_is_said_before_anything_starts(fake_home: Home, photos: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = fake_home.run("up", photos, "--port", port, "--devices", "cpu", code=2)
    assert f"Port {port} of 127.0.0.1 is taken by another program" in done.stderr
    assert "--port" in done.stderr
    assert not (fake_home.path / "logs").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--host", "192.0.2.2"), 2, "name the folders"),
        (("/no/such/folder",), 4, "Expected a folder, got /no/such/folder"),
        (("--host", "192.0.2.1", "/"), 2, "this machine cannot listen there"),
        (("--queues", "lunch"), 2, "expected classify or train"),
        (("--devices", "7"), 2, "There is no device '7'"),
    ],
)
def test_what_cannot_be_started_is_refused_with_what_to_do(
    home: Home, arguments: tuple[str, ...], code: int, words: str
) -> None:
    more = () if "--devices" in arguments else ("--devices", "cpu")
    assert words in home.run("up", *arguments, *more, "--port", free_port(), code=code).stderr


def test_a_configured_broker_and_database_are_used_and_none_is_started(
    home: Home, photos: Path, tmp_path: Path, database_url: str
) -> None:
    """The broker runs for another home; the database is SQLite by URL, or PostgreSQL."""
    elsewhere = EmbeddedBroker(Settings(home=tmp_path / "elsewhere"))
    elsewhere.start()
    try:
        fake_model(home.path)
        broker_url = Settings(home=tmp_path / "elsewhere").broker
        with up(home, photos, database_url=database_url, broker_url=broker_url) as served:
            assert not broker_of(home)
            home.environment["PIXMILL_DATABASE_URL"] = database_url
            submit(served, photos)
            eventually(lambda: state(home) == "done", 60)
        assert classified(home) == IMAGES
    finally:
        elsewhere.stop()


def test_a_server_database_without_the_schema_is_left_alone(home: Home, photos: Path, postgres: str) -> None:
    from tests.servers import new_postgres_database

    home.environment["PIXMILL_DATABASE_URL"] = new_postgres_database(postgres, tables=False)
    done = home.run("up", photos, "--devices", "cpu", "--port", free_port(), code=1)
    assert "Run `pixmill db upgrade`" in done.stderr


def test_an_own_database_of_an_older_version_is_brought_up_to_date(fake_home: Home, photos: Path) -> None:
    file = fake_home.path / "pixmill.db"
    file.unlink()
    database = Database(f"sqlite:///{file}")
    schema.upgrade(database, "0002")
    database.close()
    with up(fake_home, photos):
        pass
    assert f"from schema 0002 to {schema.HEAD}" in said(fake_home)


def test_the_supervising_process_imports_no_web_server(fake_home: Home, photos: Path) -> None:
    with up(fake_home, photos, environment={"PYTHONPROFILEIMPORTTIME": "1"}):
        eventually(lambda: "worker classify · CPU: ready" in said(fake_home))
    imported = {line.rpartition("|")[2].strip() for line in said(fake_home).splitlines() if "import time:" in line}
    assert "worker.supervisor" in imported
    assert not imported & {"uvicorn", "fastapi", "starlette", "numpy", "openvino", "pyarrow"}


def test_a_terminal_shows_how_everything_stands_in_eighty_columns(fake_home: Home, photos: Path) -> None:
    port = free_port()
    leader, follower = pty.openpty()
    ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    process = subprocess.Popen(
        fake_home.command("up", photos, "--port", port, "--devices", "cpu", "--queues", "classify"),
        env={**fake_home.env(), "TERM": "xterm-256color"}, stdin=follower, stdout=follower, stderr=follower,
        cwd=fake_home.path, start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    screen = _Screen(leader)
    try:
        screen.until("serving")
        screen.until("idle")
        screen.until("No job is open.")
        process.send_signal(signal.SIGINT)
        screen.until("Stopped. Open jobs go on at the next start.")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    drawn = [line for line in re.split(r"[\r\n]+", screen.text) if "●" in line]
    assert drawn
    assert max(map(len, drawn)) <= 80


class _Screen:
    """What a terminal got, without its control sequences."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._raw = b""

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._raw.decode(errors="replace"))

    def until(self, words: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert time.monotonic() < deadline, self.text[-3000:]
            try:
                self._raw += os.read(self._handle, 65536)
            except OSError:  # the other end is closed
                assert words in self.text, self.text[-3000:]


def _answers(served: Served) -> bool:
    try:
        return served.client.get("/livez").status_code == 200
    except httpx2.TransportError:
        return False


def _has(command: str) -> bool:
    from shutil import which

    return which(command) is not None
