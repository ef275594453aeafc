"""Uploads: opened, counted, sealed, bound to a job, expired, retired before their files go."""

from sqlalchemy import text

from store import uploads
from store.database import Database
from store.jobs import cancel
from store.removal import remove
from store.rows import NewJob
from store.scanning import open_job
from tests.store.conftest import AcceptJob


def test_an_upload_counts_its_files_until_it_is_sealed(database: Database) -> None:
    made = uploads.create(database, "ann")
    assert (made.state, made.files, made.bytes, made.job_id) == ("open", 0, 0, None)
    other = uploads.create(database, "ann")
    assert uploads.add(database, other.id, files=1, size_bytes=5) == 5
    assert uploads.add(database, made.id, files=2, size_bytes=300) == 305
    assert uploads.add(database, made.id, files=-1, size_bytes=-100) == 205  # of all that its owner has
    row = uploads.find(database, made.id)
    assert row
    assert (row.files, row.bytes) == (1, 200)
    sealed = uploads.seal(database, made.id)
    assert sealed
    assert sealed.state == "sealed"
    assert uploads.seal(database, made.id)
    assert uploads.add(database, made.id, files=1, size_bytes=1) is None
    assert uploads.find(database, made.id) in uploads.list_uploads(database, "ann")
    assert uploads.used_bytes(database, "ann") == 205
    assert uploads.used_bytes(database, "bob") == 0


def test_what_is_not_there_is_nothing(database: Database) -> None:
    assert uploads.find(database, "none") is None
    assert uploads.add(database, "none", files=1, size_bytes=1) is None
    assert uploads.seal(database, "none") is None
    assert uploads.bind(database, "none", 1) is None
    assert uploads.touch(database, "none") is None
    assert not uploads.retire(database, "none")
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
    assert not uploads.remove(database, bound.id)  # its files are still there
    assert uploads.retire(database, bound.id)
    assert uploads.remove(database, bound.id)


def test_an_upload_stays_as_long_as_any_of_its_jobs_reads_it(database: Database, accept_job: AcceptJob) -> None:
    upload = uploads.create(database, "ann").id
    first, last = (accept_job(3, options={uploads.READS: upload}) for _ in range(2))
    uploads.bind(database, upload, first)
    uploads.bind(database, upload, last)
    cancel(database, last)
    _age(database)
    assert uploads.reader(database, upload) == first
    assert not uploads.retire(database, upload, 60)
    assert uploads.expired(database, 60) == []  # it was looked at, and now waits for the first job
    remove(database, last)
    _age(database)
    assert not uploads.retire(database, upload)
    cancel(database, first)
    assert uploads.expired(database, 60) == []  # that has ended only now
    _age(database)
    assert [row.id for row in uploads.expired(database, 60)] == [upload]
    assert uploads.retire(database, upload, 60)


def test_a_job_that_is_only_being_scanned_reads_its_upload(database: Database, model_id: int) -> None:
    upload = uploads.create(database, "ann").id
    job_id = open_job(database, NewJob(model_id), {"body": {"source": {"upload": upload}}})  # and nothing bound it yet
    assert uploads.reader(database, upload) == job_id
    assert not uploads.retire(database, upload)
    cancel(database, job_id)
    assert uploads.retire(database, upload)


def test_an_upload_that_is_used_after_all_does_not_go(database: Database) -> None:
    upload = uploads.create(database, "ann").id
    _age(database)
    assert [row.id for row in uploads.expired(database, 60)] == [upload]
    uploads.seal(database, upload)
    assert not uploads.retire(database, upload, 60)
    assert uploads.retire(database, upload)


def test_what_was_retired_is_gone_for_all_but_who_removes_it(database: Database) -> None:
    upload = uploads.create(database, "ann").id
    uploads.add(database, upload, files=1, size_bytes=70)
    assert uploads.retire(database, upload)
    found = (uploads.find(database, upload), uploads.seal(database, upload), uploads.touch(database, upload))
    assert found == (None, None, None)
    assert uploads.list_uploads(database) == []
    assert uploads.used_bytes(database, "ann") == 70  # its files still lie there
    assert [row.id for row in uploads.expired(database, 10**6)] == [upload]  # whoever died over it, another goes on
    assert uploads.retire(database, upload, 10**6)
    assert uploads.remove(database, upload)
    assert uploads.expired(database, 10**6) == []


def _age(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE uploads SET touched_at = touched_at - 120"))
        connection.execute(text("UPDATE jobs SET finished_at = finished_at - 120"))
