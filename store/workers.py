"""Workers sign in, report what they do, and sign out."""

from dataclasses import dataclass

from sqlalchemy import update
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


def report(database: Database, worker: WorkerReport) -> None:
    """Write a worker's row; its start is kept while the process stays the same."""
    values = {
        "host": worker.host,
        "device": worker.device,
        "pid": worker.pid,
        "state": worker.state,
        "model": worker.model,
        "images": worker.images,
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
