"""States of a job and a shard, and which job moves are legal.

job:    scanning → accepted → running → done | done_with_errors | failed
                       ↕ paused ↕          ↓ retry: back to accepted
        any of these, once accepted → cancelling → cancelled
        failed: retry or resume: back to accepted
shard:  ready → leased → done;  leased → ready when released or expired;  ready | leased → cancelled
        leased too often → split in two; a single item is closed with an error row instead
        a training's one shard is never split: leased too often without progress, its job fails
run:    follows its job: queued, running, paused, done, failed, cancelled
"""

from enum import StrEnum


class JobKind(StrEnum):
    """What a job asks for."""

    CLASSIFY = "classify"
    FINETUNE = "finetune"


class JobState(StrEnum):
    """Where a job stands."""

    SCANNING = "scanning"  # items are being written; invisible to workers
    ACCEPTED = "accepted"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"  # no shard is handed out any more; the leased ones are being given back
    CANCELLED = "cancelled"
    DONE = "done"
    DONE_WITH_ERRORS = "done_with_errors"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """No work will happen unless a person asks for it."""
        return self in FINAL


FINAL = frozenset({JobState.CANCELLED, JobState.DONE, JobState.DONE_WITH_ERRORS, JobState.FAILED})
CLAIMABLE = frozenset({JobState.ACCEPTED, JobState.RUNNING})

# What a person may ask, and from which states.
PAUSABLE = CLAIMABLE
RESUMABLE = frozenset({JobState.PAUSED})
CANCELLABLE = frozenset({JobState.ACCEPTED, JobState.RUNNING, JobState.PAUSED, JobState.CANCELLING})
RETRYABLE = FINAL


class ShardState(StrEnum):
    """Where a shard stands."""

    READY = "ready"
    LEASED = "leased"
    DONE = "done"
    CANCELLED = "cancelled"
    SPLIT = "split"  # replaced by two halves


UNFINISHED = (ShardState.READY, ShardState.LEASED)
