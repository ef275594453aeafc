"""Jobs over real pictures, as a worker would have left them: for what shows pictures again."""

from __future__ import annotations

import io
import os
from pathlib import Path

from PIL import Image

from store import jobs
from store.catalog import register_model
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.rows import NewJob, NewResult
from store.sweep import finish_jobs
from worker.reading import Location, Reader
from worker.sources.opening import open_source
from worker.submission import new_item


def classified(
    database: Database, source: Path, *, owner: str = "", failed: tuple[int, ...] = (), cache: Path | None = None
) -> int:
    """A finished job over a folder, file or archive, whose items were all read; those `failed` as not_image."""
    found = open_source([str(source)], cache_dir=cache)
    entries = list(found)
    model = register_model(database, ("birds", 1), "d" * 64, ["robin", "wren"], "{}", "/models/birds/1")
    root = os.fsencode(found.root)
    job = NewJob(model, root=root, confined=found.confined, owner=owner, reuse=False)
    job_id = jobs.accept(database, job, map(new_item, entries))
    lease = claim(database, Claimer("w"))
    assert lease is not None
    assert lease.job_id == job_id
    reader = Reader(cache_dir=cache)
    rows = []
    for idx, entry in enumerate(entries):
        if idx in failed:
            rows.append(NewResult(idx, "failed", error_code="not_image", error="no picture"))
            continue
        where = Location(root, entry.path, found.confined, entry.size, entry.mtime_ns, entry.member, entry.offset)
        content = reader.read(where)
        with Image.open(io.BytesIO(content.data)) as image:
            width, height = image.size
        good = {"label": "robin", "score": 0.9, "topk": '[{"label": "robin", "score": 0.9}]'}
        rows.append(NewResult(idx, "ok", **good, content_hash=content.digest, width=width, height=height))  # type: ignore[arg-type]  # by name
    commit_slice(database, lease, rows, last=True)
    finish_jobs(database)
    return job_id


def hash_of(database: Database, job_id: int, idx: int) -> str:
    """The content hash of a result, in hexadecimal digits."""
    from store.pictures import picture

    row = picture(database, job_id, idx)
    assert row is not None
    assert row.content_hash is not None
    return row.content_hash.hex()
