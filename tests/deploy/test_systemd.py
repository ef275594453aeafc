"""The systemd units: the same command as in Compose, with as few rights."""

import re
from pathlib import Path

import pytest

from tests.deploy.compose import read_compose, workers

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


def settings(unit: Path) -> dict[str, str]:
    """Key and value of every line; systemd's own format lets a key stand twice, ours does not."""
    lines = [line for line in unit.read_text(encoding="utf-8").splitlines() if line and line[0] not in "#["]
    pairs = dict(line.split("=", maxsplit=1) for line in lines)
    assert len(pairs) == len(lines), f"{unit.name}: a key stands twice"
    return pairs


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_runs_without_rights(unit: Path) -> None:
    said = settings(unit)
    assert said["User"] == "pixmill"
    assert said["NoNewPrivileges"] == "yes"
    assert said["CapabilityBoundingSet"] == ""
    assert said["ProtectSystem"] == "strict"


def test_the_worker_unit_runs_what_compose_runs() -> None:
    said = settings(ROOT / "deploy" / "systemd" / "pixmill-worker@.service")
    program, *words = said["ExecStart"].split()
    assert program.endswith("/bin/pixmill")
    for service in workers(read_compose()).values():
        assert words[:-1] == service["command"][:-1]
        assert said["TimeoutStopSec"] == service["stop_grace_period"].removesuffix("s")
    assert words[-1] == "%i"


def test_the_units_settings_are_those_of_compose() -> None:
    text = (ROOT / "deploy" / "systemd" / "environment.example").read_text(encoding="utf-8")
    names = set(re.findall(r"^(\w+)=", text, flags=re.MULTILINE))
    for service in workers(read_compose()).values():
        assert names == {*service["environment"], "PIXMILL_ROOTS"}


def test_the_api_unit_runs_what_compose_runs_on_loopback_only() -> None:
    said = settings(ROOT / "deploy" / "systemd" / "pixmill-api.service")
    service = read_compose()["services"]["api"]
    program, *words = said["ExecStart"].split()
    assert program.endswith("/bin/pixmill")
    assert words == service["command"][:1] == ["api"]  # no --host: on loopback, which is what Compose publishes on
    assert said["TimeoutStopSec"] == service["stop_grace_period"].removesuffix("s")
    assert said["WorkingDirectory"] == "/var/lib/pixmill"
