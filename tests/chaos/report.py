"""What a run prints: its seed, the faults by kind, how it recovered, what was wasted, and the oracle's verdict."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from store.counters import FENCED_COMMITS, LEASE_EXPIRIES
from store.failpoints import NAMES
from tests.chaos.history import fired
from tests.chaos.oracle import Verdict
from tests.chaos.pace import Pace, quantile
from tests.chaos.world import World, wrong_clock


@dataclass
class Happened:
    """One fault that befell the world. `at`: monotonic; `wall`: since 1970."""

    name: str
    at: float
    wall: float


@dataclass
class Report:
    """Everything known of one run over one world."""

    seeds: tuple[int, ...]
    kind: str
    happened: list[Happened] = field(default_factory=list)
    missed: Counter[str] = field(default_factory=Counter)
    harness: list[str] = field(default_factory=list)  # what went wrong with the harness itself
    wrong: list[str] = field(default_factory=list)  # what the oracle cannot read from the database
    seconds: float = 0.0
    drain_s: float = 0.0
    whole_s: float = 0.0  # from the start of the world to the verdict
    figures: dict[str, int | float] = field(default_factory=dict)
    recoveries: list[tuple[str, float]] = field(default_factory=list)
    rescues: list[float] = field(default_factory=list)
    failpoints: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    samples: str = ""
    clock: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong: neither the database, nor the processes, nor the harness."""
        return self.verdict.is_clean and not self.wrong and not self.harness

    def measure(self, world: World, pace: Pace) -> None:
        """Take the figures from the database and from the pace. Raises StoreError."""
        measured = ((one.name, pace.recovery(one.at)) for one in self.happened)
        self.recoveries = [(name, seconds) for name, seconds in measured if seconds is not None]
        self.rescues = list(_rescues(world, sorted(one.wall for one in self.happened)))
        count, counter = world.number, "SELECT SUM(n) FROM counters WHERE name = '{}'"
        worked = "SELECT COUNT(*) FROM shards WHERE state = 'done' AND attempt > 0"
        self.figures = {
            "jobs": count("SELECT COUNT(*) FROM jobs"),
            "rows": count("SELECT COUNT(*) FROM results"),
            "shards": count(worked),
            "executions": count("SELECT COUNT(*) FROM attempts"),
            "lost leases": count("SELECT COUNT(*) FROM attempts WHERE outcome = 'lost'"),
            "expiries": count(counter.format(LEASE_EXPIRIES)),
            "fenced commits": count(counter.format(FENCED_COMMITS)),
            "splits": count("SELECT COUNT(*) FROM shards WHERE state = 'split'"),
            "supervisor starts": sum(crew.starts for crew in world.crews.all),
        }
        self.failpoints = Counter(one.name for one in fired(world.failpoints))
        self.refused = world.refused
        self.clock = "the clock of {} is wrong by {:+,} s".format(*wrong_clock(world.plan))

    def __str__(self) -> str:
        shards, executions = self.figures.get("shards", 0), self.figures.get("executions", 0)
        wasted = f"{executions / shards - 1:.1%}" if shards else "no shard"
        seeds = " and ".join(map(str, self.seeds))
        rate = len(self.happened) / self.seconds if self.seconds else 0.0
        lines = [
            f"── chaos on {self.kind}, seed {seeds}: {'clean' if self.is_clean else 'NOT CLEAN'}",
            f"{len(self.happened)} faults in {self.seconds:.0f} s ({rate:.1f}/s), then {self.drain_s:.1f} s to the end",
            f"{self.whole_s:.0f} s from the start of the world to the verdict",
            self._kinds(),
            self.clock,
            self._recovery(),
            f"lost attempts, the fault in them to the next attempt at the shard: {_words(self.rescues)}",
            f"wasted work (executions / shards - 1): {wasted}",
            ", ".join(f"{name} {value}" for name, value in self.figures.items()),
            f"failpoints fired: {sum(self.failpoints.values())} at {len(self.failpoints)} of {len(NAMES)} places",
            f"submissions refused: {len(self.refused)}" + "".join(f"\n  {text!r}" for text in self.refused[:3]),
            *([self.samples] if self.samples else []),
            f"oracle: {self.verdict}",
            *(f"wrong: {text}" for text in self.wrong),
            *(f"harness: {text}" for text in self.harness),
        ]
        return "\n".join(lines)

    def _kinds(self) -> str:
        counted = Counter(one.name for one in self.happened)
        kinds = ", ".join(f"{name} {n}" for name, n in sorted(counted.items()))
        missed = ", ".join(f"{name} {n}" for name, n in sorted(self.missed.items())) or "none"
        return f"{len(counted)} kinds: {kinds}\nmet nothing, and do not count: {missed}"

    def _recovery(self) -> str:
        by_kind: defaultdict[str, list[float]] = defaultdict(list)
        for name, seconds in self.recoveries:
            by_kind[name].append(seconds)
        every = [seconds for _, seconds in self.recoveries]
        worst = sorted(by_kind, key=lambda name: -max(by_kind[name]))[:5]
        slowest = ", ".join(f"{name} {max(by_kind[name]):.1f} s" for name in worst)
        return f"recovery, fault to next committed row of any worker: {_words(every)} ({slowest})"


def _rescues(world: World, faults: list[float]) -> Iterator[float]:
    """For each attempt that was lost, and tried again: seconds from the last fault in its time to the next attempt."""
    lost = """SELECT a.started_at, a.ended_at, (SELECT MIN(b.started_at) FROM attempts b WHERE b.shard_id = a.shard_id
        AND b.started_at > a.started_at) AS again FROM attempts a WHERE a.outcome = 'lost'"""
    for row in world.rows(lost):
        last = bisect_right(faults, row["ended_at"]) - 1
        if row["again"] is not None and last >= 0 and faults[last] >= row["started_at"]:
            yield row["again"] - faults[last]


def _words(seconds: list[float]) -> str:
    quantiles = f"p50 {quantile(seconds, 0.5):.2f} s, p99 {quantile(seconds, 0.99):.2f} s"
    return f"{quantiles}, longest {max(seconds, default=0):.1f} s of {len(seconds)}"
