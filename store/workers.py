"""Workers sign in, report what they do, and sign out."""

from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite

from store.clock import db_now
from store.database import Database
from store.tables import workers


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker says of itself. `model` lists its warm models, most recent first."""

    id: str
    host: str
    device: str
    pid: int
    state: str  # idle, busy, stopped
    model: str | None = None
    images: int = 0
    trouble: str | None = None  # what it waits for


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker as it last reported. `started_at` and `seen_at`: seconds since 1970."""

    id: str
    host: str
    device: str
    pid: int
    state: str
    model: str | None
    images: int
    started_at: float
    seen_at: float
    trouble: str | None


def list_workers(database: Database) -> list[WorkerRow]:
    """Every worker that is known, those heard of last first."""
    shown = workers.c[*WorkerRow.__slots__]
    with database.read() as connection:
        found = connection.execute(select(*shown).order_by(workers.c.seen_at.desc(), workers.c.id))
        return [WorkerRow(*row) for row in found]


def seen(database: Database, worker_id: str, pid: int, trouble: str | None = None) -> bool:
    """Note that a worker's process is there, whatever it does, or waits for; False where it never reported."""
    with database.write() as connection:
        mine = (workers.c.id == worker_id) & (workers.c.pid == pid)
        noted = update(workers).where(mine).values(seen_at=db_now(), trouble=trouble)
        return bool(connection.execute(noted).rowcount)


def report(database: Database, worker: WorkerReport) -> None:
    """Write a worker's row; its start is kept while the process stays the same."""
    values = {
        "host": worker.host,
        "device": worker.device,
        "pid": worker.pid,
        "state": worker.state,
        "model": worker.model,
        "images": worker.images,
        "trouble": worker.trouble,
        "seen_at": db_now(),
    }
    with database.write() as connection:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        same = connection.execute(
            update(workers).where(workers.c.id == worker.id, workers.c.pid == worker.pid).values(**values)
        )
        if same.rowcount:
            return
        values["started_at"] = db_now()
        connection.execute(
            dialect.insert(workers)
            .values(id=worker.id, **values)
            .on_conflict_do_update(index_elements=["id"], set_=values)
        )
