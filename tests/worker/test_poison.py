"""A worker takes over from one that died with images in hand, in this process, with the stand-in engine."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import select, update

from models.decoding import decode_other
from models.engines.base import Batch, Indices, Scores
from models.engines.fake import FakeEngine
from models.manifest import Preprocessing
from models.registry import Registry
from store import jobs
from store.claims import Claimer, claim, excuse, release_dead
from store.database import Database
from store.insights import job as read_job
from store.results import stream
from store.rows import Lease, NewItem, NewJob, NewResult
from store.states import JobState, ShardState
from store.sweep import sweep
from store.tables import shards
from tests.databases import ready
from tests.poison import poisoned, write_poison
from tests.running import fake_model, write_images
from worker.answers import Answers, Prepared
from worker.devices import CPU
from worker.family import Family
from worker.inhand import InHand, hand_path
from worker.pipeline import Chunk, Pipeline, Row
from worker.preparing import Preparer, Wanted
from worker.reading import Location, Reader
from worker.settings import Settings
from worker.sources.opening import open_source
from worker.station import Station
from worker.submission import Choices, Scan, submit_classify
from worker.suspects.custody import Custody
from worker.suspects.examiner import Examiner, Verdict
from worker.twins import Twins


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PYTHONPATH", poisoned(tmp_path / "site")["PYTHONPATH"])
    fake_model(tmp_path / "home")
    return Settings(home=tmp_path / "home", engine="fake", item_s=1.0)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(ready(settings.database))
    yield database
    database.close()


def submit(database: Database, settings: Settings, folder: Path, *, reuse: bool = False) -> int:
    version = Registry(settings.models_folder).get("fake")
    return submit_classify(database, Scan(open_source([str(folder)])), version, Choices(reuse=reuse))


def die_with(database: Database, settings: Settings, *indices: int) -> Lease:
    """A worker claims the next shard and dies with these of its items in hand."""
    worker_id = CPU.worker_id(settings.run_folder)
    lease = claim(database, Claimer(worker_id))
    assert lease is not None
    hand = InHand(hand_path(settings.run_folder, CPU.name, "classify"))
    hand.take_over()
    for idx in indices:
        hand.begin(lease.job_id, idx)
    return lease


def codes(database: Database, job_id: int) -> dict[int, str | None]:
    return {row.idx: row.error_code for row in stream(database, job_id) if row.status == "failed"}


def attempt(database: Database, lease: Lease) -> int | None:
    with database.read() as connection:
        return connection.scalar(select(shards.c.attempt).where(shards.c.id == lease.shard_id))


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The paths that were prepared alone, in order."""
    paths: list[bytes] = []
    examine = Examiner.examine

    def spied(
        self: Examiner, location: Location, preprocessing: Preprocessing, halted: Callable[[], bool]
    ) -> Verdict | None:
        paths.append(location.path)
        return examine(self, location, preprocessing, halted)

    monkeypatch.setattr(Examiner, "examine", spied)
    return paths


@pytest.mark.parametrize("reuse", [False, True])
def test_what_a_dead_worker_had_in_hand_is_prepared_alone_and_only_that(
    database: Database, settings: Settings, tmp_path: Path, examined: list[bytes], reuse: bool
) -> None:
    write_images(tmp_path / "photos", 40)
    write_poison(tmp_path / "photos/000010.png", "segfault")
    write_poison(tmp_path / "photos/000020.png", "hang")
    job_id = submit(database, settings, tmp_path / "photos", reuse=reuse)
    lease = die_with(database, settings, 10, 11, 20)
    progress: list[bool] = []
    Station(settings, CPU, lambda: False, lambda: progress.append(True)).drain()
    sweep(database)
    assert read_job(database, job_id).state is JobState.DONE_WITH_ERRORS
    assert codes(database, job_id) == {10: "worker_died", 20: "timed_out"}
    assert examined == [b"000010.png", b"000011.png", b"000020.png"]
    assert progress
    assert attempt(database, lease) == 1  # both deaths are explained, and the second attempt is the first that counts


def test_an_innocent_suspect_is_so_no_longer_and_costs_its_attempt(
    database: Database, settings: Settings, tmp_path: Path, examined: list[bytes]
) -> None:
    write_images(tmp_path / "photos", 20)
    job_id = submit(database, settings, tmp_path / "photos")
    lease = die_with(database, settings, 3)
    Station(settings, CPU, lambda: False).drain()
    sweep(database)
    assert read_job(database, job_id).state is JobState.DONE
    assert examined == [b"000003.png"]
    assert attempt(database, lease) == 2
    assert InHand(hand_path(settings.run_folder, CPU.name, "classify")).suspects(job_id) == set()


def test_copies_of_a_convicted_image_share_its_verdict(settings: Settings, tmp_path: Path) -> None:
    """They would be decoded well in this process: nobody does it."""
    items = []
    for n in range(3):
        write_poison(tmp_path / f"{n}.png", "segfault")
        items.append(Wanted(n, Location(os.fsencode(tmp_path), b"%d.png" % n, True, None, None), None))
    small, examiner, excused = Preprocessing(width=16, height=16), Examiner(settings), list[str]()
    custody = Custody(InHand(), 1, small, examiner, excused.append, lambda: False)
    preparer = Preparer(Reader(), small, max_pixels=100, twins=Twins(), custody=custody)
    try:
        outcomes = [*preparer.examine("token", items[0]), *preparer.prepare("token", items[1:])]
        assert [row.error_code for _, row in preparer.examine("later", items[0]) if isinstance(row, NewResult)]
    finally:
        examiner.close()
    rows = [outcome for _, outcome in outcomes if isinstance(outcome, NewResult)]
    assert [(row.idx, row.error_code, row.reused) for row in rows] == [
        (0, "worker_died", False),
        (1, "worker_died", True),
        (2, "worker_died", True),
    ]
    assert excused == ["token"]  # for the first time it was found guilty, and no other


def test_a_convicted_image_that_is_run_again_is_prepared_alone_at_once(
    database: Database, settings: Settings, tmp_path: Path, examined: list[bytes]
) -> None:
    write_images(tmp_path / "photos", 5)
    write_poison(tmp_path / "photos/000002.png", "segfault")
    job_id = submit(database, settings, tmp_path / "photos")
    die_with(database, settings, 2)
    station = Station(settings, CPU, lambda: False)
    station.drain()
    sweep(database)
    jobs.retry(database, job_id)
    station.drain()
    sweep(database)
    assert codes(database, job_id) == {2: "worker_died"}
    assert examined == [b"000002.png"] * 2


def test_an_error_that_nobody_thought_of_costs_one_image_and_one_attempt(
    database: Database, settings: Settings, tmp_path: Path, examined: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "photos", 20)
    write_poison(tmp_path / "photos/000007.png", "bug")

    def broken(name: str, data: bytes, max_pixels: int) -> object:
        if b"poison:bug." in data:
            raise RuntimeError("nobody thought of this")
        return decode_other(name, data, max_pixels)

    monkeypatch.setattr("models.images.decode_other", broken)  # the child has its own way to break it
    job_id = submit(database, settings, tmp_path / "photos")
    station = Station(settings, CPU, lambda: False)
    with pytest.raises(RuntimeError, match="nobody thought") as raised:
        station.drain()
    station.abandon(raised.value)
    sweep(database)
    station.drain()
    sweep(database)
    assert read_job(database, job_id).state is JobState.DONE_WITH_ERRORS
    assert codes(database, job_id) == {7: "worker_died"}
    assert examined == [b"000007.png"]


def test_a_worker_that_is_told_to_stop_leaves_a_suspect_to_its_successor(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    write_images(tmp_path / "photos", 3)
    write_poison(tmp_path / "photos/000002.png", "hang")
    job_id = submit(database, settings, tmp_path / "photos")
    die_with(database, settings, 2)
    examining: list[Examiner] = []

    told: list[bool] = []

    def stopping() -> bool:
        if any(examiner.is_busy and examiner._child is not None for examiner in examining):
            told.append(True)
        return bool(told)

    station = Station(settings.model_copy(update={"item_s": 60.0}), CPU, stopping)
    examining.append(station._examiner)
    station.drain()
    sweep(database)
    row = read_job(database, job_id)
    assert row.failed == 0
    assert row.pending >= 1
    assert InHand(hand_path(settings.run_folder, CPU.name, "classify")).suspects(job_id) == {2}


def test_each_image_excuses_one_attempt_and_the_first_is_never_taken_back(database_url: str) -> None:
    database = Database(database_url)
    try:
        jobs.accept(database, NewJob(model_id=None, root=b"/photos"), (NewItem(f"{n}.png".encode()) for n in range(8)))
        for expected in (1, 2, 3):
            lease = claim(database, Claimer("w"))
            assert lease is not None
            assert lease.attempt == expected
            release_dead(database, "w")
            sweep(database)
            with database.write() as connection:
                connection.execute(update(shards).values(not_before=0))
        lease = claim(database, Claimer("w"))
        assert lease is not None
        left = []
        for _ in range(5):
            assert excuse(database, lease)
            left.append(attempt(database, lease))
        assert left == [3, 2, 1, 1, 1]
        with database.write() as connection:
            connection.execute(update(shards).values({"token": "another"}))
        assert not excuse(database, lease)
    finally:
        database.close()


def test_more_poison_than_a_shard_has_attempts_neither_cuts_it_down_nor_makes_it_wait(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    write_images(tmp_path / "photos", 30)
    submit(database, settings, tmp_path / "photos")
    for n in range(0, 28, 4):
        lease = die_with(database, settings, n)  # there is something to claim at once, each time
        if n:
            assert lease.attempt == 2
            excuse(database, lease)  # the image before is found guilty; then this one ends the process
        release_dead(database, lease.worker_id)
        sweep(database)
    with database.read() as connection:
        assert connection.execute(select(shards.c.state, shards.c.hi)).all() == [(ShardState.READY, 30)]


class Slow(Preparer):
    """Takes its time for suspects, and notes what happens."""

    told: list[str]
    examine_s = 0.3

    def examine(self, owner: str, wanted: Wanted) -> Iterator[tuple[str, Prepared | NewResult]]:
        time.sleep(self.examine_s)
        self.told.append("examined")
        yield owner, NewResult(wanted.idx, "failed", "worker_died", "it died")

    def prepare(self, owner: str, chunk: Sequence[Wanted]) -> Iterator[tuple[str, Prepared | NewResult]]:
        self.told.append("prepared")
        yield from super().prepare(owner, chunk)


def run_slow(tmp_path: Path) -> tuple[list[str], list[int]]:
    """What happened in which order, and the rows, for two suspects and ten others."""
    write_images(tmp_path, 12)
    items = [Wanted(n, Location(os.fsencode(tmp_path), b"%06d.png" % n, True, None, None), None) for n in range(12)]
    slow = Slow(Reader(), Preprocessing(width=16, height=16), max_pixels=100)
    slow.told = []
    pipeline = Pipeline(FakeEngine(("a", "b"), batch_size=4), slow, Answers(("a", "b"), 1), threads=4)
    chunks = [Chunk("t", [item], suspect=True) for item in items[:2]] + [Chunk("t", [item]) for item in items[2:]]
    rows: list[Row] = []
    pipeline.run(iter(chunks), rows.extend)
    return slow.told, sorted(row.idx for _, row in rows)


def test_nothing_else_is_begun_before_the_suspects_are_through(tmp_path: Path) -> None:
    told, rows = run_slow(tmp_path)
    assert told == ["examined"] * 2 + ["prepared"] * 10
    assert rows == list(range(12))


def test_a_suspect_that_takes_its_time_holds_up_nobody_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.pipeline.PATIENCE_S", 0.0)
    told, rows = run_slow(tmp_path)
    assert told[0] == "prepared"
    assert rows == list(range(12))


def test_while_a_suspect_is_looked_at_its_worker_does_not_look_stuck(settings: Settings) -> None:
    station = Station(settings, CPU, lambda: False)
    assert station._ticks() == station._ticks()
    station._examiner.is_busy = True
    assert station._ticks() < station._ticks()


def test_a_process_that_gets_on_is_followed_without_a_rest() -> None:
    family = Family()
    family.numbers.deaths = 7
    family.got_on()
    assert family.numbers.deaths == 0


def test_an_image_on_which_the_model_dies_costs_no_neighbour_its_result(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the work on a shard ends that on all that are held; in the end the one image alone is to blame."""
    write_images(tmp_path / "photos", 40)
    Image.new("RGB", (8, 8), (200, 3, 7)).save(tmp_path / "photos/000021.png")
    job_id = submit(database, settings, tmp_path / "photos")
    predict = FakeEngine.predict

    def broken(self: FakeEngine, batch: Batch) -> tuple[Indices, Scores]:
        if any((image == (200, 3, 7)).all() for image in batch):
            raise RuntimeError("the device is gone")
        return predict(self, batch)

    monkeypatch.setattr(FakeEngine, "predict", broken)
    station, ends = Station(settings, CPU, lambda: False), 0
    while read_job(database, job_id).pending:
        try:
            station.drain()
        except RuntimeError as error:
            ends += 1
            station.abandon(error)
        sweep(database)
        with database.write() as connection:
            connection.execute(update(shards).values(not_before=0))
        assert ends < 100
    assert codes(database, job_id) == {21: "worker_died"}
    assert read_job(database, job_id).classified == 39
    assert ends <= 5 + 2 * 6  # attempts of a whole shard, and of its halves; 64 is the next power of two
    with database.read() as connection:
        halved = connection.execute(select(shards.c.lo, shards.c.hi).where(shards.c.state == ShardState.SPLIT)).all()
    assert [row for row in halved if not row.lo <= 21 < row.hi] == []  # no other shard lost its attempts by it
