"""The benchmark of submissions says which bar is missed, and ends so that a script sees it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from bench import submit

HELD = {
    "manifest_of_100": {"p95_ms": 29.9, "max_ms": 400.0},
    "manifest_of_100_broker_frozen": {"p95_ms": 80.0, "max_ms": 999.0},
    "folder": {"files": 9, "other_requests": {"p95_ms": 5.0, "max_ms": 199.0}},
}
MISSED = {
    "manifest_of_100": (("manifest_of_100", "p95_ms"), 30.0),
    "manifest_of_100_broker_frozen": (("manifest_of_100_broker_frozen", "max_ms"), 1000.0),
    "other_requests": (("folder", "other_requests", "max_ms"), 200.0),
}


@pytest.mark.parametrize("name", [None, *MISSED])
def test_a_missed_bar_is_named_and_ends_with_1(
    name: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found: dict[str, Any] = copy.deepcopy(HELD)
    if name is not None:
        (*path, last), value = MISSED[name]
        inner = found
        for part in path:
            inner = inner[part]
        inner[last] = value
    monkeypatch.setattr(submit, "measure", lambda *_: found)
    assert submit.main(["--json", str(tmp_path / "found.json")]) == (0 if name is None else 1)
    assert [line.partition(":")[0] for line in submit.misses(found)] == ([] if name is None else [name])


def test_the_figures_of_a_run_are_judged(tmp_path: Path) -> None:
    found = submit.measure(tmp_path, None, 50, 3)
    assert {line.partition(":")[0] for line in submit.misses(found)} <= set(MISSED)
    assert found["folder"]["other_requests"]["n"] > 0
