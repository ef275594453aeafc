"""CI's own judgement of a test run: a green one that tested too little is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

VERDICT = Path(__file__).parents[1] / ".ci" / "verdict.py"
PASSED = '<testcase classname="tests.a" name="one"/>'
NEEDS_DATA = '<testcase classname="tests.b" name="two"><skipped message="shared data folder is absent"/></testcase>'
NEEDS_MAC = '<testcase classname="tests.c" name="three"><skipped message="needs macOS"/></testcase>'


def verdict(report: Path, cases: str, *, shared: str) -> subprocess.CompletedProcess[str]:
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>", encoding="utf-8")
    environment = {**os.environ, "PIXMILL_REQUIRE_SHARED": shared}
    command = [sys.executable, str(VERDICT), str(report)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("cases", "shared"),
    [(PASSED, "1"), (PASSED + NEEDS_MAC, "1"), (PASSED + NEEDS_DATA, ""), (PASSED + NEEDS_DATA, "0")],
)
def test_a_run_that_tested_what_it_could_stands(tmp_path: Path, cases: str, shared: str) -> None:
    done = verdict(tmp_path / "junit.xml", cases, shared=shared)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("cases", "shared", "reason"),
    [
        ("", "", "No test ran"),
        (NEEDS_MAC, "", "No test ran"),
        (PASSED + NEEDS_DATA, "1", "tests.b::two was skipped though the shared data are there"),
    ],
)
def test_a_run_that_tested_too_little_is_refused(tmp_path: Path, cases: str, shared: str, reason: str) -> None:
    done = verdict(tmp_path / "junit.xml", cases, shared=shared)
    assert done.returncode == 1
    assert reason in done.stderr
