"""How everything that `pixmill up` runs stands: looked up once a second, as plain values to be shown."""

from __future__ import annotations

import http.client
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cli.clock import clock
from cli.speed import Speed
from store import pace, runs
from store.errors import StoreError
from store.insights import list_jobs
from store.states import JobState
from store.workers import list_workers

if TYPE_CHECKING:
    from store.database import Database
    from store.rows import JobRow
    from store.workers import WorkerRow
    from worker.kept import Kept
    from worker.supervisor import Supervisor

JOBS_SHOWN = 6
JOBS_TOLD = 50  # the newest ones, whose beginnings and ends are told
PROBE_S = 5.0  # between two looks at an API that answered; one that did not is asked at every look
PROBE_TIMEOUT_S = 1.0
REQUEST = b'"status":'  # what every line of the API's access log has, and no other line

Mood = Literal["well", "soon", "ill"]


@dataclass(frozen=True, slots=True)
class PartLine:
    """One part: what it is, where, how it stands, what it has (a model), how fast it goes."""

    kind: str
    where: str
    state: str
    mood: Mood
    what: str = ""
    speed: str = ""


@dataclass(frozen=True, slots=True)
class JobLine:
    """One open job: its name, how much is done of how much, and the rest in words, the most important first."""

    id: int
    name: str
    done: float
    total: float
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """Everything at one moment."""

    parts: tuple[PartLine, ...]
    jobs: tuple[JobLine, ...]
    news: tuple[str, ...] = ()  # what happened to jobs since the last look, line by line
    waiting: int = 0  # jobs that have not begun
    trouble: str = ""  # why jobs and workers are not known

    @property
    def api_answers(self) -> bool:
        """Whether the API was heard."""
        return any(part.kind == "api" and part.mood == "well" for part in self.parts)


@dataclass(slots=True)
class Api:
    """The API's process, seen from outside: whether it answers, and how many requests its log shows."""

    host: str
    port: int
    log: Path
    _answered: bool = False
    _asked: float = 0.0
    _offset: int = 0
    _requests: int = 0
    _speed: Speed = field(default_factory=Speed)

    def __post_init__(self) -> None:
        self._offset = self.log.stat().st_size if self.log.exists() else 0

    def answers(self, now: float) -> bool:
        """Whether /livez was answered lately."""
        if self._answered and now - self._asked < PROBE_S:
            return True
        self._asked = now
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request("GET", "/livez")
            self._answered = connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            self._answered = False
        finally:
            connection.close()
        return self._answered

    def rate(self, now: float) -> float:
        """Requests per second over the last seconds, without our own questions."""
        try:
            with self.log.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(self._offset if size >= self._offset else 0)  # it was put aside, and begun again
                new = file.read()
        except OSError:
            return 0.0
        whole = new[: new.rfind(b"\n") + 1]
        self._offset = (self._offset if size >= self._offset else 0) + len(whole)
        self._requests += sum(REQUEST in line and b"/livez" not in line for line in whole.splitlines())
        self._speed.note(self._requests, now)
        return self._speed.rate


class News:
    """Remembers in which state each job was seen, and tells what became of it."""

    def __init__(self) -> None:
        self._seen: dict[int, JobState] | None = None

    def look(self, database: Database) -> Iterator[str]:
        """A line for each job that began or ended since the last look; at the first look, for each that is open."""
        rows = list_jobs(database, limit=JOBS_TOLD)
        for row in reversed(rows):
            if self._seen is None:
                if not row.state.is_final and row.state is not JobState.PAUSED:
                    yield f"job {row.id}: still open, goes on"
            elif self._seen.get(row.id) is not row.state and (text := _became(row)):
                yield f"job {row.id}: {text}"
        self._seen = {row.id: row.state for row in rows}


def _became(row: JobRow) -> str:
    """A job's new state in words; nothing for states that pass by themselves."""
    if row.state is JobState.RUNNING:
        return f"running, {row.found:,} images" if row.kind == "classify" else f"running, {row.kind}"
    if row.state is JobState.PAUSED:
        return "paused"
    if not row.state.is_final:
        return ""
    state = row.state.value.replace("_", " ")
    took = f", {clock(row.finished_at - row.started_at)}" if row.finished_at and row.started_at else ""
    if row.state is JobState.FAILED or row.kind != "classify":
        return state + took + (f": {row.error}" if row.error else "")
    failed = f", {row.failed:,} failed" if row.failed else ""
    return f"{state}, {row.classified:,} of {row.found:,} classified{failed}{took}"


class Observer:
    """Looks at the supervisor's processes, the database and the API. One thread uses it."""

    def __init__(self, supervisor: Supervisor, database: Database, api: Api) -> None:
        self._supervisor = supervisor
        self._database = database
        self._api = api
        self._speeds: dict[str, Speed] = {}  # of workers and jobs
        self._worker_done: dict[str, int] = {}
        self._last_done: Mapping[tuple[str, int], int] = {}
        self._rows: dict[str, WorkerRow] = {}
        self._news = News()

    def look(self) -> Look:
        """How everything stands now."""
        now = time.monotonic()
        try:
            self._note_workers(now)
            jobs = tuple(self._job_line(row, now) for row in self._open_jobs())
            news, waiting, trouble = tuple(self._news.look(self._database)), pace.waiting_jobs(self._database), ""
        except StoreError as error:
            jobs, news, waiting, trouble = (), (), 0, f"The database is away: {error}"
        supervisor = self._supervisor
        parts = (
            *map(self._api_line, supervisor.others),
            self._broker_line(),
            *map(self._worker_line, supervisor.workers),
        )
        return Look(parts, jobs, news, waiting, trouble)

    def _open_jobs(self) -> Iterable[JobRow]:
        """The oldest of the newest open jobs first."""
        return reversed(list_jobs(self._database, states=pace.OPEN, limit=JOBS_SHOWN))

    def _note_workers(self, now: float) -> None:
        self._rows = {row.id: row for row in list_workers(self._database)}
        done = pace.images_done(self._database)
        for (worker, job), count in done.items():
            before = self._last_done.get((worker, job), 0 if self._last_done else count)
            self._worker_done[worker] = self._worker_done.get(worker, 0) + max(0, count - before)
        self._last_done = {**self._last_done, **done}
        for worker, count in self._worker_done.items():
            self._speed(worker).note(count, now)

    def _speed(self, name: str) -> Speed:
        return self._speeds.setdefault(name, Speed())

    def _job_line(self, row: JobRow, now: float) -> JobLine:
        if row.kind == "finetune":
            return self._training_line(row)
        done = row.classified + row.failed
        speed = self._speed(f"job {row.id}")
        speed.note(done, now)
        failed = (f"{row.failed:,} failed",) if row.failed else ()
        pace_words = (f"{speed.rate:,.0f} img/s", f"{speed.left(row.pending)} left") if speed.rate else ()
        state = ("cancelling",) if row.state is JobState.CANCELLING else ()
        if row.trouble:
            return JobLine(row.id, f"job {row.id}", done, row.found, (row.trouble, f"{done:,} of {row.found:,}"))
        return JobLine(
            row.id, f"job {row.id}", done, row.found, (*state, f"{done:,} of {row.found:,}", *failed, *pace_words)
        )

    def _training_line(self, row: JobRow) -> JobLine:
        from cli.training_text import how_far

        run = runs.run_of_job(self._database, row.id)
        done, total, words = how_far(run)
        left = run.progress.get("eta_s")
        rate = run.progress.get("images_per_s")
        more = (f"{rate:,.0f} img/s" if rate else "", f"{clock(left)} left" if left is not None else "")
        return JobLine(row.id, f"run {run.id}", done, total, tuple(word for word in (run.name, words, *more) if word))

    def _api_line(self, kept: Kept) -> PartLine:
        where = f"http://{_bracketed(self._api.host)}:{self._api.port}"
        if kept.state != "running":
            return PartLine("api", where, *_absence(kept))
        if self._supervisor.is_stopping:  # it answers what it has begun, and nobody else
            return PartLine("api", where, "stopping", "soon")
        now = time.monotonic()
        if not self._api.answers(now):
            return PartLine("api", where, "starting", "soon")
        rate = self._api.rate(now)
        return PartLine("api", where, "serving", "well", speed=f"{rate:,.1f} req/s" if rate else "")

    def _broker_line(self) -> PartLine:
        broker = self._supervisor.broker
        if broker is None:
            return PartLine("broker", "by PIXMILL_BROKER_URL", "not ours", "well")
        if broker.kept is None:
            return PartLine("broker", "embedded", "run by another process", "well")
        if broker.kept.state != "running":
            return PartLine("broker", "embedded", *_absence(broker.kept))
        return PartLine("broker", "embedded", "running", "well")

    def _worker_line(self, kept: Kept) -> PartLine:
        program = kept.program
        where = f"{program.queue} · {program.device}"
        if kept.state != "running" or kept.process is None:
            return PartLine("worker", where, *_absence(kept))
        row = self._rows.get(program.id)
        if row is None or not _belongs(row.pid, kept.process.pid):
            return PartLine("worker", where, "stopping" if self._supervisor.is_stopping else "starting", "soon")
        rate = self._speed(program.id).rate if row.state == "busy" and program.id in self._worker_done else 0.0
        speed = f"{rate:,.0f} img/s" if rate else ""
        if row.trouble:
            return PartLine("worker", where, "waits for space", "ill", row.model or "")
        state = row.state
        if self._supervisor.is_stopping:
            state = "finishing" if row.state == "busy" else "stopping"
        return PartLine("worker", where, state, "well", row.model or "", speed)


def _absence(kept: Kept) -> tuple[str, Mood]:
    """The state of a process that does not run, in words."""
    if kept.state == "waiting":
        return f"starts again in {math.ceil(kept.wait_s)} s", "soon"
    return ("stopped", "soon") if kept.state == "stopped" else (f"down, see {kept.program.log.name}", "ill")


def _belongs(pid: int, group: int) -> bool:
    """Whether a process is there, and of that process group: the row is of today's worker, not of its predecessor."""
    try:
        return os.getpgid(pid) == group
    except OSError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
