"""What a chaos run judges beside the database: each finding is there where its damage is planted, and not else."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos.dose import _odd_ends, _odd_versions
from tests.chaos.samples import HOUR_S, Sample, Samples


def world(folder: Path, *ends: tuple[int, int]) -> Any:
    """As much of a world as is looked at: one supervisor's ends, one finished training."""
    home = SimpleNamespace(path=folder)
    crews = SimpleNamespace(all=[SimpleNamespace(ends=list(ends))])
    return SimpleNamespace(failpoints=folder, crews=crews, home=home, rows=lambda _: [{"name": "fruit"}])


@pytest.mark.parametrize(("megabytes", "files", "found"), [(0, 0, 0), (200, 0, 1), (0, 100, 1)])
def test_a_kind_of_process_that_grows_is_told(tmp_path: Path, megabytes: int, files: int, found: int) -> None:
    samples = Samples(world(tmp_path))
    samples.all = [
        Sample("child", 7, at, at + 1, int(1e8 + 1e6 * megabytes * at / HOUR_S), 20 + int(files * at / HOUR_S))
        for at in range(0, 3600, 5)
    ]
    assert len(samples.grown()) == found


def test_a_supervisor_that_ends_by_itself_is_told_unless_a_failpoint_did_it(tmp_path: Path) -> None:
    (tmp_path / "fired.log").write_text("sweep.before exit 1 11 1700000000.0\n")
    assert _odd_ends(world(tmp_path, (1, 0), (2, -signal.SIGKILL), (11, 1))) == []
    assert _odd_ends(world(tmp_path, (12, 1))) == ["a supervisor ended by itself with status 1"]


def test_a_second_version_of_a_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "models" / "fruit" / "1").mkdir(parents=True)
    assert _odd_versions(world(tmp_path)) == []
    (tmp_path / "models" / "fruit" / "2").mkdir()
    assert _odd_versions(world(tmp_path)) == ["the model fruit has the versions ['1', '2']"]
