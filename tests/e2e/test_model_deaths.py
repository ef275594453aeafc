"""A model that ends its process or never answers, in the real program: the shard is halved until the image is found."""

from pathlib import Path

import pytest

from tests.poison import failures, log, parents_replaced, poisoned, restarts, write_deadly
from tests.running import Home, fake_model, write_images

ATTEMPTS, OF_A_HALF = 5, 2  # as docs/failures.md says them
COUNTS = "SELECT COUNT(*) AS n, COUNT(DISTINCT idx) AS d, COUNT(*) FILTER (WHERE status = 'ok') AS ok FROM results"


@pytest.fixture
def deadly_home(home: Home, tmp_path: Path) -> Home:
    """A home whose model does not survive marked pictures, and whose waits between attempts are short."""
    home.environment |= {**poisoned(tmp_path / "site"), "POISON_HURRY": "1"}
    fake_model(home.path)
    return home


def check_restarts(home: Home, folder: Path, halvings: int, most: int) -> None:
    """At most so many, and one for each parent that ended because the pool did not replace its child."""
    assert ATTEMPTS + halvings <= restarts(folder) <= most + parents_replaced(home), log(home)


def classify_with_one(home: Home, folder: Path, images: int, mark: str) -> None:
    """Classify so many images, one of which the model does not survive; the others have results."""
    write_images(folder, images)
    write_deadly(folder / "000001.png", mark)
    done = home.run("classify", folder, "--no-reuse", "--json", code=6, timeout=300)
    assert len(done.stdout.splitlines()) == images
    assert failures(home) == {"000001.png": "worker_died"}
    assert home.sql(COUNTS) == [{"n": images, "d": images, "ok": images - 1}]


def test_a_device_call_that_hangs_on_one_image_is_ended_each_time_and_the_image_found(
    deadly_home: Home, tmp_path: Path
) -> None:
    """By the process itself where its other threads still run, and from outside where none does."""
    deadly_home.environment["PIXMILL_STALL_S"] = "3"
    classify_with_one(deadly_home, tmp_path / "photos", 2, "hang")
    check_restarts(deadly_home, tmp_path / "site", 1, ATTEMPTS + OF_A_HALF)
    assert "no progress for 3 s: giving up this process" in log(deadly_home)
    assert "is ended: it stood still for 3 s" in log(deadly_home)


def test_a_model_that_ends_its_process_on_one_image_costs_that_image_and_the_stated_restarts(
    deadly_home: Home, tmp_path: Path
) -> None:
    classify_with_one(deadly_home, tmp_path / "photos", 8, "crash")
    check_restarts(deadly_home, tmp_path / "site", 3, ATTEMPTS + OF_A_HALF * 3)
    assert deadly_home.sql("SELECT COUNT(*) AS n FROM shards WHERE state = 'split'") == [{"n": 3}]


def test_a_model_that_ends_its_process_on_every_image_gives_each_its_row_and_an_end(
    deadly_home: Home, tmp_path: Path
) -> None:
    """Few images, so that each gets its turn; what stops a larger job is in tests/store/test_failure_limits.py."""
    write_images(tmp_path / "photos", 2)
    for n in range(2):
        write_deadly(tmp_path / "photos" / f"{n:06}.png", "crash")
    deadly_home.run("classify", tmp_path / "photos", "--no-reuse", "--json", code=6, timeout=300)
    assert failures(deadly_home) == dict.fromkeys(("000000.png", "000001.png"), "worker_died")
    check_restarts(deadly_home, tmp_path / "site", 1, ATTEMPTS + OF_A_HALF * 2)  # halves may die together at first
    assert deadly_home.sql("SELECT state FROM jobs") == [{"state": "done_with_errors"}]
