"""Mutants as real jobs: `pixmill up` with one worker, `pixmill classify` on folders of them, and the rows counted.

The stand-in engine predicts: what is asked about is all that comes before and after, from finding to committing.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psutil

from tests.chaos.mutant_front import MOST_GROWTH_KIB, MOST_OF_SHORT_KIB, growth_kib, memory_words
from tests.chaos.originals import originals
from tests.chaos.series import Mutants, shared_folder
from tests.killing import is_worker
from tests.running import Home, eventually, fake_model
from tests.serving import Served, serving
from worker.failures import ITEM_CODES

JOB_S = 1800.0
IN_ONE_JOB = 2000  # mutants; memory is looked at between two jobs, and is 20 MiB more or less after each
TELLING = 50_000  # images: from there on the lowest of twelve jobs lie far enough apart
POLL_S = 1.0
TERMINAL = ("done", "done_with_errors", "failed", "cancelled")
KNOWN = {code.code for code in ITEM_CODES}


@dataclass
class Jobs:
    """What came of a run of jobs."""

    seed: int
    files: int = 0
    rows: int = 0
    seconds: float = 0.0
    codes: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)  # outcomes
    restarts: int = 0
    # Between two commits of a running job, looked at once a second. Several images are read at once: while one takes
    # long, others may be committed. One that takes longer than it may shows as a code, or as a restart.
    longest_gap_s: float = 0.0
    memory: list[tuple[int, int]] = field(default_factory=list)  # rows so far, the workers' resident KiB
    resting: list[tuple[int, int]] = field(default_factory=list)  # the same after each job, when nothing is in hand
    odd: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether each file has its row and no worker had to be started again."""
        return self.rows == self.files and not self.restarts and not self.odd and set(self.attempts) <= {"done"}

    def growth_kib(self) -> float:
        """KiB of memory at rest that 1,000 more images cost."""
        return growth_kib(self.resting)

    @property
    def grows(self) -> bool:
        """Whether they cost more than a run of that length may find."""
        return self.growth_kib() >= (MOST_GROWTH_KIB if self.files >= TELLING else MOST_OF_SHORT_KIB)

    def report(self) -> str:
        """The figures, for a person."""
        codes = ", ".join(f"{code} {count:,}" for code, count in self.codes.most_common())
        attempts = ", ".join(f"{outcome} {count:,}" for outcome, count in self.attempts.most_common())
        lines = [
            f"jobs: {self.files:,} files of seed {self.seed}, {self.rows:,} rows in {self.seconds:,.0f} s",
            f"  rows: {codes}",
            f"  attempts: {attempts}; worker restarts: {self.restarts}",
            f"  longest time without a commit: {self.longest_gap_s:.1f} s",
            f"  memory at work: {memory_words(self.memory)}",
            f"  memory at rest: {memory_words(self.resting)}; {self.growth_kib():+,.1f} KiB per 1,000 images",
            *(f"  {what}" for what in self.odd[:20]),
        ]
        return "\n".join(lines)


def run_jobs(
    seed: int, numbers: range, in_one_job: int = IN_ONE_JOB, *, tell: Callable[[str], object] = lambda _: None
) -> Jobs:
    """Classify these mutants, a folder after the other, with one worker that goes on from each to the next."""
    jobs, begun = Jobs(seed), time.monotonic()
    mutants = Mutants(seed, originals(shared_folder()))
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        home = Home(Path(place) / "home")
        home.path.mkdir()
        fake_model(home.path)
        with serving(home, [Path(place)], workers=1) as served:
            eventually(lambda: bool(_workers(served.home)), 120, "the worker's start")
            workers = _workers(served.home)
            for first in range(0, len(numbers), in_one_job):
                folder = _write(mutants, numbers[first : first + in_one_job], Path(place) / f"from_{first}")
                _classify(jobs, served, folder)
                shutil.rmtree(folder)
                tell(f"{jobs.resting[-1][0]:,} rows of {jobs.files:,} files, {jobs.resting[-1][1] / 1024:,.0f} MiB\n")
            _conclude(jobs, served.home, workers)
    jobs.seconds = time.monotonic() - begun
    return jobs


def _write(mutants: Mutants, numbers: Sequence[int], folder: Path) -> Path:
    folder.mkdir()
    for number in numbers:
        mutant = mutants[number]
        (folder / mutant.name).write_bytes(mutant.data)
    return folder


def _classify(jobs: Jobs, served: Served, folder: Path) -> None:
    """One job to its end; memory and progress are looked at meanwhile."""
    home = served.home
    files = sum(1 for _ in folder.iterdir())
    [job] = home.json("classify", folder, "--model", "fake", "--no-reuse", "--detach", "--json", env=served.env())
    progress = [(time.monotonic(), -1)]
    while True:
        [state] = home.sql(f"SELECT state, (SELECT COUNT(*) FROM results) AS n FROM jobs WHERE id = {int(job['id'])}")
        if state["n"] != progress[-1][1]:
            progress.append((time.monotonic(), state["n"]))
            jobs.memory.append((state["n"], _resident_kib(home)))
        if state["state"] in TERMINAL:
            break
        if time.monotonic() - progress[0][0] > JOB_S:
            jobs.odd.append(f"{folder.name} did not end within {JOB_S:g} s")
            break
        time.sleep(POLL_S)
    jobs.resting.append((state["n"], _resident_kib(home)))
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(progress)]
    jobs.longest_gap_s = max([jobs.longest_gap_s, *gaps[1:]])
    jobs.files += files
    if state["state"] not in ("done", "done_with_errors"):
        jobs.odd.append(f"{folder.name} ended {state['state']}")


def _conclude(jobs: Jobs, home: Home, workers: set[tuple[str, int, float]]) -> None:
    jobs.rows = home.sql("SELECT COUNT(*) AS n FROM results")[0]["n"]
    counted = home.sql("SELECT COALESCE(error_code, 'ok') AS code, COUNT(*) AS n FROM results GROUP BY 1")
    jobs.codes = Counter({row["code"]: row["n"] for row in counted})
    ended = home.sql("SELECT COALESCE(outcome, 'running') AS outcome, COUNT(*) AS n FROM attempts GROUP BY 1")
    jobs.attempts = Counter({row["outcome"]: row["n"] for row in ended})
    jobs.restarts = len(_workers(home) - workers)
    jobs.odd += [f"{code!r} is no code of an item" for code in jobs.codes if code not in KNOWN | {"ok"}]
    words = home.sql("SELECT error FROM results WHERE error LIKE '%Traceback%' OR LENGTH(error) > 600 LIMIT 3")
    jobs.odd += [f"no message for a person: {row['error'][:200]!r}" for row in words]


def _workers(home: Home) -> set[tuple[str, int, float]]:
    """Every worker that signed in, as what changes when it is started again."""
    return {(row["id"], row["pid"], row["started_at"]) for row in home.sql("SELECT id, pid, started_at FROM workers")}


def _resident_kib(home: Home) -> int:
    """Of all worker processes together."""
    total = 0
    for process in home.processes():
        with suppress(psutil.Error):
            total += process.memory_info().rss if is_worker(process) else 0
    return total // 1024
