"""A million results read over HTTP by eight readers while a job is being written: every listing, facet and first page.

usage: ./do bench queries [sqlite|postgresql] [ROWS] [SECONDS]
Starts the real server, makes the job (bench.million), lets a process of its own commit slices into another job, and
asks each question from eight threads at once. Prints p50 and p95 of each, how much the memory of the server, and of the
child that writes Parquet, grew during full exports, and the load of the machine. The bars: p95 < 100 ms, less than
50 MB; where one is missed it ends with 1.
"""

from __future__ import annotations

import http.client
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil

from bench.million import make
from bench.speed import watching_speed
from store import jobs
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.rows import Lease, NewItem, NewJob, NewResult
from tests.mixed_results import add_runs
from tests.running import Home
from tests.servers import new_postgres_database, postgres_server
from tests.serving import Served, serving

READERS = 8
BAR_MS = 100.0
BAR_MB = 50.0
SLICE = 256  # rows of a commit, as a worker makes it
FILTERS = {
    "": "all",
    "label=label_1": "frequent label",
    "label=label_900": "rare label",
    "status=failed": "failed",
    "status=ok": "classified",
    "error_code=truncated": "code",
    "error_code=too_large": "rare code",
    "wrong=true": "wrong",
    "wrong=false": "right",
    "min_score=0.2&max_score=0.3": "scores",
    "min_score=0.5&max_score=0.505": "few scores",
    "true_label=label_3": "true label",
    "path_prefix=folder_0123/": "folder",
    "glob=*77.jpg": "glob",
    "glob=folder_02*9.jpg": "glob in folders",
    "corrected=true": "corrected",
    "corrected=false": "not corrected",
    "correction=label_1": "correction",
    "label=label_0&wrong=true": "label, wrong",
    "label=label_5&min_score=0.9": "label, scores",
    "true_label=label_3&wrong=true": "true label, wrong",
    "path_prefix=folder_0123/&label=label_0": "folder, label",
    "status=failed&path_prefix=folder_03": "failed, folders",
}
MEASURED = ("evaluation", "classes", "confusion", "calibration", "mistakes")
ORDERS = ("item", "least_sure", "most_sure", "most_wrong", "newest")


def questions(job: int) -> dict[str, str]:
    """Every question by its name."""
    base = f"/api/v1/jobs/{job}"
    asked = {
        f"{order}: {name}": f"{base}/results?order={order}&{text}" for order in ORDERS for text, name in FILTERS.items()
    }
    asked |= {f"facets: {name}": f"{base}/facets?{text}" for text, name in FILTERS.items()}
    asked |= {"items": f"{base}/items", "items of a folder": f"{base}/items?path_prefix=folder_0123/"}
    asked |= {"items of a label": f"{base}/items?true_label=label_3", "item": f"{base}/items/777777"}
    asked |= {"jobs": "/api/v1/jobs", "job": base, "summary": f"{base}/summary"}
    asked |= {"across: label": "/api/v1/results?label=label_1", "across: model": "/api/v1/results?model=birds@1"}
    for run, name in enumerate(("run", "other run"), 1):
        asked |= {f"{name}: {what}": f"/api/v1/runs/{run}/{what}" for what in MEASURED}
        asked[f"{name}: confusion, 1000"] = f"/api/v1/runs/{run}/confusion?limit=1000"
    asked |= {"evaluation": f"{base}/evaluation", "compare": "/api/v1/runs/compare?a=1&b=2"}
    return {name: quote(path, safe="/?=&:@") for name, path in asked.items()}


def measure_first(served: Served, asked: dict[str, str]) -> None:
    """Ask for what looks at a million rows once, and say how long that took."""
    for name in ("evaluation", "compare"):
        before = time.perf_counter()
        answer = served.client.get(asked[name], timeout=600)
        assert answer.status_code == 200, answer.text[:300]
        took = time.perf_counter() - before
        print(f"the first {name}: {took:.1f} s, {len(answer.content) / 2**20:.1f} MB")


class Reader(threading.Thread):
    """One client: asks all questions, then all again in another order, until time is over.

    Readers in one fixed order keep step with each other: a question then meets the same seven others each time, and
    its figure is theirs as much as its own.
    """

    def __init__(self, served: Served, asked: dict[str, str], number: int, until: float) -> None:
        super().__init__()
        self.served, self.until = served, until
        self.asked, self.chance = sorted(asked.items()), random.Random(number)
        self.took: dict[str, list[float]] = defaultdict(list)
        self.refused = ""  # what it was told in place of an answer

    def run(self) -> None:
        connection = http.client.HTTPConnection(urlsplit(self.served.url).netloc)
        headers = {"Authorization": f"Bearer {self.served.token}"}
        while True:
            self.chance.shuffle(self.asked)
            for name, path in self.asked:
                before = time.perf_counter()
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
                body = answer.read()
                self.took[name].append((time.perf_counter() - before) * 1000)
                if answer.status != 200:
                    self.refused = f"{path}: {answer.status} {body[:300]!r}"
                if self.refused or time.monotonic() >= self.until:
                    connection.close()
                    return


def write(url: str) -> None:
    """Accept a job and commit its results slice by slice, as workers do, until this process is ended."""
    database = Database(url)
    while True:
        jobs.accept(database, NewJob(1, root=b"/more"), (NewItem(b"%d.jpg" % n, label="a") for n in range(50_000)))
        while lease := claim(database, Claimer("bench")):
            for lo in range(lease.lo, lease.hi, SLICE):
                hi = min(lease.hi, lo + SLICE)
                commit_slice(database, lease, rows_of(lease, lo, hi), last=hi == lease.hi)
                time.sleep(0.1)  # 2,500 images per second: more than most workers do


def rows_of(lease: Lease, lo: int, hi: int) -> list[NewResult]:
    """Results as a worker commits them."""
    return [
        NewResult(
            n,
            "ok",
            label=f"label_{n % 50}",
            score=n % 997 / 997,
            topk="[]",
            content_hash=(lease.job_id << 64 | n).to_bytes(16, "big"),
        )
        for n in range(lo, hi)
    ]


@contextmanager
def writing(url: str) -> Iterator[None]:
    """A writer in a process of its own."""
    writer = subprocess.Popen([sys.executable, "-c", f"from bench.queries import write; write({url!r})"])
    try:
        time.sleep(3)
        assert writer.poll() is None, "the writer ended"
        yield
    finally:
        writer.kill()
        writer.wait()


def ask_all(served: Served, job: int, seconds: float) -> bool:
    """Ask from eight threads; print the table. Returns whether every p95 is below the bar."""
    asked = questions(job)
    until = time.monotonic() + seconds
    readers = [Reader(served, asked, number, until) for number in range(READERS)]
    before, at_first = os.times(), processor_time()
    with watching_speed() as speed:
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        pace = speed()
    refused = [reader.refused for reader in readers if reader.refused]
    if refused:
        raise SystemExit(f"a reader stopped at {refused[0]}")
    stolen, had = (after - before for after, before in zip(processor_time(), at_first, strict=True))
    figures = {name: sorted(ms for reader in readers for ms in reader.took[name]) for name in asked}
    print(f"{'question':34} {'asked':>6} {'p50 ms':>8} {'p95 ms':>8}")
    worst = 0.0
    for name, took in sorted(figures.items(), key=lambda pair: -percentile(pair[1])):
        p95 = percentile(took)
        worst = max(worst, p95)
        mark = "  above the bar" if p95 > BAR_MS else ""
        print(f"{name:34} {len(took):6} {statistics.median(took or [0]):8.1f} {p95:8.1f}{mark}")
    everything = sorted(ms for took in figures.values() for ms in took)
    middle, high = statistics.median(everything), percentile(everything)
    print(f"all {len(everything):,} answers: p50 {middle:.1f} ms, p95 {high:.1f} ms")
    print(f"load of the machine: {', '.join(f'{load:.1f}' for load in os.getloadavg())} on {os.cpu_count()} cores")
    print(pace)
    print(f"another guest of the host had {100 * stolen / max(1, had):.0f} % of the processors' time meanwhile")
    print(f"the readers themselves took {os.times().user - before.user:.1f} s of CPU in {seconds:.0f} s")
    return worst <= BAR_MS


def processor_time() -> tuple[int, int]:
    """Ticks that a virtual machine's processors were given to others, and all; zeros where there is no /proc."""
    try:
        ticks = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return 0, 0
    return ticks[7], sum(ticks)


def percentile(took: list[float], share: float = 0.95) -> float:
    return took[min(len(took) - 1, int(len(took) * share))] if took else 0.0


class Grown:
    """How much memory a process, and the children that it has meanwhile, took beyond what they took at first."""

    def __init__(self, process: psutil.Process) -> None:
        self._process, self._first, self._most = process, dict[int, int](), dict[int, int]()
        self.look()

    def look(self) -> None:
        """Measure now."""
        for process in (self._process, *self._process.children()):
            with suppress(psutil.NoSuchProcess):
                now = process.memory_info().rss
                self._first.setdefault(process.pid, now)
                self._most[process.pid] = max(now, self._most.get(process.pid, 0))

    @property
    def megabytes(self) -> tuple[float, float]:
        """Of the process, and of that child which grew most since its first megabyte."""
        grown = {pid: (self._most[pid] - first) / 2**20 for pid, first in self._first.items()}
        mine = grown.pop(self._process.pid)
        return mine, max(grown.values(), default=0.0)


def export_all(served: Served, job: int) -> bool:
    """Read full exports; print seconds, size and growth. Returns whether memory stayed below the bar."""
    assert served.process
    server = psutil.Process(served.process.pid)
    fine = True
    for name in ("results.csv", "results.jsonl", "results.parquet", "items.jsonl", "items.parquet"):
        before, size, memory = time.perf_counter(), 0, Grown(server)
        with served.client.stream("GET", f"/api/v1/jobs/{job}/{name}", timeout=600) as answer:
            for chunk in answer.iter_bytes(1 << 20):
                size += len(chunk)
                memory.look()
        grown, child = memory.megabytes
        fine = fine and grown < BAR_MB and child < BAR_MB
        took = time.perf_counter() - before
        said = f"the API grew {grown:.1f} MB, its child {child:.1f} MB"
        print(f"export {name}: {size / 2**20:,.0f} MB in {took:.0f} s, {said}")
    return fine


def main(kind: str, rows: int, seconds: float) -> int:
    """Make, serve, ask; 1 where a bar is missed."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pixmill-bench-")))
        url = f"sqlite:///{scratch}/home/pixmill.db"
        if kind == "postgresql":
            url = new_postgres_database(stack.enter_context(postgres_server()))
        (scratch / "home").mkdir()
        before = time.perf_counter()
        job = make(url, rows)
        add_runs(url, job)
        print(f"{kind}: {rows:,} results made in {time.perf_counter() - before:.0f} s")
        home = Home(scratch / "home", {"PIXMILL_LIMIT_REQUESTS_PER_MINUTE": "1000000"})  # eight people have one token
        served = stack.enter_context(serving(home, [scratch], database_url=url))
        measure_first(served, questions(job))
        with writing(url):
            quick = ask_all(served, job, seconds)
        flat = export_all(served, job)
        words = ("holds" if quick else "MISSES", "holds" if flat else "MISSES")
        print(f"verdict: p95 {words[0]} {BAR_MS:.0f} ms; memory {words[1]} {BAR_MB:.0f} MB")
    return 0 if quick and flat else 1


if __name__ == "__main__":
    sys.exit(
        main(
            sys.argv[1] if len(sys.argv) > 1 else "sqlite",
            int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000,
            float(sys.argv[3]) if len(sys.argv) > 3 else 60.0,
        )
    )
