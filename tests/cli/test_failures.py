"""What commands take and say of failed images: --max-failures, --code, a job that stopped."""

import pytest

from store import jobs
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.rows import NewItem, NewJob, NewResult
from store.sweep import sweep
from tests.cli.conftest import Pixmill
from worker.failures import ITEM_CODES


@pytest.fixture
def stopped(home_database: Database) -> int:
    """A job of five images that stopped after its second one."""
    found = (NewItem(b"%d.jpg" % n) for n in range(5))
    job_id = jobs.accept(home_database, NewJob(None, "five birds", b"/photos", max_failures="0"), found)
    lease = claim(home_database, Claimer("w"))
    assert lease is not None
    rows = [
        NewResult(0, "ok", label="wren", score=0.9, topk="[]"),
        NewResult(1, "failed", error_code="permission", error="User 7 may not read it."),
    ]
    commit_slice(home_database, lease, rows, last=False)
    sweep(home_database)
    return job_id


def test_a_job_that_stopped_says_why_and_how_to_go_on(pixmill: Pixmill, stopped: int) -> None:
    told = pixmill("jobs", "show", stopped)
    assert told.code == 0
    for part in (
        f"Job {stopped} is failed: 5 found = 1 classified + 1 failed + 3 not run",
        "Stopped: 1 of 2 images failed, and at most 0 may. Most often as permission (1), for example /photos/1.jpg: ",
        f"Next: `pixmill jobs retry {stopped}` once the cause is gone; `pixmill jobs resume {stopped}` leaves alone",
    ):
        assert part in told.out


def test_one_command_goes_on(pixmill: Pixmill, stopped: int) -> None:
    on = pixmill("jobs", "resume", stopped, "--detach", "--json")
    assert (on.code, on.json["state"], on.json["failed"], on.json["max_failures"]) == (0, "accepted", 1, "none")
    assert "However many images fail, it goes on." in pixmill("jobs", "show", stopped).out
    changed = pixmill("jobs", "resume", stopped, "--max-failures", "5 %", "--detach", "--json")
    assert changed.json["max_failures"] == "5%"
    assert "Stops once more than 5% of the images failed." in pixmill("jobs", "show", stopped).out
    pixmill("jobs", "cancel", stopped)
    again = pixmill("jobs", "retry", stopped, "--max-failures", "1000", "--detach", "--json")
    assert (again.code, again.json["failed"], again.json["max_failures"]) == (0, 0, "1000")
    assert "Stops once more than 1,000 images failed." in pixmill("jobs", "show", stopped).out


@pytest.mark.parametrize("command", [("classify", "photos"), ("jobs", "retry", "1"), ("jobs", "resume", "1")])
def test_what_is_no_limit_is_refused(pixmill: Pixmill, command: tuple[str, ...]) -> None:
    told = pixmill(*command, "--max-failures", "lots")
    assert told.code == 2
    assert "--max-failures: expected a number of images (500), a share of them (5%), or none, got 'lots'." in told.err


def test_a_code_that_no_image_can_have_is_refused_with_all_there_are(pixmill: Pixmill, stopped: int) -> None:
    told = pixmill("jobs", "retry", stopped, "--code", "permission", "--code", "nonsense")
    assert told.code == 2
    assert "--code: expected an error code of images, got 'nonsense'. There are missing, broken_link" in told.err
    assert all(code.code in told.err for code in ITEM_CODES)
