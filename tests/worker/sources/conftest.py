"""A folder that any user can reach, for tests of what a user may not read."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A new folder outside of pytest's own, which only its owner may enter."""
    folder = Path(tempfile.mkdtemp(prefix="pixmill-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
