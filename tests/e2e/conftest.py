"""A home for each test, and the check that nothing is left running in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import ready_home
from tests.running import Home, eventually, fake_model


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
