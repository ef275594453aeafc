"""What can go wrong with the database or with a move that it refuses.

StoreError
├── UnknownJob            no job with this id
├── UnknownRun            no run with this number, name or model
├── UnknownItem           no item with this number in the job
├── KeyTaken              another request has this idempotency key
├── ScanLost              another process scans the job, or nobody does any more: stop
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


class UnknownItem(StoreError):
    """The job has no item with this number."""

    def __init__(self, job_id: int, idx: int) -> None:
        super().__init__(f"There is no item {idx} in job {job_id}.")
        self.job_id, self.idx = job_id, idx


class KeyTaken(StoreError):
    """An idempotency key stands for a job already; `job_id` is None where that one is removed."""

    def __init__(self, job_id: int | None, *, fingerprint_matches: bool) -> None:
        what = "the same request" if fingerprint_matches else "another request"
        whose = f"made job {job_id}" if job_id is not None else "made a job that is removed"
        super().__init__(f"The idempotency key was used before, by {what}, which {whose}.")
        self.job_id, self.fingerprint_matches = job_id, fingerprint_matches


class ScanLost(StoreError):
    """The job is not this process's to scan any more; nothing of this scan may be written."""

    def __init__(self, job_id: int) -> None:
        super().__init__(f"The scan of job {job_id} was taken over, or the job is removed.")
        self.job_id = job_id


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
    """There is no space left for the database; `what` names it in a sentence."""

    def __init__(self, message: str, what: str = "the database") -> None:
        super().__init__(message)
        self.what = what
