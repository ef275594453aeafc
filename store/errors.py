"""What can go wrong with the database or with a move that it refuses.

StoreError
├── UnknownJob            no job with this id
├── IllegalMove           the job's state does not allow it
├── LeaseLost             the token no longer owns the shard: stop, discard, claim again
├── IncompleteShard       a shard was to be closed with items that have no result
├── SchemaMismatch        the database was made by another version of Pixmill
└── DatabaseUnavailable   not reachable, locked, read-only or full
    └── DatabaseFull      no space left: work pauses and goes on later
"""

from sqlalchemy.exc import DBAPIError, OperationalError


class StoreError(Exception):
    """Root of every error that this package raises on purpose."""


class UnknownJob(StoreError):
    """No job has this id."""

    def __init__(self, job_id: int) -> None:
        super().__init__(f"There is no job {job_id}. `pixmill jobs list` shows what there is.")
        self.job_id = job_id


class IllegalMove(StoreError):
    """The state of a job does not allow what was asked."""

    def __init__(self, job_id: int, state: str, asked: str) -> None:
        super().__init__(f"Job {job_id} is {state.replace('_', ' ')}: it cannot be {asked}.")
        self.job_id, self.state, self.asked = job_id, state, asked


class LeaseLost(StoreError):
    """Another claim, a cancel or the sweeper took the shard; nothing of this attempt may be written."""

    def __init__(self, shard_id: int) -> None:
        super().__init__(f"the lease of shard {shard_id} was lost")
        self.shard_id = shard_id


class IncompleteShard(StoreError):
    """Closing this shard would leave items without a result: a bug, never a user's mistake."""

    def __init__(self, shard_id: int, expected: int, found: int) -> None:
        super().__init__(f"shard {shard_id}: expected {expected} results before closing it, found {found}")
        self.shard_id, self.expected, self.found = shard_id, expected, found


class SchemaMismatch(StoreError):
    """The database has another schema than this Pixmill works with."""


class DatabaseUnavailable(StoreError):
    """The database cannot be used now; the message says why and what to do."""


class DatabaseFull(DatabaseUnavailable):
    """There is no space left for the database."""


def explain(error: DBAPIError, where: str) -> StoreError:
    """The error as a person needs it: what is wrong with the database at `where`, and what to do."""
    text = str(error.orig)
    lower = text.lower()
    if "disk is full" in lower or "no space left" in lower or getattr(error.orig, "sqlstate", "") == "53100":
        return DatabaseFull(f"No space left for the database {where}. Free some and try again; nothing was lost.")
    if "readonly" in lower or "read-only" in lower:
        return DatabaseUnavailable(f"The database {where} is read-only. Check the rights of the file and its folder.")
    if "unable to open" in lower:
        return DatabaseUnavailable(
            f"The database {where} cannot be opened. Check that its folder exists and is writable."
        )
    if "not a database" in lower or "malformed" in lower:
        return DatabaseUnavailable(f"The file {where} is not a healthy SQLite database: {text}.")
    if "locked" in lower:
        return DatabaseUnavailable(f"The database {where} stayed locked by another program. Try again.")
    if isinstance(error, OperationalError):
        return DatabaseUnavailable(f"The database {where} cannot be reached: {text.strip()}")
    return StoreError(f"The database {where} refused: {text.strip()}")
