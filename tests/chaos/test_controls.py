"""Negative controls: with one safeguard taken out of the product, the oracle must find what that one prevents.

Random faults are a weak detector, so each control is the exact scene that its safeguard is there for. The real program
runs; `hooks/sitecustomize.py` breaks it. The same scenes with nothing broken must leave nothing to find.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from models.registry import Registry
from store.database import Database
from store.errors import StoreError
from store.sweep import sweep
from tests.chaos.armed import stand_still
from tests.chaos.oracle import Verdict, judge
from tests.chaos.world import CODE
from tests.databases import ready_home
from tests.running import Home, eventually, fake_model, write_images
from worker.dispatch import Dispatcher
from worker.settings import Settings
from worker.sources.opening import open_source
from worker.submission import Choices, Scan, submit_classify

pytestmark = pytest.mark.timeout(500)
IMAGES = 60  # one shard
RESCUE_S = 11.0  # a lease of one second, and ten: what was promised for the rescue of a dead worker's shard
PATIENCE_S = 90.0  # for a machine that does other things too; a scene takes seconds
DONE = "SELECT COUNT(*) FROM jobs WHERE state IN ('done', 'done_with_errors')"


@dataclass
class Scene:
    """A home with one job of one shard, two workers, and failpoints."""

    home: Home
    database: Database
    points: Path

    def arm(self, name: str, action: str) -> None:
        (self.points / name).write_text(action)

    def fired(self) -> list[int]:
        """The processes that came by an armed point, in order."""
        log = self.points / "fired.log"
        return [int(line.split()[2]) for line in log.read_text().splitlines()] if log.exists() else []

    def number(self, query: str) -> int:
        with self.database.read() as connection:
            return int(connection.scalar(text(query)) or 0)

    def swept(self, query: str) -> int:
        """A number after a sweep, which any process may do at any time: it saves the wait for the supervisor's turn."""
        with suppress(StoreError):
            sweep(self.database)
        dispatcher = Dispatcher(Settings(home=self.home.path))
        dispatcher.ring(None)
        dispatcher.close()
        return self.number(query)

    def is_quiet(self) -> bool:
        """Whether the job has ended."""
        return self.number(DONE) == 1


@contextmanager
def scene(
    folder: Path, broken: str, *, batch_s: float = 0.0, prepare: Callable[[Path], None] | None = None
) -> Iterator[Scene]:
    points = folder / "failpoints"
    points.mkdir()
    home = Home(
        folder / "home", {"PIXMILL_ENGINE": "fake", "PIXMILL_LEASE_S": "1", "TMPDIR": str(folder)}
    )  # a device's lock lies there
    home.environment |= {"PIXMILL_FAILPOINTS": str(points), "PYTHONPATH": CODE, "CHAOS_BREAK": broken}
    home.environment |= {"CHAOS_BATCH_S": str(batch_s)}
    # On a busy machine a scene may take longer than a worker may stand still: who is stopped here is to come back.
    home.environment |= {"PIXMILL_STALL_S": "600", "PIXMILL_ITEM_S": "600"}
    ready_home(home.path)
    if prepare is not None:
        prepare(home.path / "pixmill.db")
    fake_model(home.path)
    write_images(folder / "photos", IMAGES)
    database = Database(f"sqlite:///{home.path}/pixmill.db")
    source = open_source([str(folder / "photos")])
    version = Registry(home.path / "models").get("fake")
    submit_classify(database, Scan(source), version, Choices(reuse=False))
    try:
        yield Scene(home, database, points)
    finally:
        for process in home.processes():
            process.kill()
        database.close()


@contextmanager
def workers(on: Scene) -> Iterator[None]:
    """Two workers on pretended devices; killed afterwards, with all that is below them."""
    process = on.home.start("worker", "--devices", "GPU-d4d4d4d4-1,GPU-e5e5e5e5-2", "--queues", "classify")
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def zombie(folder: Path, broken: str = "", prepare: Callable[[Path], None] | None = None) -> Verdict:
    """A worker stands still with results in hand; its shard goes to another one; then both want to write."""
    # A batch takes longer than a slice may be old: both have some rows, and more to come.
    with scene(folder, broken, batch_s=1.1, prepare=prepare) as on:
        on.arm("slice.before", "hold")
        with workers(on):
            eventually(lambda: len(on.fired()) == 1, PATIENCE_S, "the first worker's stop")
            stand_still(on.points, on.fired()[0], on.database)
            on.arm("slice.before", "hold")
            leased = "SELECT COUNT(*) FROM shards WHERE state = 'leased'"
            eventually(lambda: on.swept(leased) == 0 or len(on.fired()) == 2, PATIENCE_S, "the end of the first lease")
            eventually(lambda: len(on.fired()) == 2, PATIENCE_S, "the second worker's stop")
            first, second = on.fired()
            assert first != second
            stand_still(on.points, second, on.database)
            os.kill(first, signal.SIGCONT)
            answered = (
                "SELECT (SELECT COUNT(*) FROM results) + (SELECT COUNT(*) FROM counters WHERE name LIKE 'fenced%')"
            )
            eventually(lambda: on.number(answered) > 0, PATIENCE_S, "an answer to the one that came back")
            os.kill(second, signal.SIGCONT)
            # A job with a row too many never ends: it counts its rows.
            doubled = "SELECT COUNT(*) - COUNT(DISTINCT idx) FROM results"
            eventually(lambda: on.is_quiet() or on.number(doubled) > 0, PATIENCE_S, "the end of the job")
        return judge(on.database)


def killed_while_committing(folder: Path, broken: str = "") -> Verdict:
    """A worker dies after its token was checked and before its rows are written."""
    with scene(folder, broken) as on:
        on.arm("commit.fenced", "kill")
        with workers(on):
            eventually(lambda: len(on.fired()) == 1, PATIENCE_S, "the worker's death")
            since = time.monotonic()
            # The broken scene and the intact one have as long: what nobody sweeps up by then stays.
            eventually(lambda: on.is_quiet() or time.monotonic() - since > RESCUE_S, PATIENCE_S)
        return judge(on.database)


def without_key(file: Path) -> None:
    """Make the table of results again, without its primary key."""
    database = Database(f"sqlite:///{file}")
    with database.write() as connection:
        made = str(connection.scalar(text("SELECT sql FROM sqlite_master WHERE name = 'results' AND type = 'table'")))
        keyless, count = re.subn(r",\s*CONSTRAINT \w+ PRIMARY KEY \([^)]*\)", "", made)
        assert count == 1, made
        connection.execute(text("DROP TABLE results"))
        connection.execute(text(re.sub(r"WITHOUT ROWID", "", keyless)))
    database.close()


SCENES: dict[str, Callable[[Path], Verdict]] = {
    "paused": zombie,
    "paused, no fence": lambda folder: zombie(folder, "fence"),
    "paused, no fence, no key": lambda folder: zombie(folder, "fence", without_key),
    "killed": killed_while_committing,
    "killed, no sweeper": lambda folder: killed_while_committing(folder, "sweeper"),
    "killed, apart": lambda folder: killed_while_committing(folder, "transaction"),
}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Verdict]]:
    """What the oracle says to each scene. They are played side by side: most of the time they wait."""
    ready_home(tmp_path_factory.mktemp("first"))  # migrations run in one thread; the others copy what this one made
    with ThreadPoolExecutor(3) as pool:
        playing = {name: pool.submit(play, tmp_path_factory.mktemp("scene")) for name, play in SCENES.items()}
        yield lambda name: playing[name].result(400)


Played = Callable[[str], Verdict]


def test_a_worker_that_comes_back_from_a_pause_changes_nothing(played: Played) -> None:
    verdict = played("paused")
    assert verdict.is_clean, str(verdict)


def test_a_worker_killed_between_its_token_and_its_rows_changes_nothing(played: Played) -> None:
    verdict = played("killed")
    assert verdict.is_clean, str(verdict)


def test_without_the_fence_the_oracle_finds_rows_of_two_attempts(played: Played) -> None:
    verdict = played("paused, no fence")
    assert verdict.counts["mixed"] > 0, str(verdict)
    assert verdict.counts["duplicated"] == 0, str(verdict)  # the key held


def test_without_the_unique_key_the_oracle_finds_doubled_rows(played: Played) -> None:
    """It is the second line: only what passes the fence meets it. So both are out here, and above only the fence."""
    verdict = played("paused, no fence, no key")
    assert verdict.counts["duplicated"] > 0, str(verdict)


def test_without_the_sweeper_the_oracle_finds_a_stuck_job(played: Played) -> None:
    verdict = played("killed, no sweeper")
    assert (verdict.counts["stuck"], verdict.counts["leases"]) == (1, 1), str(verdict)
    assert verdict.counts["open_attempts"] == 1, str(verdict)


def test_results_outside_of_the_shards_transaction_are_found_lost(played: Played) -> None:
    verdict = played("killed, apart")
    assert verdict.counts["lost"] == IMAGES, str(verdict)
