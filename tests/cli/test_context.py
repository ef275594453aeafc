"""What is refused before anything starts."""

import shutil
from pathlib import Path

import pytest

from cli.context import make_home
from cli.errors import CommandError, Exit
from worker.settings import Settings


def test_a_full_disk_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5 << 20))
    with pytest.raises(CommandError, match="Only 5 MB are free"):
        make_home(Settings(home=tmp_path / "home"))


def test_a_home_below_a_file_is_not_allowed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="PIXMILL_HOME") as caught:
        make_home(Settings(home=tmp_path / "file" / "home"))
    assert caught.value.code is Exit.NOT_ALLOWED


def test_many_commands_may_start_at_once(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: make_home(Settings(home=tmp_path / "home")), range(100)))
