"""The world of a chaos run: a database, a broker and proxies before them, workers, a home, and people who submit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
from sqlalchemy import make_url, text

from store.database import Database
from store.errors import StoreError
from tests.chaos.causes import SUBMISSIONS, unexplained
from tests.chaos.crews import Crew, Crews
from tests.chaos.history import History, fired
from tests.chaos.pictures import write_folder
from tests.chaos.proxy import Proxy
from tests.chaos.servers import Broker, Postgres
from tests.databases import ready
from tests.running import Home, fake_model
from tests.trainings import QUICK, write_dataset
from worker.dispatch import Dispatcher
from worker.settings import Settings

Kind = Literal["sqlite", "postgresql"]
HOOKS = Path(__file__).parent / "hooks"
CODE = os.pathsep.join(map(str, (HOOKS, Path(__file__).parents[2])))  # of this checkout, wherever another is installed
LEASE_S = 3.0
STALL_S = 20.0
MEMORY_MB = 800  # that a worker may take
MOST_SKEW_S = 7200  # that a worker's clock is wrong by
SUBMIT_S = 60.0  # what a submission may take, whatever is broken
RECENT_S = 15.0  # so long after a fault its consequences may still be met (docs/outages.md)
DEATHS = {"kill": -signal.SIGKILL, "exit:1": 1}  # how a submission ends that a failpoint ended


@dataclass(frozen=True, slots=True)
class Plan:
    """What a world is made of. `seed` chooses device names, so that worlds beside each other share no lock."""

    kind: Kind
    seed: int = 0
    images: int = 4000
    batch_s: float = 0.08
    queues: str = "classify"
    trainings: bool = False
    hurry: float = 10.0  # see hooks/sitecustomize.py; 1: as it is


@dataclass
class World:
    """Everything there is; `folder` holds all of its files."""

    plan: Plan
    folder: Path
    home: Home
    database: Database  # the harness's own way to it, past the proxy
    broker: Broker
    broker_proxy: Proxy
    crews: Crews
    pictures: list[Path]
    postgres: Postgres | None = None
    database_proxy: Proxy | None = None
    dataset: Path | None = None
    acknowledged: list[int] = field(default_factory=list)  # jobs whose id a person was given
    refused: list[str] = field(default_factory=list)  # what submissions said that did not get one
    wrong: list[str] = field(default_factory=list)  # what no person may ever see: a traceback, no answer, no reason
    history: History = field(default_factory=History)
    paused: set[int] = field(default_factory=set)  # jobs that a person has paused just now
    _trainings: int = 0

    @property
    def failpoints(self) -> Path:
        """The folder that arms failpoints."""
        return self.folder / "failpoints"

    @property
    def full(self) -> Path:
        """The file whose presence fills the disk of a SQLite database."""
        return self.folder / "full"

    @property
    def met(self) -> Path:
        """The folder of marks of those whom a SQLite fault met."""
        return self.folder / "met"

    @property
    def logs(self) -> list[Path]:
        """What every program wrote."""
        return sorted([*self.folder.glob("*.log"), *self.home.path.glob("logs/*.log")])

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Rows of a query. Raises StoreError while the database is away."""
        with self.database.read() as connection:
            return [dict(row._mapping) for row in connection.execute(text(query))]

    def number(self, query: str) -> int:
        """The one number that a query gives. Raises StoreError while the database is away."""
        with self.database.read() as connection:
            return int(connection.scalar(text(query)) or 0)

    def submit(self, rng: random.Random) -> int | None:
        """A person submits a folder by the command line; the job's id, or None where the command said why not."""
        folder = rng.choice(self.pictures)
        words = ["classify", str(folder), "--detach", "--model", "fake", "--priority", str(rng.randint(3, 7))]
        return self._submit(words if rng.random() < 0.25 else [*words, "--no-reuse"])

    def submit_training(self, rng: random.Random) -> int | None:
        """A person submits a training of a few seconds."""
        self._trainings += 1
        name, epochs = f"fruit{self._trainings}", str(rng.randint(30, 90))
        words = ["finetune", str(self.dataset), "--name", name, *QUICK, "--epochs", epochs, "--detach"]
        return self._submit(words)

    def _submit(self, words: list[str]) -> int | None:
        begun = time.monotonic()
        with subprocess.Popen(
            self.home.command(*words), env=self.home.env(), cwd=self.home.path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                out, err = process.communicate(timeout=SUBMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                self.wrong.append(f"no answer within {SUBMIT_S:.0f} s: {' '.join(words)}")
                return None
        if "Traceback" in err:
            self.wrong.append(f"a traceback reached a person:\n{err[-2000:]}")
        if process.returncode == 0 and out.strip().isdecimal():
            self.acknowledged.append(int(out))
            return int(out)
        told = f"status {process.returncode}: {err.strip()}"
        is_told = self._was_ended(process) or not unexplained([told], SUBMISSIONS, self.history.since(begun - RECENT_S))
        (self.refused if is_told else self.wrong).append(f"status {process.returncode}: {err.strip()[-300:]}")
        return None

    def _was_ended(self, process: subprocess.Popen[str]) -> bool:
        """Whether it ended as a failpoint had it end."""
        deeds = (one.action for one in fired(self.failpoints) if one.pid == process.pid)
        return any(DEATHS.get(action) == process.returncode for action in deeds)

    def ring(self) -> bool:
        """Ring the doorbell once more than anybody needs."""
        settings = Settings(home=self.home.path, broker_url=f"redis+socket://{self.broker.socket}")
        dispatcher = Dispatcher(settings)
        try:
            return dispatcher.ring(None)
        finally:
            dispatcher.close()

    def running(self) -> list[psutil.Process]:
        """What runs of the program: processes of the home, and those that stand in a folder of this world."""
        found = {process.pid: process for process in self.home.processes()}
        ours = self.broker.process.pid if self.broker.process else 0
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if Path(process.cwd()).is_relative_to(self.folder) and process.pid != ours:
                    found[process.pid] = process
        return list(found.values())

    def heal(self) -> None:
        """Undo what may be left of any fault."""
        for armed in self.failpoints.glob("*.*"):
            if armed.name != "fired.log":
                armed.unlink(missing_ok=True)
        self.full.unlink(missing_ok=True)
        for proxy in filter(None, (self.broker_proxy, self.database_proxy)):
            proxy.heal()
        self.broker.stop()  # whatever it was told is forgotten with it
        self.broker.start()
        if self.postgres is not None:
            self.postgres.start()


@contextmanager
def make_world(folder: Path, plan: Plan) -> Iterator[World]:
    """Make a world and start it; nothing of it is left running afterwards."""
    home = Home(folder / "home", {"PIXMILL_ENGINE": "fake"})
    for each in (home.path, folder / "failpoints", folder / "met", folder / "tmp"):
        each.mkdir(parents=True)
    fake_model(home.path)
    with ExitStack() as stack:
        broker = Broker(folder)
        broker.start()
        stack.callback(broker.stop)
        broker_proxy = stack.enter_context(Proxy(broker.socket))
        postgres, proxy, direct, seen = _database(stack, home, plan)
        ready(direct)
        database = Database(direct, patience_s=5)
        stack.callback(database.close)
        home.environment |= _environment(folder, plan, f"redis://127.0.0.1:{broker_proxy.port}/0", seen)
        crews = Crews([Crew(home, devices, plan.queues, folder / f"{devices[0]}.log") for devices in _devices(plan)])
        pictures = [write_folder(folder / f"pictures{n}", plan.images, n * 100_000) for n in range(2)]
        world = World(plan, folder, home, database, broker, broker_proxy, crews, pictures, postgres, proxy)
        world.dataset = write_dataset(folder / "fruit") if plan.trainings else None
        stack.callback(crews.kill)
        crews.start()
        yield world


def _devices(plan: Plan) -> list[tuple[str, ...]]:
    """Two machines with two devices each. Their names are the seed's and this process's own."""
    name = f"{(plan.seed * 65_537 + os.getpid()) % 0xFFFFFF:06x}"
    return [(f"GPU-a1{name}-1", f"GPU-b2{name}-2"), (f"GPU-c3{name}-3", f"GPU-d4{name}-4")]


def wrong_clock(plan: Plan) -> tuple[str, int]:
    """The device whose worker has a wrong clock, and by how many seconds: either way, from a second to two hours."""
    rng = random.Random(plan.seed)
    device = rng.choice([device for crew in _devices(plan) for device in crew])
    return device, rng.choice((-1, 1)) * round(MOST_SKEW_S ** rng.random())


def _database(stack: ExitStack, home: Home, plan: Plan) -> tuple[Postgres | None, Proxy | None, str, str]:
    """The server and its proxy, if it is one; the database's URL for the harness, and for the program."""
    if plan.kind == "sqlite":
        url = f"sqlite:///{home.path}/pixmill.db"
        return None, None, url, url
    postgres = Postgres()
    stack.callback(postgres.close)
    proxy = stack.enter_context(Proxy(postgres.socket))
    address = make_url(postgres.url).difference_update_query(["host"])
    seen = address.set(host="127.0.0.1", port=proxy.port, username="postgres").render_as_string(False)
    return postgres, proxy, postgres.url, seen


def _environment(folder: Path, plan: Plan, broker_url: str, database_url: str) -> dict[str, str]:
    return {
        "PIXMILL_BROKER_URL": broker_url,
        "PIXMILL_DATABASE_URL": database_url,
        "PIXMILL_LEASE_S": str(LEASE_S),
        "PIXMILL_STALL_S": str(STALL_S),
        "PIXMILL_CHECKPOINT_S": "2",
        "PIXMILL_FAILPOINTS": str(folder / "failpoints"),
        "PYTHONPATH": CODE,
        "TMPDIR": str(folder / "tmp"),
        "CHAOS_BATCH_S": str(plan.batch_s),
        "CHAOS_SKEW": "=".join(map(str, wrong_clock(plan))),
        "CHAOS_HURRY": str(plan.hurry),
        "CHAOS_FULL": str(folder / "full"),
        "CHAOS_MET": str(folder / "met"),
        "CHAOS_GREEDY": str(folder / "greedy"),
        "PIXMILL_WORKER_MEMORY_MB": str(MEMORY_MB),
    }


class Submitter:
    """A thread that sees to it that there is always work: faults that meet nothing show nothing."""

    def __init__(self, world: World, rng: random.Random, at_once: int = 2) -> None:
        self._world, self._rng, self._at_once = world, rng, at_once
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="submitter", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Submit nothing more; waits for a submission that is under way."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(0.2):
            with suppress(StoreError):
                self._fill_up("classify", self._at_once, self._world.submit)
                if self._world.plan.trainings:
                    self._fill_up("finetune", 1, self._world.submit_training)

    def _fill_up(self, kind: str, wanted: int, submit: Any) -> None:
        # One that is cancelled may stay so until the end: the answer to its retry, or to the cancelling, can get lost.
        # One that is listed is no work: whoever submitted it may have died, and minutes go by until it ends.
        idle = "('done', 'done_with_errors', 'failed', 'cancelled', 'scanning')"
        open_jobs = f"SELECT COUNT(*) FROM jobs WHERE state NOT IN {idle}"
        # A job that nobody has begun yet is enough in hand: two large ones need not lie there.
        if self._world.number(f"{open_jobs} AND kind = '{kind}'") < wanted:
            submit(self._rng)
