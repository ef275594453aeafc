"""Corrections stand beside the prediction, with author and time; the newest counts."""

import pytest
from sqlalchemy import text

from store import corrections
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.errors import UnknownItem, UnknownJob
from store.jobs import cancel
from store.removal import remove
from tests.store.conftest import AcceptJob, ok_results


def test_the_newest_correction_counts_and_the_history_stays(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3)
    first = corrections.correct(database, job_id, 1, "wren", "ann")
    second = corrections.correct(database, job_id, 1, "robin", "bob")
    corrections.correct(database, job_id, 2, "wren", "ann")
    assert corrections.history(database, job_id, 1) == [first, second]
    assert (second.author, second.label) == ("bob", "robin")
    assert second.created_at >= first.created_at > 0
    found = corrections.corrected(database, job_id, range(1000))
    assert {idx: row.label for idx, row in found.items()} == {1: "robin", 2: "wren"}


def test_a_correction_can_be_withdrawn(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3)
    assert corrections.withdraw(database, job_id, 0, "ann") is None
    corrections.correct(database, job_id, 0, "wren", "ann")
    gone = corrections.withdraw(database, job_id, 0, "bob")
    assert gone
    assert (gone.label, gone.author) == (None, "bob")
    assert corrections.withdraw(database, job_id, 0, "bob") is None
    assert corrections.corrected(database, job_id, [0]) == {}
    assert [row.label for row in corrections.history(database, job_id, 0)] == ["wren", None]


def test_what_is_not_there_cannot_be_corrected(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3)
    for job, idx, error in ((job_id, 3, UnknownItem), (job_id + 1, 0, UnknownJob)):
        with pytest.raises(error):
            corrections.history(database, job, idx)
        with pytest.raises(error):
            corrections.correct(database, job, idx, "wren", "ann")
    with pytest.raises(UnknownItem):
        corrections.withdraw(database, job_id, 3, "ann")
    assert corrections.history(database, job_id, 0) == []


def test_the_view_shows_what_counts_beside_the_prediction(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3)
    lease = claim(database, Claimer("w"))
    assert lease
    commit_slice(database, lease, ok_results(lease), last=True)
    for label in ("crow", "wren"):
        corrections.correct(database, job_id, 1, label, "ann")
    corrections.correct(database, job_id, 2, "wren", "ann")
    corrections.withdraw(database, job_id, 2, "ann")
    with database.read() as connection:
        rows = connection.execute(text("SELECT idx, path, label, predicted_label, author FROM v_corrections")).all()
    assert [tuple(row) for row in rows] == [(1, "/photos/00001.jpg", "wren", "robin", "ann")]


def test_corrections_go_with_their_job(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3)
    corrections.correct(database, job_id, 1, "wren", "ann")
    cancel(database, job_id)
    remove(database, job_id)
    assert corrections.corrected(database, job_id, [1]) == {}
