"""A new job beside one of a million results on PostgreSQL, whose statistics know the large one only.

usage: ./do bench beside [ROWS OF THE LARGE JOB] [IMAGES OF THE NEW JOB]
Accepts the new job, takes its shards and commits them as a worker without a model would, then asks for a page of one
label and for a count from v_results. Prints the seconds of each: there is no bar, they should not grow with the square
of the new job nor with the large one (docs/decisions/0009).
"""

import sys
import time
from collections.abc import Callable

from bench.million import make
from bench.queries import SLICE, rows_of
from store import jobs
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.insights import items_left
from store.query import page
from store.results import Filter
from store.rows import NewItem, NewJob
from tests.servers import new_postgres_database, postgres_server


def told(what: str, action: Callable[[], object]) -> object:
    before = time.perf_counter()
    found = action()
    print(f"{what:40} {time.perf_counter() - before:8.3f} s")
    return found


def accept(database: Database, images: int) -> int:
    return jobs.accept(database, NewJob(1, root=b"/more"), (NewItem(b"%d.jpg" % n, label="a") for n in range(images)))


def work(database: Database) -> None:
    """Commit every shard of the new job, each in slices, as workers do."""
    while lease := claim(database, Claimer("bench")):
        left = items_left(database, lease)
        assert len(left) == lease.hi - lease.lo
        for lo in range(lease.lo, lease.hi, SLICE):
            hi = min(lease.hi, lo + SLICE)
            commit_slice(database, lease, rows_of(lease, lo, hi), last=hi == lease.hi)


def count(database: Database, job: int) -> None:
    with database.read() as connection:
        connection.exec_driver_sql(f"SELECT COUNT(*) FROM v_results WHERE job_id = {job} AND true_label IS NOT NULL")


def main(rows: int, images: int) -> None:
    with postgres_server() as server:
        database = Database(new_postgres_database(server))
        make(database.engine.url.render_as_string(hide_password=False), rows)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")
        job = told(f"accept {images:,} images", lambda: accept(database, images))
        assert isinstance(job, int)
        told("all shards, without a model", lambda: work(database))
        told("a page of one label", lambda: page(database, job, Filter(label="label_1")))
        told("a count from v_results", lambda: count(database, job))
        database.close()


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000,
        int(sys.argv[2]) if len(sys.argv) > 2 else 50_000,
    )
