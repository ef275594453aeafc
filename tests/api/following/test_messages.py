"""A look at a job: its events and its state are of one moment."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from api.following import messages
from api.following.messages import look
from api.following.position import Position
from store import insights, jobs
from store.database import Database
from store.rows import JobRow, NewItem, NewJob
from tests.servers import new_postgres_database


def test_progress_does_not_contradict_the_events_beside_it(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is paused just when its row is read, and before its events are: neither is told, or both."""
    database = Database(new_postgres_database(postgres))
    job = jobs.accept(database, NewJob(None), [NewItem(b"a.jpg")])

    def paused_meanwhile(connection: Connection, job_id: int) -> JobRow:
        row = insights.read_job(connection, job_id)
        jobs.pause(database, job_id)
        return row

    monkeypatch.setattr(messages, "read_job", paused_meanwhile)
    found = look(database, job, Position(0))
    assert found.progress is not None
    assert [told.data["state"] for told in found.told] == [found.progress["state"]] == ["accepted"]
    database.close()
