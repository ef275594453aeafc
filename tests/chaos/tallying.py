"""What the product counts while it writes, counted again from the rows themselves."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, text

from store import tallies

SHARDS = """SELECT s.id, s.ok, s.failed, s.reused,
    COUNT(r.idx) FILTER (WHERE r.status = 'ok') AS n_ok, COUNT(r.idx) FILTER (WHERE r.status = 'failed') AS n_failed,
    COUNT(r.idx) FILTER (WHERE r.reused) AS n_reused
    FROM shards s LEFT JOIN results r ON r.job_id = s.job_id AND r.idx >= s.lo AND r.idx < s.hi
    WHERE s.state <> 'split' AND s.queue = 'classify' GROUP BY s.id, s.ok, s.failed, s.reused"""


def wrong_counters(connection: Connection) -> list[str]:
    """The counters of shards and the tallies of jobs that do not agree with the result rows."""
    wrong = [
        f"shard {row.id}: ok, failed, reused are {row[1:4]}, its rows say {row[4:]}"
        for row in connection.execute(text(SHARDS))
        if tuple(row[1:4]) != tuple(row[4:])
    ]
    kept = {
        (row.job_id, row.kind, row.value): row.n
        for row in connection.execute(text("SELECT job_id, kind, value, n FROM tallies"))
        if row.n
    }
    counted = _counted(connection)
    differing = sorted({key for key in kept.keys() | counted.keys() if kept.get(key, 0) != counted[key]})
    wrong += [f"tally {key}: {kept.get(key, 0)}, its rows say {counted[key]}" for key in differing]
    return wrong


def _counted(connection: Connection) -> Counter[tuple[int, str, str]]:
    counted: Counter[tuple[int, str, str]] = Counter()
    grouped = "SELECT job_id, {0} AS value, COUNT(*) AS n FROM results WHERE {0} IS NOT NULL GROUP BY job_id, {0}"
    for kind in ("label", "error_code", "agrees"):
        for row in connection.execute(text(grouped.format(kind))):
            value = str(int(row.value)) if kind == "agrees" else row.value
            counted[row.job_id, kind, value] += row.n
    for row in connection.execute(text("SELECT job_id, score FROM results WHERE score IS NOT NULL")):
        counted[row.job_id, "score", f"{tallies.bin_of(row.score):02}"] += 1
    return counted
