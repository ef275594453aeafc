"""The pictures of a training that is over, as a source for one that goes on with it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import InvalidRecipe
from store.insights import job as read_job
from store.run_rows import RunRow
from store.training_items import training_items
from worker.sources.entry import Entry

if TYPE_CHECKING:
    from store.database import Database


class PastSource:
    """The labelled items of a finetune job as accepted: a worker.sources.entry.Source."""

    def __init__(self, database: Database, job_id: int) -> None:
        """Raises UnknownJob."""
        row = read_job(database, job_id)
        self.root = Path(os.fsdecode(row.root))
        self.confined = row.confined
        self.description = row.description.partition(": ")[2] or row.description
        self.ignored: Counter[str] = Counter()
        self._database = database
        self._job_id = job_id

    def __iter__(self) -> Iterator[Entry]:
        """Every item, with the split and the group that it was given; what was held back is held back again."""
        for row in training_items(self._database, self._job_id):
            yield Entry(
                path=row.path,
                size=row.size,
                mtime_ns=row.mtime_ns,
                label=row.label,
                split=row.split,
                extra={"group": row.group} if row.group is not None else None,
                member=row.member,
                offset=row.offset,
            )


def past_job(run: RunRow) -> int:
    """The job whose pictures a run that is over learned from. Raises InvalidRecipe where it cannot go on."""
    if run.state in ("queued", "running", "paused"):
        raise InvalidRecipe(f"Run {run.id} is {run.state}, not finished: resume job {run.job_id} to let it go on.")
    if run.checkpoint is None:
        raise InvalidRecipe(f"Run {run.id} has no checkpoint to go on from; start a new one with its recipe.")
    if run.job_id is None:
        raise InvalidRecipe(f"The job of run {run.id} was removed, and with it the list of its pictures.")
    return run.job_id
