"""A training whose disk is full: it waits, is not failed, and no attempt is counted; the trainer is a stand-in here."""

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from store import jobs
from store.database import Database
from store.errors import DatabaseFull
from store.insights import job as read_job
from store.rows import NewItem, NewJob, NewRun
from store.runs import move_checkpoint, run_of_job
from tests.databases import ready
from worker.devices import CPU
from worker.room import NoRoom
from worker.settings import Settings
from worker.training.station import TrainingStation

Message = dict[str, Any]
FULL = "No space left for /home/runs/a/checkpoint."
LEFT: Message = {"kind": "answer", "ended": "paused", "best_epoch": None, "best_value": None}


class Trainers:
    """Stand-ins, one after the other: each says what it was given, and is over."""

    def __init__(self, *scripts: Sequence[Message]) -> None:
        self.scripts = deque(scripts)
        self.now: deque[Message] = deque()
        self.started = self.ended = 0

    def __call__(self, *_: object, **__: object) -> "Trainers":
        self.started += 1
        self.now = deque(self.scripts.popleft())
        return self

    def next(self, _: float) -> Message | None:
        return dict(self.now.popleft()) if self.now else None

    def tell(self, _: Message) -> None:
        return

    def end(self) -> None:
        self.ended += 1

    is_over = was_killed = True

    def last_words(self) -> str:
        return "it was killed"


class World:
    """A database with one training, and its worker."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = Settings(home=home, engine="fake")
        self.database = Database(ready(self.settings.database))
        run = NewRun("finches", {"mode": "scratch", "preset": "fashion_cnn"}, 7, options={"labels": ["a", "b"]})
        found = (NewItem(f"{n}.jpg".encode(), label="ab"[n % 2]) for n in range(6))
        self.job = jobs.accept(self.database, NewJob(None, kind="finetune", queue="train", run=run), found)
        self.trainers = Trainers()
        self.told: list[str | None] = []
        self.station = TrainingStation(self.settings, CPU, lambda: not self.trainers.scripts and not self.trainers.now)
        monkeypatch.setattr("worker.training.attempt.TrainerProcess", self._start)
        monkeypatch.setattr("worker.room.WAITS_S", (0.0,))
        monkeypatch.setattr(self.station._patience, "_tell", self.told.append)

    def _start(self, *arguments: object, **options: object) -> Trainers:
        return self.trainers(*arguments, **options)

    def work(self, *scripts: Sequence[Message]) -> None:
        self.trainers = Trainers(*scripts)
        self.station.drain()

    def attempts(self) -> list[tuple[int, int, str]]:
        """Of the shard: attempts that are left, its attempt and how each one ended."""
        query = "SELECT s.max_attempts - s.attempt, a.n, a.outcome FROM shards s JOIN attempts a ON a.shard_id = s.id"
        with self.database.read() as connection:
            return [(left, n, outcome) for left, n, outcome in connection.exec_driver_sql(f"{query} ORDER BY a.n")]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path / "home", monkeypatch)
    yield made
    made.database.close()
    made.station.place.database.close()


def test_a_trainer_that_ends_for_want_of_space_is_started_again_and_no_attempt_counts(world: World) -> None:
    ends: list[Message] = [{"kind": "error", "error": NoRoom.__name__, "message": FULL}]
    world.work(*[ends] * 7, [LEFT])
    row = read_job(world.database, world.job)
    assert (row.state.value, row.error) == ("running", None)
    assert (world.trainers.started, world.trainers.ended) == (8, 8)
    assert {outcome for _, _, outcome in world.attempts()} == {"released"}
    assert {left for left, _, _ in world.attempts()} == {5}
    assert world.told == [FULL] * 7


def test_a_trainer_that_waits_for_space_is_let_wait_and_its_word_is_passed_on(world: World, tmp_path: Path) -> None:
    waits: Message = {"kind": "no_room", "message": FULL}
    written: Message = {"kind": "checkpoint", "path": str(tmp_path / "1" / "a"), "epoch": 1, "step": 0}
    (tmp_path / "1" / "a").mkdir(parents=True)
    world.work([waits, waits, written, LEFT])
    assert (world.trainers.started, world.told) == (1, [FULL, FULL, None])
    assert run_of_job(world.database, world.job).checkpoint_epoch == 1


def test_what_a_trainer_says_is_written_down_once_the_database_has_space(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def full(*arguments: Any) -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise DatabaseFull("No space left.", "the database /x.db")
        move_checkpoint(*arguments)

    monkeypatch.setattr("worker.training.attempt.move_checkpoint", full)
    (tmp_path / "1" / "a").mkdir(parents=True)
    world.work([{"kind": "checkpoint", "path": str(tmp_path / "1" / "a"), "epoch": 2, "step": 3}, LEFT])
    assert (tries, world.trainers.started) == (4, 1)
    assert run_of_job(world.database, world.job).checkpoint_epoch == 2
    assert str(world.told[0]).startswith("No space left for the database /x.db.")
    assert world.told[-1] is None


def test_a_full_database_under_a_training_costs_it_no_attempt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise DatabaseFull("No space left.")

    with monkeypatch.context() as patch:
        patch.setattr("worker.training.attempt.begin", full)
        world.trainers = Trainers([LEFT])
        with pytest.raises(DatabaseFull) as raised:
            world.station.drain()
    world.station.abandon(raised.value)
    assert world.attempts() == [(5, 1, "released")]
