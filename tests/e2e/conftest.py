"""A home for each test, and the check that nothing is left running in it."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from cli.tree import run
from tests.databases import ready_home
from tests.running import Home, eventually, fake_model

Wrong = tuple[tuple[object, ...], int, str]  # what is typed, the exit code, a part of what stderr says
Refused = Callable[[Home, Sequence[Wrong]], None]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Type wrong commands in this process, as a start of the program takes longer than its refusal, and read them."""

    def type_all(home: Home, wrong: Sequence[Wrong]) -> None:
        for name in [name for name in os.environ if name.startswith("PIXMILL_")]:
            monkeypatch.delenv(name)
        for name, value in home.env().items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(home.path)
        for arguments, code, part in wrong:
            capsys.readouterr()
            ended = run([str(argument) for argument in arguments])
            out, err = capsys.readouterr()
            assert (ended, out) == (code, ""), (arguments, out, err)
            assert part.lower() in err.lower(), (arguments, err)
            assert "Traceback" not in err, (arguments, err)

    return type_all


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """An empty home that uses the stand-in engine; nothing may be left running in it."""
    home = Home(tmp_path / "home", {"PIXMILL_ENGINE": "fake"})
    ready_home(home.path)
    yield home
    eventually(lambda: not home.processes(), 20, "the end of every process of this home")


@pytest.fixture
def fake_home(home: Home) -> Home:
    """A home with a stand-in model."""
    fake_model(home.path)
    return home
