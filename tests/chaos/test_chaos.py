"""The dose of chaos that every change gets: real servers, the real program, random faults, nothing lost or doubled."""

import os
import secrets
import sys
from pathlib import Path

import pytest

from tests.chaos.dose import Dose, run_dose
from tests.chaos.world import Kind, Plan

FAULTS = int(os.environ.get("PIXMILL_CHAOS_FAULTS", "26"))  # for each database and seed; ./do chaos has the large dose
SEEDS: dict[Kind, int] = {"sqlite": 71, "postgresql": 72}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", SEEDS)
def test_nothing_is_lost_or_doubled_whatever_breaks(kind: Kind, tmp_path: Path) -> None:
    own = int(os.environ.get("PIXMILL_CHAOS_SEED", secrets.randbelow(1_000_000)))
    report = run_dose(tmp_path, Plan(kind, own, images=2000), Dose((SEEDS[kind], own), FAULTS, every_s=0.35))
    sys.stdout.write(f"PIXMILL_CHAOS_SEED={own} repeats the second half\n{report}\n")
    assert report.is_clean, str(report)
    assert len(report.happened) >= 2 * FAULTS
    assert report.figures["rows"] > 0
    assert report.verdict.counts.keys() >= {"lost", "duplicated", "unexpected", "wrong", "mixed", "stuck", "leases"}
