import os
import time
from pathlib import Path

import pytest

from models.children import Child, bare_environment
from models.errors import HubUnreachable, InvalidModel


def child(folder: Path, timeout_s: float = 60.0) -> Child:
    return Child("tests.models.odd_child", folder, bare_environment(folder), timeout_s)


def test_a_child_answers_and_tells_its_progress_whatever_libraries_print(tmp_path: Path) -> None:
    told: list[str] = []
    answer = child(tmp_path).ask({"do": "answer"}, told.append)
    assert told == ["half", "done"]
    assert answer["folder"] == str(tmp_path)


def test_a_child_in_a_bare_environment_sees_no_secret_and_keeps_out_of_our_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXMILL_DATABASE_URL", "postgresql://user:password@host/db")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    environment = child(tmp_path).ask({"do": "answer"})["environment"]
    assert "password" not in str(environment)
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["HOME"] == environment["TMPDIR"] == str(tmp_path)
    assert environment["CUDA_VISIBLE_DEVICES"] == "-1"


def test_a_models_error_in_the_child_is_raised_here_as_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(HubUnreachable, match="no way there"):
        child(tmp_path).ask({"do": "refuse"})


def test_a_child_that_dies_leaves_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"(?s)status 1 without an answer.*ZeroDivisionError: of all things"):
        child(tmp_path).ask({"do": "fail"})
    with pytest.raises(InvalidModel, match="status 3 without an answer"):
        child(tmp_path).ask({"do": "vanish"})


def test_a_child_that_babbles_is_no_child_to_listen_to(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="Expected a JSON message from the child process; got 'babble"):
        child(tmp_path).ask({"do": "babble"})


def test_nothing_that_the_child_has_started_outlives_its_answer(tmp_path: Path) -> None:
    grandchild = child(tmp_path).ask({"do": "fork"})["pid"]
    for _ in range(1000):  # it is init's to bury, and until then has a number
        if not Path(f"/proc/{grandchild}").exists() or "Z" in Path(f"/proc/{grandchild}/stat").read_text().split()[2]:
            return
        time.sleep(0.01)
    pytest.fail("the grandchild is still there")


def test_a_child_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    told: list[str] = []
    with pytest.raises(InvalidModel, match=r"ended by SIGKILL without an answer \(it has 3 s\)"):
        child(tmp_path, timeout_s=3.0).ask({"do": "sleep"}, told.append)
    with pytest.raises(ProcessLookupError):
        os.kill(int(told[0]), 0)


def test_a_child_dies_with_what_its_caller_raises(tmp_path: Path) -> None:
    def interrupt(pid: str) -> None:
        told.append(pid)
        raise KeyboardInterrupt

    told: list[str] = []
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        child(tmp_path).ask({"do": "sleep"}, interrupt)
    assert time.monotonic() - started < 60
    with pytest.raises(ProcessLookupError):
        os.kill(int(told[0]), 0)
