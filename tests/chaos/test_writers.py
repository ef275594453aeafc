"""A SQLite file under many writers that are killed while they commit, with either library that the product may have.

PIXMILL_WRITERS_S is the dose for each, in seconds; `python -m tests.chaos.writers --minutes 60` is the soak.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOSE_S = float(os.environ.get("PIXMILL_WRITERS_S", "10"))
WAL_SAFE = (3, 51, 3)  # sqlite.org/wal.html#walresetbug: not taken from the product, which this is a test of


@pytest.mark.slow
@pytest.mark.timeout(DOSE_S + 240)
@pytest.mark.parametrize("library", ["newest", "own"])
def test_writers_that_are_killed_in_their_commits_leave_a_whole_file_and_lock_nobody_out(library: str) -> None:
    command = [sys.executable, "-m", "tests.chaos.writers", "--minutes", str(DOSE_S / 60), "--sqlite", library]
    done = subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True, text=True, timeout=DOSE_S + 230)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    version = tuple(int(part) for part in report["sqlite"].split("."))
    assert report["journal"] == ("wal" if version >= WAL_SAFE else "truncate")
    assert (report["integrity"], report["complaints"], report["broken"]) == ("ok", [], [])
    assert report["killed"] + report["killed_in_commit"] >= DOSE_S / 2
    assert report["commits"] > 50
    assert done.returncode == 0
