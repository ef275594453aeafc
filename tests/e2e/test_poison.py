"""Images that end whatever decodes them, in the real program: each becomes one row, and costs one process."""

from pathlib import Path

import pytest

from tests.poison import failures, parents_replaced, poisoned, restarts, write_poison
from tests.running import Home, fake_model, write_images
from tests.servers import new_postgres_database

COUNTS = "SELECT COUNT(*) AS n, COUNT(DISTINCT idx) AS d, COUNT(*) FILTER (WHERE status = 'ok') AS ok FROM results"


@pytest.fixture
def poisoned_home(home: Home, tmp_path: Path) -> Home:
    """A home in which marked pictures do what they are marked with, with limits that a test can wait for."""
    limits = {"PIXMILL_ITEM_S": "5", "PIXMILL_WORKER_MEMORY_MB": "800", "PIXMILL_STALL_S": "10"}
    home.environment |= {**poisoned(tmp_path / "site"), **limits}
    fake_model(home.path)
    return home


def classify_with(home: Home, folder: Path, images: int, poison: dict[int, tuple[str, str]]) -> None:
    """Classify so many images, some of them marked, and check that each has its one row, and the marked their codes."""
    write_images(folder, images)
    for idx, (mark, _) in poison.items():
        write_poison(folder / f"{idx:06}.png", mark, idx)
    done = home.run("classify", folder, "--no-reuse", "--json", code=6)
    assert len(done.stdout.splitlines()) == images
    assert failures(home) == {f"{idx:06}.png": code for idx, (_, code) in poison.items()}
    assert home.sql(COUNTS) == [{"n": images, "d": images, "ok": images - len(poison)}]
    began = restarts(Path(home.environment["PYTHONPATH"]))
    assert 1 <= began <= len(poison) + parents_replaced(home)  # the bound of docs/failures.md
    assert home.sql("SELECT COUNT(*) AS n FROM shards WHERE state = 'split'") == [{"n": 0}]
    assert "it stood still" not in home.logs()  # a worker that works shows that it lives


def test_three_poisonous_images_among_a_thousand_cost_three_rows_and_three_restarts_at_the_most(
    poisoned_home: Home, tmp_path: Path
) -> None:
    poison = {
        150: ("segfault", "worker_died"),
        500: ("hang_with_the_lock", "timed_out"),
        850: ("memory", "out_of_memory"),
    }
    classify_with(poisoned_home, tmp_path / "photos", 1000, poison)


@pytest.mark.long
def test_the_same_on_postgresql(poisoned_home: Home, tmp_path: Path, postgres: str) -> None:
    poisoned_home.environment["PIXMILL_DATABASE_URL"] = new_postgres_database(postgres)
    poison = {30: ("segfault", "worker_died"), 70: ("bug", "worker_died")}
    classify_with(poisoned_home, tmp_path / "photos", 100, poison)


@pytest.mark.long
def test_more_poison_than_a_shard_has_attempts_is_one_restart_each_and_no_long_wait(
    poisoned_home: Home, tmp_path: Path
) -> None:
    poison = dict.fromkeys(range(0, 200, 35), ("segfault", "worker_died"))
    classify_with(poisoned_home, tmp_path / "photos", 200, poison)
    waits = poisoned_home.sql(
        "SELECT MAX(b.started_at - a.ended_at) AS s FROM attempts a JOIN attempts b ON b.shard_id = a.shard_id"
        " WHERE a.outcome = 'lost' AND b.started_at = (SELECT MIN(c.started_at) FROM attempts c"
        " WHERE c.shard_id = a.shard_id AND c.started_at > a.started_at)"
    )
    assert waits[0]["s"] < 25, waits  # the back-off of a third attempt alone is 30 s
