"""The oracle: reads the database after a run and counts everything that may not be. All counts must be zero."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, text

from store.database import Database
from tests.chaos.causes import ATTEMPTS, odd_tracebacks, unexplained
from tests.chaos.pictures import Answers
from tests.chaos.tallying import wrong_counters

EXAMPLES = 3
FINISHED = "('done', 'done_with_errors')"
ENDED = "('done', 'done_with_errors', 'failed', 'cancelled')"

# Rows of these queries are faults; each says what it shows.
QUERIES = {
    # An item without a row, where its shard or its job claims to be finished.
    "lost": f"""SELECT i.job_id, i.idx FROM items i JOIN jobs j ON j.id = i.job_id
        LEFT JOIN results r ON r.job_id = i.job_id AND r.idx = i.idx
        WHERE j.kind = 'classify' AND r.idx IS NULL AND (j.state IN {FINISHED} OR EXISTS (SELECT 1 FROM shards s
            WHERE s.job_id = i.job_id AND s.lo <= i.idx AND s.hi > i.idx AND s.state = 'done'))""",
    "duplicated": "SELECT job_id, idx, COUNT(*) - 1 AS n FROM results GROUP BY job_id, idx HAVING COUNT(*) > 1",
    # A row of no item.
    "unexpected": """SELECT r.job_id, r.idx FROM results r LEFT JOIN items i ON i.job_id = r.job_id AND i.idx = r.idx
        WHERE i.idx IS NULL""",
    # A row whose token is no attempt at a shard around it.
    "strangers": """SELECT r.job_id, r.idx, r.token FROM results r LEFT JOIN attempts a ON a.token = r.token
        LEFT JOIN shards s ON s.id = a.shard_id AND s.job_id = r.job_id AND s.lo <= r.idx AND s.hi > r.idx
        WHERE s.id IS NULL""",
    # A row that was written by an attempt after a later one at the same shard had begun: the fence let it through.
    "mixed": """SELECT r.job_id, r.idx, a.n AS attempt, b.n AS later FROM results r JOIN attempts a ON a.token = r.token
        JOIN attempts b ON b.shard_id = a.shard_id AND b.token <> a.token AND b.started_at > a.started_at
        WHERE b.started_at < r.created_at""",
    # A slice whose rows have several tokens: one transaction writes for one lease.
    "torn": """SELECT s.id, r.created_at, COUNT(DISTINCT r.token) AS n FROM results r
        JOIN shards s ON s.job_id = r.job_id AND s.lo <= r.idx AND s.hi > r.idx AND s.state <> 'split'
        GROUP BY s.id, r.created_at HAVING COUNT(DISTINCT r.token) > 1""",
    "stuck": f"SELECT id, state FROM jobs WHERE state NOT IN {ENDED} AND state <> 'scanning'",
    "leases": "SELECT id, state, worker_id FROM shards WHERE state = 'leased' OR token IS NOT NULL",
    "open_attempts": "SELECT token, shard_id, worker_id FROM attempts WHERE outcome IS NULL OR ended_at IS NULL",
    # Shards that do not cover their job's items, each once.
    "uncovered": f"""SELECT j.id, j.n_items, COALESCE(SUM(s.hi - s.lo), 0) AS n FROM jobs j
        LEFT JOIN shards s ON s.job_id = j.id AND s.state <> 'split' WHERE j.state IN {ENDED} AND j.n_items > 0
        GROUP BY j.id, j.n_items HAVING COALESCE(SUM(s.hi - s.lo), 0) <> j.n_items""",
    "half_closed": f"""SELECT s.id, s.state FROM shards s JOIN jobs j ON j.id = s.job_id
        WHERE (j.state IN {FINISHED} AND s.state NOT IN ('done', 'split'))
        OR (s.state = 'done' AND s.done_token IS NULL AND s.attempt > 0)""",
    # An attempt whose rows the database would not take: what a second row of an item comes to, as they have a key.
    "refused": """SELECT token, error FROM attempts WHERE outcome = 'failed'
        AND (error LIKE '%refused:%' OR error LIKE '%IncompleteShard%' OR error LIKE '%has a limit%')""",
    # A training that is done has all of its epochs and a model; and there is no model that is nobody's.
    "epochs": """SELECT r.id, COUNT(e.epoch) AS n, MAX(e.epoch) AS last FROM runs r
        LEFT JOIN epochs e ON e.run_id = r.id WHERE r.state = 'done' GROUP BY r.id
        HAVING COUNT(e.epoch) <> COALESCE(MAX(e.epoch), 0) OR COUNT(e.epoch) = 0""",
    "modelless": "SELECT r.id, r.name FROM runs r WHERE r.state = 'done' AND r.model_id IS NULL",
    "stray_models": """SELECT m.name, m.version FROM models m WHERE m.name <> 'fake'
        AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.model_id = m.id)""",
}

# A job is accepted whole or not at all: with every file of its folder, and with no shard before that.
ACCEPTED = """SELECT j.id, j.root, j.state, j.n_items, (SELECT COUNT(*) FROM items i WHERE i.job_id = j.id) AS items,
    (SELECT COUNT(*) FROM shards s WHERE s.job_id = j.id) AS shards FROM jobs j
    LEFT JOIN models m ON m.id = j.model_id WHERE j.kind = 'classify' AND (m.name = :model OR m.id IS NULL)"""
FAILED = "SELECT COALESCE(error, '') FROM attempts WHERE outcome = 'failed'"
ANSWERED = """SELECT j.root, i.path, r.job_id, r.idx, r.status, r.label, r.score, r.error_code FROM results r
    JOIN items i ON i.job_id = r.job_id AND i.idx = r.idx JOIN jobs j ON j.id = r.job_id
    JOIN models m ON m.id = j.model_id WHERE m.name = :model AND j.kind = 'classify'"""


@dataclass
class Verdict:
    """How many of each fault were found, with a few examples of it."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    def note(self, name: str, found: Sequence[object], count: int | None = None) -> None:
        """Add what was found of one kind."""
        self.counts[name] = self.counts.get(name, 0) + (len(found) if count is None else count)
        self.examples += [f"{name}: {one}" for one in found[:EXAMPLES]]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not any(self.counts.values())

    def __str__(self) -> str:
        words = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        return "\n  ".join([words, *self.examples])


def judge(
    database: Database,
    *,
    acknowledged: Sequence[int] = (),
    model: str = "fake",
    server_check: Callable[[], list[str]] | None = None,
    befell: Collection[str] = (),
    logs: Sequence[Path] = (),
) -> Verdict:
    """Look at everything. `acknowledged`: jobs whose id somebody was given. `model`: whose answers are known.

    `befell`: the faults of the run, which explain tracebacks in its `logs` and failed attempts (tests.chaos.causes).
    """
    verdict = Verdict()
    with database.read("SET TRANSACTION READ ONLY") as connection:
        for name, query in QUERIES.items():
            found = [tuple(row) for row in connection.execute(text(query))]
            verdict.note(name, found, sum(row[2] for row in found) if name == "duplicated" else None)
        causes = [str(cause) for cause in connection.execute(text(FAILED)).scalars()]
        answered = connection.execute(text(ANSWERED), {"model": model}).all()
        accepted = connection.execute(text(ACCEPTED), {"model": model}).all()
        verdict.note("vanished", list(_vanished(connection, acknowledged)))
        verdict.note("miscounted", wrong_counters(connection))
        verdict.note("damaged", list(_damaged(connection)))
    verdict.note("unexplained", unexplained(causes, ATTEMPTS, befell))
    verdict.note("tracebacks", list(odd_tracebacks(logs, befell)))
    verdict.note("partial", list(_partial(accepted)))
    verdict.note("wrong", list(_wrong(answered)))  # outside of the transaction: it takes a while
    verdict.note("damaged", server_check() if server_check else [])
    return verdict


def _wrong(answered: Sequence[Row[tuple[Any, ...]]]) -> Iterator[tuple[object, ...]]:
    """Rows that do not say what their picture is."""
    answers = Answers()
    for row in answered:
        wanted = answers.of(row.root, row.path)
        label_fits = (row.status, row.label, row.error_code) == (wanted.status, wanted.label, wanted.error_code)
        if not label_fits or (wanted.score is not None and abs(row.score - wanted.score) > 2e-6):
            yield row.job_id, row.idx, row.path, row.status, row.label, row.error_code, "expected", wanted


def _partial(accepted: Sequence[Row[tuple[Any, ...]]]) -> Iterator[tuple[object, ...]]:
    """Jobs that have less or more than their folder, and scans that nobody finished with something to work on."""
    files: dict[str, int] = {}
    for job in accepted:
        root = str(job.root)
        files[root] = files.get(root) or sum(1 for path in Path(root).rglob("*") if path.is_file())
        is_whole = job.n_items == job.items == files[root] and (job.shards > 0 or job.items == 0)
        if not (job.shards == 0 if job.state == "scanning" else is_whole):
            yield tuple(job)


def _vanished(connection: Connection, acknowledged: Sequence[int]) -> Iterator[int]:
    there = set(connection.execute(text("SELECT id FROM jobs WHERE state <> 'scanning'")).scalars())
    return (job_id for job_id in acknowledged if job_id not in there)


def _damaged(connection: Connection) -> Iterator[object]:
    """What the database itself finds wrong; and indexes that do not have what their tables have."""
    if connection.dialect.name == "sqlite":
        yield from (line for line in connection.execute(text("PRAGMA integrity_check")).scalars() if line != "ok")
        yield from (tuple(row) for row in connection.execute(text("PRAGMA foreign_key_check")))
        return
    for table, key in (("results", "job_id"), ("items", "job_id"), ("shards", "id"), ("attempts", "token")):
        counts = []
        for way in ("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan", "enable_seqscan"):
            connection.execute(text(f"SET LOCAL {way} = {'off' if way != 'enable_seqscan' else 'on'}"))
        counts.append(connection.scalar(text(f"SELECT COUNT({key}) FROM {table}")))
        for way in ("enable_indexscan", "enable_indexonlyscan", "enable_seqscan"):
            connection.execute(text(f"SET LOCAL {way} = {'on' if way != 'enable_seqscan' else 'off'}"))
        counts.append(connection.scalar(text(f"SELECT COUNT({key}) FROM (SELECT {key} FROM {table} ORDER BY {key}) t")))
        if counts[0] != counts[1]:
            yield f"{table}: the table has {counts[0]} rows, its index {counts[1]}"
