"""The limit of waiting images, kept by whoever brings some at the same time."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from store.database import Database
from store.figures import queued_items
from store.insights import job
from store.rows import NewItem, NewJob
from store.scanning import discard, fill, open_job
from store.states import JobState
from store.waiting import QueueFull


def found(together: threading.Barrier | None = None) -> Iterator[NewItem]:
    yield from (NewItem(b"%03d.jpg" % n) for n in range(8))
    if together is not None:
        together.wait(60)  # all are at their end before any is accepted


def test_of_scans_that_end_at_once_only_those_that_fit_are_accepted(database: Database, model_id: int) -> None:
    draft = NewJob(model_id, owner="ann", most_waiting=20)
    ids = [open_job(database, draft) for _ in range(4)]
    together = threading.Barrier(len(ids))

    def end(job_id: int) -> bool:
        try:
            fill(database, job_id, draft, found(together))
        except QueueFull:
            return False
        return True

    with ThreadPoolExecutor(len(ids)) as pool:
        ended = dict(zip(ids, pool.map(end, ids), strict=True))
    assert sorted(ended.values()) == [False, False, True, True]
    assert queued_items(database, "ann") == 16
    for job_id, is_accepted in ended.items():
        row = job(database, job_id)
        assert (row.state, row.found) == ((JobState.ACCEPTED, 8) if is_accepted else (JobState.SCANNING, 0))
        assert is_accepted or discard(database, job_id)


def test_what_others_wait_for_takes_no_room(database: Database, model_id: int) -> None:
    for owner in ("ann", "ben"):
        draft = NewJob(model_id, owner=owner, most_waiting=8)
        fill(database, open_job(database, draft), draft, found())
    assert (queued_items(database, "ann"), queued_items(database, "ben")) == (8, 8)
