"""A dose of chaos: faults at random moments over one world, then peace, then the oracle."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from store.errors import StoreError
from tests.chaos import broker_faults, database_faults, failpoint_faults, person_faults
from tests.chaos.crews import Missed
from tests.chaos.faults import CATALOGUE, Fault
from tests.chaos.history import fired
from tests.chaos.oracle import judge
from tests.chaos.pace import Pace
from tests.chaos.report import Happened, Report
from tests.chaos.samples import Samples
from tests.chaos.world import Plan, Submitter, World, make_world
from tests.running import command_of

SOURCES = (broker_faults, database_faults, failpoint_faults, person_faults)  # importing them fills the catalogue
FIRST_ROW_S = 60.0
DRAIN_S = 300.0  # back-off after several losses of one shard is two minutes
UNDO_S = 40.0  # what a fault may take beyond what it says
AT_ONCE = 12
FRESH_S = 1.5  # so old may the last commit be when a fault comes,
PATIENCE_S = 4.0  # unless it came so long ago that it is not worth waiting for
USUAL = (0, -signal.SIGKILL, -signal.SIGTERM)  # how a supervisor ends that was told to, or was killed
OPEN = "SELECT COUNT(*) FROM jobs WHERE state NOT IN ('done', 'done_with_errors', 'failed', 'cancelled', 'scanning')"
HELD = "SELECT COUNT(*) FROM shards WHERE state = 'leased'"
# A training that was cancelled when it had its model is whole: only its evaluation was left to do.
FAILED = """SELECT j.id, j.kind, j.error FROM jobs j LEFT JOIN runs r ON r.job_id = j.id
    WHERE j.state = 'failed' OR (j.state = 'cancelled' AND r.model_id IS NULL)"""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Dose:
    """How much: `faults` of them for each seed, or as many as come in `seconds`; one every `every_s` on average.

    None comes after `until` (of the monotonic clock), however many were wanted.
    """

    seeds: tuple[int, ...]
    faults: int = 0
    seconds: float = 0.0
    every_s: float = 0.4
    until: float = float("inf")


def run_dose(folder: Path, plan: Plan, dose: Dose, say: Say = lambda _: None) -> Report:
    """Give a dose to a new world and judge what is left of it."""
    report, started = Report(dose.seeds, plan.kind), time.monotonic()
    with make_world(folder, plan) as world:
        submitter, pace = Submitter(world, random.Random(dose.seeds[0])), Pace(world)
        samples = Samples(world)
        submitter.start()
        pace.start()
        samples.start()
        try:
            _until(lambda: bool(pace.commits), FIRST_ROW_S)
            begun = time.monotonic()
            for n, seed in enumerate(dose.seeds, 1):
                _hurt(world, pace, replace(dose, seeds=(seed,), faults=dose.faults * n), report)
                say(f"{plan.kind}, seed {seed}: {len(report.happened)} faults")
            report.seconds = time.monotonic() - begun
            submitter.stop()
            _settle(world, pace, report, say)
        finally:
            pace.stop()
            samples.stop()
        report.samples = samples.summary() if dose.seconds else ""
        stopped = time.monotonic()
        report.wrong += world.crews.stop()
        say(f"{plan.kind}: stopped in {time.monotonic() - stopped:.1f} s")
        report.wrong += _left_over(world)
        report.measure(world, pace)
        report.wrong += world.wrong
        report.wrong += _odd_ends(world)
        report.wrong += _odd_versions(world)
        report.wrong += samples.grown() if dose.seconds else []
        report.verdict = judge(
            world.database, acknowledged=world.acknowledged,
            server_check=(lambda: postgres.check("postgres")) if (postgres := world.postgres) else None,
            befell=world.history.names(), logs=world.logs,
        )  # fmt: skip
        report.whole_s = time.monotonic() - started
        if not report.is_clean:
            report.wrong += [f"{path.name}: …{path.read_text()[-1500:]}" for path in world.logs]
    return report


class _Chooser:
    """Chooses faults by their weights; those that take the same thing never overlap."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._faults = [one for one in CATALOGUE.values() if one.fits(world)]
        self._rng = rng
        self._taken: set[str] = set()
        self._lock = threading.Lock()

    def take(self) -> tuple[Fault, random.Random]:
        """A fault whose needs are free, taken for it."""
        with self._lock:
            free = [one for one in self._faults if one.takes not in self._taken]
            chosen = self._rng.choices(free, [one.weight for one in free])[0]
            if chosen.takes:
                self._taken.add(chosen.takes)
            return chosen, random.Random(self._rng.random())

    def give_back(self, fault: Fault) -> None:
        """What it took is free again."""
        with self._lock:
            self._taken.discard(fault.takes)


def _hurt(world: World, pace: Pace, dose: Dose, report: Report) -> None:
    """Faults until there were so many, or until the time is over, and all of them undone.

    One that comes while nothing is committed anyway waits a little: it is to meet work.
    """
    rng = random.Random(dose.seeds[0])
    chooser = _Chooser(world, rng)
    ending = min(dose.until, time.monotonic() + dose.seconds if dose.seconds else float("inf"))
    running: dict[Future[None], tuple[Fault, float]] = {}
    pool = ThreadPoolExecutor(AT_ONCE, "fault")
    try:
        while (dose.seconds or len(report.happened) < dose.faults) and time.monotonic() < ending:
            time.sleep(min(rng.expovariate(1 / dose.every_s), 5 * dose.every_s))
            _until(lambda: pace.silent_s < FRESH_S, PATIENCE_S)
            running = {one: what for one, what in running.items() if not one.done()}
            if len(running) < AT_ONCE:
                fault, dice = chooser.take()
                running[pool.submit(_befall, world, fault, dice, chooser, report)] = fault, time.monotonic()
        for one, (fault, _) in running.items():
            with suppress(TimeoutError):
                one.result(UNDO_S)
            if not one.done():
                report.harness.append(f"{fault.name} does not end")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _befall(world: World, fault: Fault, dice: random.Random, chooser: _Chooser, report: Report) -> None:
    begun = time.monotonic()
    try:
        with world.history.during(fault.name), fault.act(world, dice) as seconds:
            at = time.monotonic()
            _note(world, fault.name, f"for {seconds:.1f} s" if seconds else "")
            time.sleep(seconds)
        _note(world, fault.name, "over")
        report.happened.append(Happened(fault.name, at, time.time() - (time.monotonic() - at)))
    except (Missed, StoreError):
        report.missed[fault.name] += 1
    except Exception as error:
        report.harness.append(f"{fault.name}: {type(error).__name__}: {error}")
        raise
    finally:
        chooser.give_back(fault)
        took = time.monotonic() - begun
        if took > UNDO_S + 30:
            report.harness.append(f"{fault.name} took {took:.0f} s")


def _note(world: World, name: str, words: str) -> None:
    """A line in a log of its own, by the clock that workers write theirs with."""
    with (world.folder / "faults.log").open("a") as log:
        log.write(f"{datetime.now(UTC):%H:%M:%S.%f} {name} {words}\n")


def _settle(world: World, pace: Pace, report: Report, say: Say) -> None:
    """Undo everything, and wait until all that was accepted is done and nobody holds anything."""
    begun = time.monotonic()
    world.heal()
    for row in world.rows("SELECT id FROM jobs WHERE state LIKE 'cancel%'"):
        person_faults.retry(world, row["id"])
    if not _until(lambda: world.number(OPEN) == 0 and world.number(HELD) == 0, DRAIN_S):
        jobs = world.rows("SELECT id, kind, state, error FROM jobs WHERE state NOT IN ('done', 'done_with_errors')")
        shards = world.rows("SELECT * FROM shards WHERE state IN ('ready', 'leased') ORDER BY id LIMIT 10")
        report.wrong.append(
            f"not done {DRAIN_S:.0f} s after the last fault: {jobs}; {shards}; silent {pace.silent_s:.0f} s"
        )
    failed = world.rows(FAILED)
    report.wrong += [f"job {row['id']} ({row['kind']}) did not succeed: {row['error']}" for row in failed]
    report.drain_s = time.monotonic() - begun
    say(f"{world.plan.kind}: quiet again after {report.drain_s:.1f} s")


def _left_over(world: World) -> list[str]:
    """Processes of the home, or in one of its folders, that nobody ended."""
    _until(lambda: not world.running(), 10)
    return [f"left running: {process.pid} {command_of(process)}" for process in world.running()]


def _odd_ends(world: World) -> list[str]:
    """Supervisors that ended by themselves, with whatever status: neither a fault nor a failpoint ended them."""
    by_failpoint = {one.pid for one in fired(world.failpoints)}
    ends = ((pid, n, n in USUAL and pid in crew.told) for crew in world.crews.all for pid, n in crew.ends)
    return [
        f"a supervisor ended by itself with status {n}" for pid, n, ok in ends if not ok and pid not in by_failpoint
    ]


def _odd_versions(world: World) -> list[str]:
    """Trainings that left more, or less, than one version of their model on the disk."""
    done = {str(row["name"]) for row in world.rows("SELECT name FROM runs WHERE state = 'done'")}
    folders = {name: world.home.path / "models" / name for name in done}
    found = {name: sorted(one.name for one in path.iterdir() if one.name.isdecimal()) for name, path in folders.items()}
    return [f"the model {name} has the versions {versions}" for name, versions in found.items() if versions != ["1"]]


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(StoreError):
            if condition():
                return True
        time.sleep(0.1)
    return False
