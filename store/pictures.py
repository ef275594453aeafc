"""Where the picture of one item lies, and what was found in it: what serving it needs to know."""

from dataclasses import dataclass

from sqlalchemy import and_, select

from store.database import Database
from store.paths import from_columns
from store.tables import items, results


@dataclass(frozen=True, slots=True)
class PictureRow:
    """One item and its result. `path` is bytes, relative to the job's root; `status` None where there is no result.

    `content_hash`: BLAKE3 of the picture's bytes, 16 bytes; `width` and `height` upright. Both only of classified ones.
    """

    idx: int
    path: bytes
    size: int | None
    mtime_ns: int | None
    member: str | None
    offset: int | None
    status: str | None
    error_code: str | None
    content_hash: bytes | None
    width: int | None
    height: int | None


def picture(database: Database, job_id: int, idx: int) -> PictureRow | None:
    """One item of a job; None where there is none of this number."""
    query = (
        select(
            *items.c["idx", "path", "path_raw", "size", "mtime_ns", "member", "offset"],
            *results.c["status", "error_code", "content_hash", "width", "height"],
        )
        .outerjoin(results, and_(results.c.job_id == items.c.job_id, results.c.idx == items.c.idx))
        .where(items.c.job_id == job_id, items.c.idx == idx)
    )
    with database.read() as connection:
        row = connection.execute(query).first()
    if row is None:
        return None
    values = dict(row._mapping)
    values["path"] = from_columns(values["path"], values.pop("path_raw"))
    values["content_hash"] = bytes(values["content_hash"]) if values["content_hash"] is not None else None
    return PictureRow(**values)
