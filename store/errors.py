"""What can go wrong with the database or with a move that it refuses.

StoreError
├── UnknownJob            no job with this id
├── UnknownRun            no run with this number, name or model
├── IllegalMove           the job's state does not allow it
├── NothingToDo           a retry of a job in which nothing failed or is left
├── LeaseLost             the token no longer owns the shard: stop, discard, claim again
├── IncompleteShard       a shard was to be closed with items that have no result
├── SchemaMismatch        the database was made by another version of Pixmill
└── DatabaseUnavailable   not reachable, locked, read-only or full
    └── DatabaseFull      no space left: work pauses and goes on later
"""

from collections.abc import Sequence


class StoreError(Exception):
    """Root of every error that this package raises on purpose."""


class UnknownJob(StoreError):
    """No job has this id."""

    def __init__(self, job_id: int) -> None:
        super().__init__(f"There is no job {job_id}. `pixmill jobs list` shows what there is.")
        self.job_id = job_id


class UnknownRun(StoreError):
    """No run is called so."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no run {name}. `pixmill runs list` shows what there is.")
        self.name = name


class IllegalMove(StoreError):
    """The state of a job does not allow what was asked."""

    def __init__(self, job_id: int, state: str, asked: str) -> None:
        super().__init__(f"Job {job_id} is {state.replace('_', ' ')}: it cannot be {asked}.")
        self.job_id, self.state, self.asked = job_id, state, asked


class NothingToDo(StoreError):
    """There is nothing in the job to run again."""

    def __init__(self, job_id: int, codes: Sequence[str] = ()) -> None:
        what = f"failed as {' or '.join(codes)}" if codes else "failed or is left to do"
        super().__init__(f"Nothing in job {job_id} {what}: there is nothing to run again.")
        self.job_id = job_id


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
