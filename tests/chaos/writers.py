"""Many processes write one SQLite file at once and are killed in the middle of it: `python -m tests.chaos.writers`.

Writers do what the product does: accept, claim, renew, commit, sweep, pause, retry, remove. Beside them somebody reads,
and somebody checkpoints without a pause. Writers kill themselves while they commit, and are killed by others at any
moment. In the end the file must be whole, every rule of tests/store/invariants.py must hold, and nobody may have been
told that the database is locked. The report is one line of JSON on stdout; the exit status says whether all was well.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from multiprocessing.process import BaseProcess
from pathlib import Path

from sqlalchemy import Connection, event

from models.children import die_with_parent
from store import jobs as write
from store import workers
from store.catalog import register_model
from store.claims import Claimer, claim, give_up, release, renew
from store.commits import commit_slice
from store.database import Database, sqlite_module
from store.errors import IllegalMove, LeaseLost, NothingToDo, ScanLost, StoreError, UnknownJob
from store.insights import items_left, list_jobs
from store.removal import remove
from store.results import stream
from store.rows import Lease, NewItem, NewJob, NewResult
from store.states import JobState
from store.sweep import sweep
from tests.databases import ready
from tests.store.invariants import broken, look

KILL_S = 0.5  # on average, between two kills from outside
SUICIDES = 0.01  # of commits: killed within the next few milliseconds
COMMIT_S = 0.004
PAUSE_S = 0.05  # of a reader or checkpointer between two rounds
MOST_JOBS = 24
ITEMS = 256
SLICE = 32
LEASE_S = 2.0
# What the rules say, ScanLost where somebody ended or removed a job that is being listed; all else is a complaint.
REFUSED = (IllegalMove, LeaseLost, NothingToDo, ScanLost, UnknownJob)
CHECKPOINTS = ("PASSIVE", "FULL", "RESTART", "TRUNCATE")
TOPK = json.dumps([{"label": f"label {n}", "score": 0.1} for n in range(8)])


@dataclass
class Report:
    """What came of it."""

    sqlite: str
    journal: str
    seed: int
    writers: int
    seconds: float = 0.0
    commits: int = 0
    killed: int = 0
    killed_in_commit: int = 0
    checkpoints: int = 0
    reads: int = 0
    slowest_s: float = 0.0  # what a caller waited for one action at the most
    integrity: str = ""
    complaints: list[str] = field(default_factory=list)  # what a caller was told that no rule explains
    broken: list[str] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Nothing was lost, locked or broken."""
        return self.integrity == "ok" and not self.complaints and not self.broken


class Notes:
    """Files that outlive a process that is killed: a byte for each thing done, a line for each thing to tell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, int] = {}

    def add(self, name: str, text: str = ".") -> None:
        """Append, whole or not at all."""
        if name not in self._open:
            self._open[name] = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.write(self._open[name], text.encode())

    def read(self, name: str) -> str:
        """All of it, by whomever."""
        file = self.folder / name
        return file.read_text() if file.exists() else ""


class Caller:
    """One process that uses the database: acts by chance, and notes how long that took and what it was told."""

    def __init__(self, folder: Path, seed: int) -> None:
        die_with_parent()
        self.chance = random.Random(seed)
        self.notes = Notes(folder)
        self.stop = folder / "stop"
        self.database = Database(_url(folder))
        self.slowest = 1.0  # seconds; what was quicker is not noted

    def run(self, *acts: Callable[[], object]) -> None:
        """Act until it is told to stop."""
        while not self.stop.exists():
            act = self.chance.choice(acts)
            began = time.monotonic()
            try:
                act()
            except REFUSED:
                continue
            except StoreError as error:
                took = time.monotonic() - began
                self.notes.add("complaints", f"{act.__name__} after {took:.1f} s: {type(error).__name__}: {error}\n")
            took = time.monotonic() - began
            if took > self.slowest:
                self.slowest = took
                self.notes.add("slowest", f"{took:.3f}\n")
        self.database.close()


class Writer(Caller):
    """Does everything that a worker, a sweeper and a person do."""

    def __init__(self, folder: Path, number: int, seed: int) -> None:
        super().__init__(folder, seed)
        self.name = f"writer-{number}"
        self.held: list[Lease] = []
        event.listen(self.database.engine, "commit", self._may_die)
        self.run(*[self.work] * 8, self.accept, self.sweep, self.person, self.report)

    def _may_die(self, connection: Connection) -> None:
        """Before a COMMIT: once in a while it is the last, and ends somewhere in the middle."""
        if connection.get_execution_options().get("pixmill") == "read":
            return
        self.notes.add("commits")
        if self.chance.random() < SUICIDES:
            self.notes.add("suicides")
            threading.Thread(target=_die_within, args=[self.chance.random() * COMMIT_S], daemon=True).start()

    def work(self) -> None:
        """Claim a shard and commit it in slices; or lose it, one way or the other, in between."""
        lease = claim(self.database, Claimer(self.name, lease_s=LEASE_S))
        if lease is None:
            return
        left = [item.idx for item in items_left(self.database, lease)]
        for start in range(0, len(left), SLICE):
            rows = [_row(idx) for idx in left[start : start + SLICE]]
            fate = self.chance.random()
            if fate < 0.02:
                give_up(self.database, lease, "boom")
                return
            if fate < 0.04:
                release(self.database, lease)
                return
            renew(self.database, [lease], LEASE_S)
            commit_slice(self.database, lease, rows, last=start + SLICE >= len(left), lease_s=LEASE_S)
        if not left:
            commit_slice(self.database, lease, [], last=True)

    def accept(self) -> None:
        """Another job, where there are few; else an old one goes."""
        known = list_jobs(self.database, limit=2 * MOST_JOBS)
        if len(known) < MOST_JOBS:
            found = (NewItem(b"%d.jpg" % n, label="robin") for n in range(ITEMS))
            write.accept(self.database, NewJob(1, max_shard=64, root=self.name.encode()), found)
        else:
            remove(self.database, known[-1].id)

    def sweep(self) -> None:
        """What a supervisor does every few seconds."""
        sweep(self.database)

    def person(self) -> None:
        """Somebody moves a job."""
        known = list_jobs(self.database, limit=MOST_JOBS)
        if not known:
            return
        job = self.chance.choice(known).id
        moves: list[Callable[[], object]] = [
            lambda: write.pause(self.database, job),
            lambda: write.resume(self.database, job),
            lambda: write.resume(self.database, job),
            lambda: write.cancel(self.database, job),
            lambda: write.retry(self.database, job),
            lambda: write.set_priority(self.database, job, self.chance.randrange(10)),
            lambda: write.fail(self.database, job, "no model"),
        ]
        self.chance.choice(moves)()

    def report(self) -> None:
        """A sign of life."""
        report = workers.WorkerReport(self.name, "here", "CPU", os.getpid(), "busy", None, 0)
        workers.report(self.database, report)


class Reader(Caller):
    """Looks at jobs and reads results, as pages and exports do."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        self.run(self.look)

    def look(self) -> None:
        for job in list_jobs(self.database, limit=5):
            for _ in stream(self.database, job.id):
                pass
        self.notes.add("reads")
        time.sleep(PAUSE_S)


class Checkpointer(Caller):
    """Checkpoints without a pause, on a connection that is opened for it: the last one that closes makes one too."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        self.run(self.checkpoint)

    def checkpoint(self) -> None:
        raw = self.database.engine.raw_connection()
        try:
            cursor = raw.cursor()
            cursor.execute("PRAGMA busy_timeout=500")
            for kind in CHECKPOINTS:
                cursor.execute(f"PRAGMA wal_checkpoint({kind})")
                cursor.fetchall()
                self.notes.add("checkpoints")
        finally:
            raw.close()
            self.database.engine.dispose()
        time.sleep(PAUSE_S)


def _url(folder: Path) -> str:
    return f"sqlite:///{folder}/pixmill.db"


def _row(idx: int) -> NewResult:
    if idx % 7 == 0:
        return NewResult(idx, "failed", error_code="corrupt", error="why")
    return NewResult(idx, "ok", label=f"label {idx % 5}", score=0.5, topk=TOPK, content_hash=idx.to_bytes(16, "big"))


def _die_within(seconds: float) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


class Soak:
    """The parent: starts everybody, kills at random, and looks at what is left. Meanwhile it has the file closed."""

    def __init__(self, folder: Path, writers: int, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.context = multiprocessing.get_context("fork")  # a new writer at once; nobody has the database open yet
        self.report = Report(sqlite_module().sqlite_version, "", seed, writers)
        self.notes = Notes(folder)

    def run(self, seconds: float) -> Report:
        """The whole of it."""
        self._prepare()
        began = time.monotonic()
        others = [self._start(Reader), self._start(Reader)]
        if self.report.journal == "wal":
            others.append(self._start(Checkpointer))
        writers = [self._start(Writer, n) for n in range(self.report.writers)]
        while time.monotonic() < began + seconds:
            time.sleep(self.chance.uniform(0, 2 * KILL_S))
            self._kill(self.chance.choice(writers))
            writers = [writer if writer.is_alive() else self._again(n, writer) for n, writer in enumerate(writers)]
            if dead := [process.exitcode for process in others if not process.is_alive()]:
                self.notes.add("complaints", f"a reader or checkpointer ended: {dead}\n")
                break
        self.report.seconds = round(time.monotonic() - began, 1)
        (self.folder / "stop").touch()
        for process in (*writers, *others):
            process.join(120)
            if process.exitcode not in (0, -signal.SIGKILL):
                self.notes.add("complaints", f"{process.name} ended as {process.exitcode}\n")
                process.kill()
        self._examine()
        return self.report

    def _prepare(self) -> None:
        """Tables, a model, and which journal the product chooses."""
        database = Database(ready(_url(self.folder)))
        register_model(database, ("birds", 1), "d" * 64, ["robin"], "{}", "/models/birds/1")
        with database.read() as connection:
            self.report.journal = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar())
        database.close()

    def _start(self, kind: type[Caller], *arguments: int) -> BaseProcess:
        process = self.context.Process(
            target=kind, args=(self.folder, *arguments, self.chance.getrandbits(32)), name=kind.__name__, daemon=True
        )
        process.start()
        return process

    def _kill(self, process: BaseProcess) -> None:
        if process.is_alive() and process.pid:
            self.report.killed += 1
            os.kill(process.pid, signal.SIGKILL)
            process.join()

    def _again(self, number: int, dead: BaseProcess) -> BaseProcess:
        dead.join()
        if dead.exitcode != -signal.SIGKILL:
            self.notes.add("complaints", f"writer {number} ended as {dead.exitcode}\n")
        return self._start(Writer, number)

    def _examine(self) -> None:
        """After everybody has left: is the file whole, and does all of it hold together?"""
        report, notes = self.report, self.notes
        report.commits, report.killed_in_commit = len(notes.read("commits")), len(notes.read("suicides"))
        report.checkpoints, report.reads = len(notes.read("checkpoints")), len(notes.read("reads"))
        report.slowest_s = max([float(line) for line in notes.read("slowest").split()], default=1.0)
        report.complaints = notes.read("complaints").splitlines()
        database = Database(_url(self.folder))
        with database.read() as connection:
            found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
            found += [f"foreign key: {row}" for row in connection.exec_driver_sql("PRAGMA foreign_key_check")]
        report.integrity = "; ".join(["ok"] if found == ["ok"] else found[:5])
        self._drain(database)
        report.broken = broken(look(database))[:20]
        database.close()

    def _drain(self, database: Database) -> None:
        """A healthy worker finishes what is left: nothing may be stuck."""
        for job in list_jobs(database, limit=10_000):
            with suppress(*REFUSED):
                write.resume(database, job.id)
        until = time.monotonic() + 300
        while (states := _open_states(database)) and time.monotonic() < until:
            sweep(database)
            while (lease := claim(database, Claimer("last"))) is not None:
                left = [_row(item.idx) for item in items_left(database, lease)]
                commit_slice(database, lease, left, last=True)
            time.sleep(0.1)
        if states:
            self.report.complaints.append(f"never finished: {dict(states)}")


def _open_states(database: Database) -> Counter[str]:
    """Jobs that are not at their end; not those whose removal or scan was cut off, which have ten minutes."""
    known = Counter(str(job.state) for job in list_jobs(database, limit=10_000) if not job.state.is_final)
    del known[JobState.SCANNING]
    return known


def without_the_wheel(folder: Path) -> dict[str, str]:
    """An environment in which only Python's own SQLite is found."""
    (folder / "pysqlite3.py").write_text('raise ImportError("hidden, to see what happens without it")\n')
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


def main() -> int:
    """Run one soak; 0 where all was well."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.writers", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--sqlite", choices=("newest", "own"), default="newest", help="own: as where there is no wheel")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pixmill-writers-") as folder:
        if asked.sqlite == "own" and find_spec("pysqlite3") and "pysqlite3" in sys.modules:
            hidden = Path(folder) / "hidden"
            hidden.mkdir()
            again = [sys.executable, "-m", "tests.chaos.writers", *sys.argv[1:]]
            return subprocess.run(again, env=without_the_wheel(hidden), check=False).returncode
        report = Soak(Path(folder), asked.writers, asked.seed).run(asked.minutes * 60)
    sys.stdout.write(json.dumps({**asdict(report), "is_well": report.is_well}) + "\n")
    return 0 if report.is_well else 1


if __name__ == "__main__":
    sys.exit(main())
