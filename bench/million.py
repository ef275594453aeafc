"""A job of a million results in a new database, made by SQL alone: what the read benchmarks ask.

usage: ./do bench million URL [ROWS]
Folders of 2,000 images each, labels by a long-tailed share, 2 % failures, 12 % wrong, ten corrections.
"""

import sys
import time

from sqlalchemy import Connection, text

from store import schema
from store.catalog import register_model
from store.database import Database

FOLDER = 2_000
LABELS = 1_000
SHARD = 2_048
PORTION = 200_000  # rows per transaction

NUMBERS = {
    "sqlite": "WITH RECURSIVE s(n) AS (SELECT {lo} UNION ALL SELECT n + 1 FROM s WHERE n < {hi} - 1)",
    "postgresql": "WITH s(n) AS (SELECT * FROM generate_series({lo}, {hi} - 1))",
}
# A shuffle without random numbers: 2,654,435,761 is prime, so that x runs through [0, 1) evenly and looks like chance.
CHANCE = "((n * 2654435761) % 1000003) / 1000003.0"
LABEL = "'label_' || CAST(CAST({x} * {x} * {x} * {labels} AS INTEGER) AS TEXT)"
ITEMS = """INSERT INTO items (job_id, idx, path, size, mtime_ns, label)
{numbers} SELECT {job}, n, 'folder_' || substr('0000' || (n / {folder}), -4) || '/image_' || n || '.jpg', 40000, n,
'label_' || CAST(CASE WHEN n % 8 = 0 THEN n / {folder} ELSE CAST({x} * {x} * {x} * {labels} AS INTEGER) END AS TEXT)
FROM s"""
RESULTS = """INSERT INTO results (job_id, idx, status, error_code, error, label, score, topk, content_hash, width,
height, reused, token, created_at, agrees)
{numbers} SELECT {job}, n, CASE WHEN n % 50 = 7 THEN 'failed' ELSE 'ok' END,
CASE WHEN n % 50 = 7 THEN
CASE WHEN n % 5000 = 7 THEN 'too_large' WHEN n % 500 = 57 THEN 'empty' ELSE 'truncated' END END,
CASE WHEN n % 50 = 7 THEN 'the file ends early: expected 40,000 bytes' END,
CASE WHEN n % 50 <> 7 THEN {label} END, CASE WHEN n % 50 <> 7 THEN 1 - {x} * {x} END,
CASE WHEN n % 50 <> 7 THEN '[{{"label": "' || {label} || '", "score": 0.7}}, {{"label": "label_7", "score": 0.1}}, '
|| '{{"label": "label_8", "score": 0.05}}, {{"label": "label_9", "score": 0.03}}]' END,
NULL, 640, 480, {false}, '0123456789abcdef0123456789abcdef', 1.7e9 + n / 500,
CASE WHEN n % 50 <> 7 THEN (SELECT i.label FROM items i WHERE i.job_id = {job} AND i.idx = n) = {label} END FROM s"""
TALLIES = {
    "label": "SELECT label, COUNT(*) FROM results WHERE job_id = {job} AND label IS NOT NULL GROUP BY label",
    "error_code": "SELECT error_code, COUNT(*) FROM results WHERE job_id = {job} AND status = 'failed' GROUP BY 1",
    "agrees": "SELECT CASE WHEN agrees THEN '1' ELSE '0' END, COUNT(*) FROM results "
    "WHERE job_id = {job} AND agrees IS NOT NULL GROUP BY agrees",
    "score": "SELECT substr('0' || (CASE WHEN score >= 1 THEN 19 ELSE CAST({floor} AS INTEGER) END), -2), COUNT(*) "
    "FROM results WHERE job_id = {job} AND score IS NOT NULL GROUP BY 1",
}


def make(url: str, rows: int = 1_000_000) -> int:
    """Make the database and the job; returns the job's number."""
    database = Database(url)
    schema.ensure(database)
    model = register_model(database, ("birds", 1), "d" * 64, [f"label_{n}" for n in range(LABELS)], "{}", "/models/1")
    with database.write() as connection:
        job = _job(connection, model, rows)
    for lo in range(0, rows, PORTION):
        for statement in (ITEMS, RESULTS):
            with database.write() as connection:
                connection.exec_driver_sql(_filled(connection, statement, job, lo, min(rows, lo + PORTION)))
    with database.write() as connection:
        _count(connection, job, rows)
    if not database.is_sqlite:  # the server does it by itself within a minute or so
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    database.close()
    return job


def _job(connection: Connection, model: int, rows: int) -> int:
    query = """INSERT INTO jobs (kind, state, model_id, description, root, n_items, created_at, started_at, finished_at)
        VALUES ('classify', 'done_with_errors', :model, 'a million images', '/photos', :rows, 1.7e9, 1.7e9, 1.700002e9)
        RETURNING id"""
    return int(connection.execute(text(query), {"model": model, "rows": rows}).scalar_one())


def _filled(connection: Connection, statement: str, job: int, lo: int, hi: int) -> str:
    name = connection.dialect.name
    chance = CHANCE if name == "sqlite" else CHANCE.replace("n * ", "n::bigint * ")
    words = {"numbers": NUMBERS[name].format(lo=lo, hi=hi), "job": job, "folder": FOLDER, "labels": LABELS, "x": chance}
    words["label"] = LABEL.format(x=chance, labels=LABELS)
    words["false"] = "0" if name == "sqlite" else "false"
    filled = statement.format(**words)
    if name == "postgresql":
        filled = filled.replace("substr('0000' || (n / 2000), -4)", "lpad((n / 2000)::text, 4, '0')").replace("%", "%%")
        filled = filled.replace("* 1000 AS INTEGER", "* 1000 - 0.5 AS INTEGER")  # which rounds where SQLite cuts off
    return filled


def _count(connection: Connection, job: int, rows: int) -> None:
    floor = "score * 20" if connection.dialect.name == "sqlite" else "floor(score * 20)"
    for kind, query in TALLIES.items():
        query = query.format(job=job, floor=floor)  # noqa: PLW2901  the same query, with its words
        if connection.dialect.name == "postgresql":
            query = query.replace("substr('0' || (", "right('0' || (").replace("), -2)", "), 2)")  # noqa: PLW2901  as above
        connection.exec_driver_sql(
            f"INSERT INTO tallies (job_id, kind, value, n) SELECT {job}, '{kind}', t.* FROM ({query}) t"
        )
    shard = text("""INSERT INTO shards (job_id, queue, lo, hi, state, attempt, ok, failed)
        SELECT :job, 'classify', MIN(idx), MAX(idx) + 1, 'done', 1, SUM(CASE WHEN status = 'ok' THEN 1 ELSE 0 END),
        SUM(CASE WHEN status = 'failed' THEN 1 ELSE 0 END) FROM results WHERE job_id = :job GROUP BY idx / :size""")
    connection.execute(shard, {"job": job, "size": SHARD})
    said = text("""INSERT INTO corrections (job_id, idx, label, author, created_at)
        SELECT :job, idx, 'label_1', 'anna', 1.7e9 FROM items WHERE job_id = :job AND idx % :step = 3""")
    connection.execute(said, {"job": job, "step": rows // 10})


if __name__ == "__main__":
    before = time.perf_counter()
    number = make(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
    print(f"job {number} made in {time.perf_counter() - before:.0f} s")
