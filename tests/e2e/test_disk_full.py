"""The disk of a home fills up in the middle of a job: the job waits, says so, and goes on when there is space."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import ready_home
from tests.running import eventually, fake_model, running, write_slow
from tests.small_disks import SmallHome, small_home

IMAGES = 1500


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SmallHome]:
    with small_home(tmp_path / "home", 160) as made:
        ready_home(made.seen)
        fake_model(made.seen)
        yield made
        eventually(lambda: not made.processes(), 20, "the end of every process of this home")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A few pictures under many names: they take some milliseconds each."""
    return write_slow(tmp_path / "photos", IMAGES)


def done(home: SmallHome) -> int:
    rows = home.sql("SELECT classified FROM v_job_totals")
    return int(rows[0]["classified"]) if rows else 0


def test_a_job_waits_while_the_disk_is_full_and_ends_whole(home: SmallHome, photos: Path) -> None:
    with running(home, "classify", photos, "--no-reuse") as command:
        eventually(lambda: done(home) > 0, 60, "the first slice")
        home.fill()
        eventually(lambda: "goes on by itself" in home.run("jobs", "show", 1).stdout, 60, "the reason")
        (shown,) = home.json("jobs", "show", 1, "--json")
        assert (shown["state"], shown["failed"]) == ("running", 0)
        assert str(shown["trouble"]).startswith(f"No space left for the database {home.path}/pixmill.db.")
        stood = done(home)
        assert stood < IMAGES
        assert home.sql("SELECT COUNT(*) AS n FROM results") == [{"n": stood}]
        home.make_room()
        _, err = command.communicate(timeout=120)
    assert command.returncode == 0, err
    assert "job 1: No space left for the database" in err
    assert "job 1: there is space again, it goes on" in err
    assert done(home) == IMAGES
    assert home.sql("SELECT COUNT(DISTINCT idx) AS n FROM results") == [{"n": IMAGES}]
    assert home.sql("SELECT DISTINCT state, attempt FROM shards") == [{"state": "done", "attempt": 1}]
    assert home.sql("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
