"""A home whose failpoints a test arms: a supervisor that dies and is started again, small jobs, and what must be true.

Every answer is known beforehand: the stand-in engine's are a hash of the pixels.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import redis
from sqlalchemy import text

from models.engines.fake import FakeEngine
from models.images import load_picture
from models.registry import Registry
from store.database import Database
from store.jobs import accept
from store.rows import NewItem, NewJob
from tests.running import LABELS, SMALL, Home, eventually, fake_model, write_images
from worker.dispatch import Dispatcher
from worker.settings import Settings
from worker.submission import register_version

ROUNDS = int(os.environ.get("PIXMILL_FAILPOINT_ROUNDS", "1"))
LEASE_S = 3.0
CODE = str(Path(__file__).parents[2])  # of this checkout, wherever another is installed
PHOTOS = 24  # a job of more items has each of them several times
SHARD = 24
KILLS = 3  # of a worker that come close together; after more, its successors rest before they work (worker/family.py)
PATIENCE_S = 90.0  # for what takes seconds on an idle machine


@dataclass(frozen=True, slots=True)
class Firing:
    """One deed of a failpoint."""

    name: str
    action: str
    pid: int
    time: float


@dataclass(slots=True)
class Points:
    """The failpoints of a home, by their folder."""

    folder: Path
    _before: dict[str, int] = field(default_factory=dict)  # firings when it was armed

    def arm(self, name: str, action: str = "kill") -> None:
        """From now on, whoever comes by first does that."""
        self._before[name] = len(self.fired(name))
        draft = self.folder / f".{name}"
        draft.write_text(action, encoding="utf-8")
        draft.replace(self.folder / name)

    def disarm(self) -> None:
        """No point does anything any more."""
        for name in self._before:
            (self.folder / name).unlink(missing_ok=True)

    def fired(self, name: str) -> list[Firing]:
        """Every deed at a point so far."""
        log = self.folder / "fired.log"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        found = [line.split() for line in lines]
        return [Firing(point, action, int(pid), float(at)) for point, action, pid, at in found if point == name]

    def wait(self, name: str, seconds: float = PATIENCE_S) -> Firing:
        """Wait until a point that was armed has fired."""
        eventually(lambda: len(self.fired(name)) > self._before[name], seconds, name)
        return self.fired(name)[-1]


@dataclass
class World:
    """A home on one database, with photos whose answers are known."""

    home: Home
    photos: Path
    points: Points
    database: Database
    devices: str = "cpu"
    lease_s: float = LEASE_S
    supervisor: subprocess.Popen[bytes] | None = None
    deeds: int = 0  # that this supervisor's processes have come to
    _answers: dict[str, tuple[str, float]] = field(default_factory=dict)  # by file name: label, score

    def start(self, lease_s: float = LEASE_S) -> float:
        """Start the supervisor, unless one runs with that lease whose workers need no rest; returns when."""
        if self.supervisor is not None and self.lease_s == lease_s and self.deeds < KILLS:
            assert self.supervisor.poll() is None, self.supervised()
            return time.time()
        self.stop()
        self.lease_s, self.deeds = lease_s, 0
        self.home.environment["PIXMILL_LEASE_S"] = str(lease_s)
        began = time.time()
        command = self.home.command("worker", "--devices", self.devices, "--queues", "classify")
        with (self.home.path / "supervisor.log").open("ab") as log:
            self.supervisor = subprocess.Popen(command, env=self.home.env(), stdout=log, stderr=log, cwd=self.home.path)
        return began

    def revive(self) -> float:
        """After the supervisor's death: nothing of it is left running; start another one, and return when."""
        assert self.supervisor is not None
        self.supervisor.wait(PATIENCE_S)
        eventually(lambda: not self.home.processes(), 20, "the end of every process of a dead supervisor")
        lease_s, self.supervisor = self.lease_s, None
        return self.start(lease_s)

    def mend(self, killed: Firing) -> None:
        """Note a deed; where it met the supervisor, start it again."""
        self.deeds += 1
        if self.supervisor is not None and killed.pid == self.supervisor.pid:
            self.revive()

    def stop(self) -> None:
        """End the supervisor, if one runs, and whatever is stopped below it."""
        if self.supervisor is None:
            return
        for process in self.home.processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()
        self.supervisor.terminate()
        try:
            self.supervisor.wait(60)
        except subprocess.TimeoutExpired:
            self.supervisor.kill()
            self.supervisor.wait()
        self.supervisor = None

    def submit(self, items: int = 96) -> int:
        """Accept a job of shards of SHARD items, ring for it, and return its number."""
        chosen = Settings(home=self.home.path, database_url=self.home.environment["PIXMILL_DATABASE_URL"])
        version = Registry(chosen.models_folder).get("fake")
        job = NewJob(
            register_version(self.database, version), root=os.fsencode(self.photos), reuse=False, max_shard=SHARD
        )
        names = islice(cycle(sorted(self._answers)), items)
        job_id = accept(self.database, job, (NewItem(os.fsencode(name)) for name in names))
        dispatcher = Dispatcher(chosen)
        dispatcher.ring(job_id)
        dispatcher.close()
        return job_id

    def flush_broker(self) -> None:
        """Lose every hint: the sweeper rings again."""
        with redis.Redis(unix_socket_path=str(Settings(home=self.home.path).socket)) as broker:
            broker.flushall()

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Rows of a query, by a connection that stays open."""
        with self.database.read() as connection:
            return [dict(row._mapping) for row in connection.execute(text(query))]

    def state(self, job_id: int) -> str:
        """Where a job stands."""
        return str(self.sql(f"SELECT state FROM jobs WHERE id = {job_id}")[0]["state"])

    def finished(self, job_id: int) -> None:
        """Wait until a job is done, and check all that must be true then."""
        eventually(lambda: self.state(job_id) == "done", PATIENCE_S, f"the end of job {job_id}")
        self.check(job_id)

    def check(self, job_id: int) -> None:
        """Every item has one row, and the right one; nothing is open, leased or left running."""
        sql, of_job = self.sql, f"job_id = {job_id}"
        wanted = sql(f"SELECT i.idx, i.path FROM items i WHERE {of_job} ORDER BY idx")
        rows = sql(f"SELECT idx, status, label, score FROM results WHERE {of_job} ORDER BY idx")
        assert [row["idx"] for row in rows] == list(range(len(wanted)))  # each once, none else
        right = [self._answers[item["path"]] for item in wanted]
        assert [(row["label"], row["score"]) for row in rows] == right
        assert {row["status"] for row in rows} == {"ok"}
        strangers = f"""SELECT COUNT(*) AS n FROM results r WHERE {of_job} AND NOT EXISTS (SELECT 1 FROM attempts a
            JOIN shards s ON s.id = a.shard_id WHERE a.token = r.token AND s.job_id = r.job_id
            AND r.idx >= s.lo AND r.idx < s.hi)"""
        assert sql(strangers) == [{"n": 0}], "a row was written without a lease on its shard"
        shards = sql(f"SELECT state, token, lease_until, ok, lo, hi, done_token FROM shards WHERE {of_job} ORDER BY lo")
        assert {(shard["state"], shard["token"], shard["lease_until"]) for shard in shards} == {("done", None, None)}
        assert all(shard["ok"] == shard["hi"] - shard["lo"] for shard in shards)
        open_attempts = f"""SELECT COUNT(*) AS n FROM attempts a JOIN shards s ON s.id = a.shard_id
            WHERE {of_job} AND a.ended_at IS NULL"""
        assert sql(open_attempts) == [{"n": 0}]
        counted = f"SELECT label AS value, COUNT(*) AS n FROM results WHERE {of_job} GROUP BY label ORDER BY label"
        kept = f"SELECT value, n FROM tallies WHERE {of_job} AND kind = 'label' AND n <> 0 ORDER BY value"
        assert sql(counted) == sql(kept)
        eventually(lambda: not self.orphans(), 10, "the end of whatever nobody keeps")

    def orphans(self) -> list[psutil.Process]:
        """Processes of this home that do not belong to its supervisor."""
        assert self.supervisor is not None
        keeper = psutil.Process(self.supervisor.pid)
        kept = {keeper.pid, *(child.pid for child in keeper.children(recursive=True))}
        return [process for process in self.home.processes() if process.pid not in kept]

    def recovered(self, job_id: int, killed_at: float) -> float:
        """Seconds from a kill until its shards were claimed again; where it held none, until the job went on."""
        since = f"s.job_id = {job_id} AND b.started_at > {killed_at}"
        lost = f"""SELECT MAX(b.started_at) AS at FROM attempts a JOIN attempts b ON b.shard_id = a.shard_id
            AND b.n = a.n + 1 JOIN shards s ON s.id = a.shard_id
            WHERE {since} AND a.outcome IN ('lost', 'failed') AND a.started_at <= {killed_at}"""
        next_one = f"SELECT MIN(b.started_at) AS at FROM attempts b JOIN shards s ON s.id = b.shard_id WHERE {since}"
        end = f"SELECT finished_at AS at FROM jobs WHERE id = {job_id}"
        times = (self.sql(query)[0]["at"] for query in (lost, next_one, end))
        return next(float(at) for at in times if at is not None) - killed_at

    def lost(self, job_id: int) -> int:
        """How many attempts at a job's shards were lost."""
        query = f"""SELECT COUNT(*) AS n FROM attempts a JOIN shards s ON s.id = a.shard_id
            WHERE s.job_id = {job_id} AND a.outcome = 'lost'"""
        return int(self.sql(query)[0]["n"])

    def worker_ready(self, since: float) -> float:
        """Wait until a worker says that it is ready, after a time; returns when it said so."""

        def said() -> list[float]:
            lines = [line for line in self.log().splitlines() if line.endswith(" is ready")]
            times = (datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp() for line in lines)  # noqa: DTZ007  the log's own
            return [at for at in times if at > since]

        eventually(lambda: bool(said()), PATIENCE_S, "a worker that is ready")
        return said()[0]

    def counter(self, name: str) -> int:
        """One of the store's counters."""
        rows = self.sql(f"SELECT n FROM counters WHERE name = '{name}'")
        return int(rows[0]["n"]) if rows else 0

    def supervised(self) -> str:
        """What the supervisors wrote."""
        return (self.home.path / "supervisor.log").read_text()

    def log(self) -> str:
        """What the workers wrote."""
        return "\n".join(path.read_text() for path in sorted(self.home.path.glob("logs/worker-*.log")))


@contextmanager
def world(folder: Path, url: str, devices: str = "cpu") -> Iterator[World]:
    """A home with photos on a database that has its tables; in the end nothing of it runs any more."""
    points = Points(folder / "points")
    points.folder.mkdir(parents=True)
    environment = {
        "PIXMILL_ENGINE": "fake",
        "PIXMILL_DATABASE_URL": url,
        "PIXMILL_FAILPOINTS": str(points.folder),
        "PIXMILL_CLI_LOG": "WARNING",
        "PYTHONPATH": CODE,
    }
    home = Home(folder / "home", environment)
    fake_model(home.path)
    write_images(folder / "photos", PHOTOS)
    database = Database(url)
    made = World(home, folder / "photos", points, database, devices, _answers=answers(folder / "photos"))
    try:
        yield made
    finally:
        points.disarm()
        made.stop()
        database.close()
    eventually(lambda: not home.processes(), 20, "the end of every process of this home")


def answers(photos: Path) -> dict[str, tuple[str, float]]:
    """What the stand-in engine says of each file, as a row has it."""
    files = sorted(photos.iterdir())
    pixels = np.stack([load_picture(file.read_bytes(), SMALL).pixels for file in files])
    indices, scores = FakeEngine(LABELS, batch_size=len(files)).predict(pixels)
    best = zip(files, indices[:, 0].tolist(), scores[:, 0].tolist(), strict=True)
    return {file.name: (LABELS[label], round(score, 6)) for file, label, score in best}


def at_ease() -> float:
    """By how much a time that is asserted is stretched: 1 where this machine has little else to do."""
    return max(1.0, os.getloadavg()[0] / (2 * (os.cpu_count() or 1)))


def resume(pid: int) -> None:
    """Let a stopped process go on."""
    os.kill(pid, signal.SIGCONT)


def stand_still(points: Path, pid: int, database: Database) -> None:
    """Stop a process that holds at a point, with none of its threads in the middle of a write to SQLite.

    There is one writer there: whoever stands still as that one stops everybody, and no shard changes hands.
    """
    with database.write():
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: is_stopped(pid), what="the stop")
    (points / f"{pid}.go").touch()  # for when it goes on


def is_stopped(pid: int) -> bool:
    """Whether a process has been stopped by a signal."""
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def quantiles(seconds: list[float]) -> str:
    """For a report: how many, the middle one, and the ninety-ninth of a hundred."""
    if not seconds:
        return "   0 rounds"
    last = statistics.quantiles(seconds, n=100, method="inclusive")[98] if len(seconds) > 1 else seconds[0]
    return f"{len(seconds):4} rounds   recovery p50 {statistics.median(seconds):5.2f} s   p99 {last:5.2f} s"
