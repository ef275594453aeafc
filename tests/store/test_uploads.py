"""Uploads: opened, counted, sealed, bound to a job, expired."""

from sqlalchemy import text

from store import uploads
from store.database import Database
from store.jobs import cancel
from store.removal import remove
from tests.store.conftest import AcceptJob


def test_an_upload_counts_its_files_until_it_is_sealed(database: Database) -> None:
    made = uploads.create(database, "ann")
    assert (made.state, made.files, made.bytes, made.job_id) == ("open", 0, 0, None)
    uploads.add(database, made.id, files=2, size_bytes=300)
    row = uploads.add(database, made.id, files=-1, size_bytes=-100)
    assert row
    assert (row.files, row.bytes) == (1, 200)
    sealed = uploads.seal(database, made.id)
    assert sealed
    assert sealed.state == "sealed"
    assert uploads.seal(database, made.id)
    assert uploads.add(database, made.id, files=1, size_bytes=1) is None
    assert uploads.find(database, made.id) == uploads.list_uploads(database, "ann")[0]
    assert uploads.used_bytes(database, "ann") == 200
    assert uploads.used_bytes(database, "bob") == 0


def test_what_is_not_there_is_nothing(database: Database) -> None:
    assert uploads.find(database, "none") is None
    assert uploads.add(database, "none", files=1, size_bytes=1) is None
    assert uploads.seal(database, "none") is None
    assert uploads.bind(database, "none", 1) is None
    assert uploads.touch(database, "none") is None
    assert not uploads.remove(database, "none")


def test_uploads_are_listed_in_pages_the_newest_first(database: Database) -> None:
    made = [uploads.create(database, owner).id for owner in ("ann", "bob", "ann", "ann")]
    everything = uploads.list_uploads(database)
    assert {row.id for row in everything} == set(made)
    seen: list[str] = []
    after = None
    while page := uploads.list_uploads(database, "ann", limit=2, after=after):
        seen += [row.id for row in page]
        after = (page[-1].created_at, page[-1].id)
    assert seen == [row.id for row in everything if row.owner == "ann"]


def test_an_upload_expires_when_nobody_uses_it_and_its_job_has_ended(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3)
    alone, bound = uploads.create(database, "ann"), uploads.create(database, "ann")
    uploads.bind(database, bound.id, job_id)
    assert uploads.expired(database, 60) == []
    with database.write() as connection:
        connection.execute(text("UPDATE uploads SET touched_at = touched_at - 120"))
    assert [row.id for row in uploads.expired(database, 60)] == [alone.id]
    cancel(database, job_id)
    assert [row.id for row in uploads.expired(database, 60)] == [alone.id]  # it has ended only now
    with database.write() as connection:
        connection.execute(text("UPDATE jobs SET finished_at = finished_at - 120"))
    assert {row.id for row in uploads.expired(database, 60)} == {alone.id, bound.id}
    remove(database, job_id)
    left = uploads.find(database, bound.id)
    assert left
    assert left.job_id is None
    assert uploads.remove(database, bound.id)
