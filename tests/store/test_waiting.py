"""The limit of waiting images, kept by whoever brings some at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor

from store.database import Database
from store.figures import queued_items
from store.rows import NewJob
from store.scanning import open_job
from store.waiting import QueueFull, take_room


def test_of_scans_that_end_at_once_only_those_that_fit_get_room(database: Database, model_id: int) -> None:
    marks = [f"{n:032x}" for n in range(4)]
    for mark in marks:
        open_job(database, NewJob(model_id, owner="ann"), {"mark": mark})
    together = threading.Barrier(len(marks))

    def end(mark: str) -> bool:
        together.wait(60)
        try:
            take_room(database, "ann", mark, 8, 20)
        except QueueFull:
            return False
        return True

    with ThreadPoolExecutor(len(marks)) as pool:
        assert sorted(pool.map(end, marks)) == [False, False, True, True]
    assert queued_items(database, "ann") == 16
