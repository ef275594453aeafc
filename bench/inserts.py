"""Items and results into PostgreSQL: as Pixmill writes them, and with their rows sent one by one, as drivers do.

usage: ./do bench inserts [SLICES]
Accepts the same images and commits the same slices of their results both ways, in turn. Prints the CPU of a thousand
images accepted and of a slice committed, of this process and of the one of the server that works for it, and the time
until each is done. There is no bar.
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
from store import commits, jobs, scanning, schema
from store.catalog import register_model
from store.claims import Claimer, claim
from store.database import Database
from store.rows import NewItem, NewJob
from store.writing import Row
from tests.servers import new_postgres_database, postgres_server

WARM = 4  # slices before anything is counted


@dataclass
class Spent:
    """Milliseconds of all that is counted."""

    here: float = 0.0
    there: float = 0.0
    clock: float = 0.0
    counted: float = 0.0

    @contextmanager
    def count(self, server: int, much: float = 1.0) -> Iterator[None]:
        """Count what happens inside. `server`: the number of its process."""
        before = cpu_of(os.getpid()), cpu_of(server), time.perf_counter() * 1000
        yield
        after = cpu_of(os.getpid()), cpu_of(server), time.perf_counter() * 1000
        here, there, clock = (then - now for then, now in zip(after, before, strict=True))
        self.here, self.there, self.clock = self.here + here, self.there + there, self.clock + clock
        self.counted += much

    def line(self) -> str:
        """Of one of what is counted."""
        here, there, clock = (total / max(1.0, self.counted) for total in (self.here, self.there, self.clock))
        return f"CPU here {here:6.2f} ms, of the server {there:6.2f} ms; done after {clock:6.2f} ms"


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
    """Rows are sent one by one."""
    with (
        patch.object(scanning, "insert_rows", one_by_one),
        patch.object(commits, "insert_rows", one_by_one),
        patch.object(commits, "put_rows", one_by_one_or_newer),
    ):
        yield


def cpu_of(pid: int) -> float:
    """Milliseconds that a process has run."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e6


def write(database: Database, slices: int, way: str) -> None:
    """Accept a job of so many slices and commit them; print what that took."""
    images = (slices + WARM) * SLICE
    with database.read() as connection:  # the pool has one connection, whose server process this is
        server = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]  # it is open here
    accepted, committed, seen = Spent(), Spent(), 0
    with accepted.count(server, images / 1000):
        found = (NewItem(b"folder/%d.jpg" % n, size=n, mtime_ns=n, label="a") for n in range(images))
        jobs.accept(database, NewJob(1, root=b"/photos"), found)
    while lease := claim(database, Claimer("bench")):
        for lo in range(lease.lo, lease.hi, SLICE):
            rows = rows_of(lease, lo, min(lease.hi, lo + SLICE))
            seen += 1
            with (committed if seen > WARM else Spent()).count(server):
                commits.commit_slice(database, lease, rows, last=lo + SLICE >= lease.hi)
    print(f"{way:16} 1,000 images accepted: {accepted.line()}")
    print(f"{way:16}    a slice committed: {committed.line()}")


def main(slices: int) -> None:
    """Both ways, twice."""
    with postgres_server() as server:
        database = Database(new_postgres_database(server))
        schema.ensure(database)
        register_model(database, ("birds", 1), "d" * 64, ["a"], "{}", "/models/1")
        for _ in range(2):
            write(database, slices, "as Pixmill does")
            with by_driver():
                write(database, slices, "row by row")
        database.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
