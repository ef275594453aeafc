"""Failpoints: all of them are in the program, and none of them does anything outside of tests."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from cli.listening import Place
from cli.up import _api_program
from store import failpoints
from store.errors import DatabaseUnavailable
from store.failpoints import NAMES, Armed, reach
from tests.running import eventually
from worker.devices import CPU
from worker.settings import Settings
from worker.supervisor import Supervisor

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("api", "cli", "dashboard", "models", "store", "worker")


def called() -> list[str]:
    """The name of every point that the program comes by."""
    files = [file for package in PACKAGES for file in (REPOSITORY / package).rglob("*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    calls = [node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "reach"]
    return [str(call.args[0].value) for call in calls if isinstance(call.args[0], ast.Constant)]


def test_every_named_point_is_at_one_place_of_the_program_and_no_other_is() -> None:
    assert sorted(called()) == sorted(NAMES)


def test_without_the_variable_a_point_is_a_function_that_does_nothing() -> None:
    assert failpoints.FOLDER == ""
    assert reach.__code__.co_names == ()  # it reads nothing and calls nothing
    reach("no such point")


def test_with_the_variable_a_process_dies_where_it_is_told_and_leaves_a_note(tmp_path: Path) -> None:
    (tmp_path / "claim.after").write_text("after 2 kill")
    program = "from store.failpoints import reach\nfor n in range(5): print(n, flush=True); reach('claim.after')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PIXMILL_FAILPOINTS": str(tmp_path)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (-9, ["0", "1", "2"])
    name, action, _pid, _time = (tmp_path / "fired.log").read_text().split()
    assert (name, action) == ("claim.after", "kill")
    assert not (tmp_path / "claim.after").exists()


def test_a_point_fires_once_and_says_so(tmp_path: Path) -> None:
    armed = Armed(tmp_path)
    armed.reach("commit.after")
    (tmp_path / "commit.after").write_text("raise")
    with pytest.raises(DatabaseUnavailable, match=r"commit\.after"):
        armed.reach("commit.after")
    armed.reach("commit.after")
    assert len((tmp_path / "fired.log").read_text().splitlines()) == 1


def test_a_process_holds_at_a_point_until_it_may_go_on(tmp_path: Path) -> None:
    (tmp_path / "slice.before").write_text("hold")
    program = "from store.failpoints import reach; reach('slice.before'); print('on')"
    command = [sys.executable, "-c", program]
    environment = {"PIXMILL_FAILPOINTS": str(tmp_path)}
    with subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        log = tmp_path / "fired.log"
        eventually(lambda: log.exists() and log.read_text().endswith("\n"), what="the point")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        (tmp_path / f"{process.pid}.go").touch()
        assert process.communicate(timeout=20)[0] == "on\n"
    assert not list(tmp_path.glob("*.go"))


def test_a_point_that_nobody_knows_or_a_deed_that_nobody_can_do_is_an_error(tmp_path: Path) -> None:
    armed = Armed(tmp_path)
    with pytest.raises(ValueError, match="expected one of claim"):
        armed.reach("claim.never")
    (tmp_path / "claim.after").write_text("explode")
    with pytest.raises(ValueError, match="expected kill"):
        armed.reach("claim.after")


def test_workers_and_the_api_pass_the_variable_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the trainer gets is seen in tests/chaos/test_training_failpoints.py: it has to die there."""
    monkeypatch.setenv("PIXMILL_FAILPOINTS", str(tmp_path))
    settings = Settings(home=tmp_path)
    worker = Supervisor(settings, [CPU])._worker(CPU, "classify")
    api = _api_program(settings, "127.0.0.1", Place("127.0.0.1", 8420, (tmp_path,)))
    for program in (worker, api):
        assert program.environment is not None
        assert program.environment["PIXMILL_FAILPOINTS"] == str(tmp_path)
