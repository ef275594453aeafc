"""`./do chaos`: random faults over the real program on real servers, and an oracle that counts what may not be.

Every round is a new world. The seed sets the dice for the faults; what they fall on is also the machine's.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos.dose import Dose, run_dose
from tests.chaos.pace import quantile
from tests.chaos.report import Report
from tests.chaos.world import Kind, Plan

END_S = 25.0  # of a round's time for what comes after its last fault
BOTH: tuple[Kind, ...] = ("sqlite", "postgresql")


def main() -> int:
    """Run rounds until the dose is given; exit status 1 where anything was found."""
    chosen = _arguments()
    kinds = BOTH if chosen.database == "both" else (chosen.database,)
    seed = chosen.seed if chosen.seed is not None else secrets.randbelow(1_000_000)
    _say(f"seed {seed}")
    begun, rounds = time.monotonic(), -(-chosen.faults // chosen.round)
    reports: list[Report] = []
    left = chosen.faults
    while chosen.minutes or left > 0:
        kind = kinds[len(reports) % len(kinds)]
        faults = min(left, chosen.round) if not chosen.minutes else 0
        seconds = chosen.minutes * 60 / len(kinds)
        until = begun + chosen.within * (len(reports) + 1) / rounds - END_S if chosen.within else float("inf")
        dose = Dose((seed + len(reports),), faults, seconds, chosen.every, until)
        reports.append(_round(kind, dose, chosen))
        left -= faults
        _say(str(reports[-1]))
        if (chosen.minutes and len(reports) == len(kinds)) or (chosen.stop and not reports[-1].is_clean):
            break
    _say(_sum(reports))
    given, took = sum(len(report.happened) for report in reports), time.monotonic() - begun
    _say(f"{given} faults in {took:.0f} s in all")
    is_in_time = not chosen.within or (given >= chosen.faults and took <= chosen.within)
    if not is_in_time:
        _say(f"expected {chosen.faults} faults, and their verdict, within {chosen.within:.0f} s")
    return 0 if is_in_time and all(report.is_clean for report in reports) else 1


def _round(kind: Kind, dose: Dose, chosen: argparse.Namespace) -> Report:
    queues = "classify,train" if chosen.trainings else "classify"
    plan = Plan(
        kind,
        dose.seeds[0],
        chosen.images,
        queues=queues,
        trainings=chosen.trainings,
        hurry=10 if dose.every_s < 5 else 1,
    )
    if chosen.keep is not None:
        return run_dose(chosen.keep / f"{kind}-{dose.seeds[0]}", plan, dose, _say)
    with tempfile.TemporaryDirectory(prefix="pixmill-chaos-", ignore_cleanup_errors=True) as folder:
        return run_dose(Path(folder) / "world", plan, dose, _say)


def _sum(reports: list[Report]) -> str:
    """All rounds in a few lines."""
    faults = Counter(one.name for report in reports for one in report.happened)
    found: Counter[str] = Counter()
    for report in reports:
        found.update(report.verdict.counts)
    recoveries = [seconds for report in reports for _, seconds in report.recoveries]
    rows = sum(int(report.figures.get("rows", 0)) for report in reports)
    unclean = [report.seeds for report in reports if not report.is_clean]
    fired: Counter[str] = Counter()
    for report in reports:
        fired.update(report.failpoints)
    return "\n".join(
        [
            f"══ {len(reports)} rounds, {sum(faults.values())} faults of {len(faults)} kinds, {rows:,} rows",
            ", ".join(f"{name} {n}" for name, n in sorted(faults.items())),
            f"failpoints: {', '.join(f'{name} {n}' for name, n in sorted(fired.items())) or 'none'}",
            f"recovery p50 {quantile(recoveries, 0.5):.2f} s, p99 {quantile(recoveries, 0.99):.2f} s",
            "found: " + ", ".join(f"{name} {n}" for name, n in found.items()),
            f"seeds that were not clean: {unclean}" if unclean else "every round was clean",
        ]
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./do chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=100, help="how many, over all rounds")
    parser.add_argument("--seed", type=int, help="of the first round; the others follow on it. Random unless given")
    parser.add_argument("--database", choices=[*BOTH, "both"], default="both")
    parser.add_argument("--minutes", type=float, default=0, help="instead of a number: so long, in all")
    parser.add_argument("--within", type=float, default=0, help="seconds for all; no fault comes later, fewer fail")
    parser.add_argument("--every", type=float, default=0.4, help="seconds between two faults, on average")
    parser.add_argument("--trainings", action="store_true", help="train models beside it, in workers of their own")
    parser.add_argument("--round", type=int, default=250, help="faults in one world")
    parser.add_argument("--images", type=int, default=4000, help="pictures in a folder that is submitted")
    parser.add_argument("--keep", type=Path, help="a folder in which every world is left to look at: logs, SQLite file")
    parser.add_argument("--stop", action="store_true", help="end after the first round that is not clean")
    return parser.parse_args()


def _say(words: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {words}\n")


if __name__ == "__main__":
    sys.exit(main())
