"""Homes with the real engines, and pictures to train on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import ready_home
from tests.running import Home, eventually
from tests.trainings import write_dataset


def training_home(folder: Path) -> Iterator[Home]:
    """An empty home with real engines; nothing may be left running in it."""
    home = Home(folder, {"PIXMILL_LEASE_S": "6"})
    ready_home(home.path)
    yield home
    eventually(lambda: not home.processes(), 20, "the end of every process of this home")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home for one test."""
    yield from training_home(tmp_path / "home")


@pytest.fixture(scope="module")
def common_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home that the tests of a file share: a training costs some ten seconds."""
    yield from training_home(tmp_path_factory.mktemp("common") / "home")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of noisy pictures, a part of them for tests."""
    return write_dataset(tmp_path_factory.mktemp("data") / "fruit")
