"""A slice of results into PostgreSQL: as Pixmill commits it, and with its rows sent one by one, as drivers do.

usage: ./do bench inserts [SLICES]
Commits the same slices both ways, in turn, each into a job of its own. Prints the CPU of a slice, of this process and
of the one of the server that works for it, and the time until it is committed. There is no bar.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from sqlalchemy import Connection, Table, insert
from sqlalchemy.dialects import postgresql

from bench.queries import SLICE, rows_of
from store import commits, jobs, schema
from store.catalog import register_model
from store.claims import Claimer, claim
from store.database import Database
from store.rows import NewItem, NewJob
from store.writing import Row
from tests.servers import new_postgres_database, postgres_server

WARM = 4  # slices before anything is counted


@dataclass
class Spent:
    """Milliseconds of all slices that are counted."""

    here: float = 0.0
    there: float = 0.0
    clock: float = 0.0
    slices: int = 0

    def line(self) -> str:
        """Of one slice."""
        here, there, clock = (total / max(1, self.slices) for total in (self.here, self.there, self.clock))
        return f"CPU here {here:6.2f} ms, of the server {there:6.2f} ms; committed after {clock:6.2f} ms"


def one_by_one(connection: Connection, table: Table, rows: list[Row]) -> None:
    """What SQLAlchemy and the driver make of a list of rows."""
    connection.execute(insert(table), rows)


def one_by_one_or_newer(connection: Connection, table: Table, rows: list[Row], newer: tuple[str, ...]) -> None:
    """The same for rows that may be there."""
    fresh = postgresql.insert(table)
    values = {name: fresh.excluded[name] for name in newer}
    connection.execute(fresh.on_conflict_do_update(index_elements=list(table.primary_key), set_=values), rows)


@contextmanager
def by_driver() -> Iterator[None]:
    """Commits send their rows one by one."""
    with patch.object(commits, "insert_rows", one_by_one), patch.object(commits, "put_rows", one_by_one_or_newer):
        yield


def cpu_of(pid: int) -> float:
    """Milliseconds that a process has run."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e6


def commit(database: Database, slices: int) -> Spent:
    """Accept a job of so many slices and commit them."""
    images = (slices + WARM) * SLICE
    jobs.accept(database, NewJob(1, root=b"/photos"), (NewItem(b"%d.jpg" % n, label="a") for n in range(images)))
    with database.read() as connection:  # the pool has one connection, whose server process this is
        server = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
    spent, seen = Spent(), 0
    while lease := claim(database, Claimer("bench")):
        for lo in range(lease.lo, lease.hi, SLICE):
            rows = rows_of(lease, lo, min(lease.hi, lo + SLICE))
            before = cpu_of(os.getpid()), cpu_of(server), time.perf_counter() * 1000
            commits.commit_slice(database, lease, rows, last=lo + SLICE >= lease.hi)
            after = cpu_of(os.getpid()), cpu_of(server), time.perf_counter() * 1000
            seen += 1
            if seen > WARM:
                here, there, clock = (then - now for then, now in zip(after, before, strict=True))
                spent.here, spent.there, spent.clock = spent.here + here, spent.there + there, spent.clock + clock
                spent.slices += 1
    return spent


def main(slices: int) -> None:
    """Both ways, twice."""
    with postgres_server() as server:
        database = Database(new_postgres_database(server))
        schema.ensure(database)
        register_model(database, ("birds", 1), "d" * 64, ["a"], "{}", "/models/1")
        for _ in range(2):
            print(f"{'as Pixmill does':18} {commit(database, slices).line()}")
            with by_driver():
                print(f"{'row by row':18} {commit(database, slices).line()}")
        database.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
