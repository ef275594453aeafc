"""The items of a finetune job as its trainer needs them: with label, given split and group."""

import json
from collections.abc import Iterator

from sqlalchemy import select

from store.database import Database
from store.paths import from_columns
from store.rows import TrainingRow
from store.tables import items

PAGE = 10_000


def training_items(database: Database, job_id: int) -> Iterator[TrainingRow]:
    """Every labelled item of a job, in order, in pages: no long transaction holds up a checkpoint."""
    wanted = items.c["idx", "path", "path_raw", "size", "mtime_ns", "member", "offset", "label", "split", "extra"]
    query = (
        select(*wanted).where(items.c.job_id == job_id, items.c.label.is_not(None)).order_by(items.c.idx).limit(PAGE)
    )
    last = -1
    while True:
        with database.read() as connection:
            page = connection.execute(query.where(items.c.idx > last)).all()
        for idx, path, raw, size, mtime_ns, member, offset, label, split, extra in page:
            group = json.loads(extra).get("group") if extra else None
            yield TrainingRow(idx, from_columns(path, raw), size, mtime_ns, member, offset, label, split, group)
        if len(page) < PAGE:
            return
        last = page[-1].idx
