"""Frozen rows: what the store is given and what its queries return."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from store.states import JobState


@dataclass(frozen=True, slots=True)
class NewItem:
    """One image as the scan found it. `path` is relative to the job's root, as the file system's bytes."""

    path: bytes
    size: int | None = None
    mtime_ns: int | None = None
    label: str | None = None
    split: str | None = None
    external_id: str | None = None
    extra: dict[str, str] | None = None
    member: str | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class NewRun:
    """One training as accepted with its job. `recipe` and `options` are JSON values.

    With `continued_from` (a run's id), the epochs, the checkpoint and the best of that run are copied.
    """

    name: str
    recipe: Mapping[str, Any]
    seed: int
    monitor: str = "val_loss"
    epochs_planned: int = 1  # of all phases, with those that are continued
    base_model_id: int | None = None
    continued_from: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    uid: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class NewJob:
    """One request, as accepted. `max_shard` bounds the items of a shard; small jobs get smaller ones.

    A job of kind `finetune` is one shard, and has its `run`.
    """

    model_id: int | None
    description: str = ""
    root: bytes = b"/"
    confined: bool = False
    top_k: int = 5
    reuse: bool = True
    priority: int = 5
    owner: str = ""
    queue: str = "classify"
    kind: str = "classify"
    options: dict[str, Any] = field(default_factory=dict)
    max_shard: int = 2048
    run: NewRun | None = None
    max_failures: str | None = None  # see store.failure_limits
    most_waiting: int | None = None  # images of its owner that may wait together, with its own


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One frozen item, as a worker needs it. `path` is bytes, relative to the job's root."""

    idx: int
    path: bytes
    size: int | None
    mtime_ns: int | None
    member: str | None
    offset: int | None


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One labelled item. `path` is bytes, relative to the job's root; `split` and `group` as the owner gave them."""

    idx: int
    path: bytes
    size: int | None
    mtime_ns: int | None
    member: str | None
    offset: int | None
    label: str
    split: str | None
    group: str | None


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job with its totals: found = classified + failed + pending."""

    id: int
    kind: str
    state: JobState
    owner: str
    priority: int
    description: str
    root: bytes
    confined: bool
    model_id: int | None
    model: str | None
    top_k: int
    reuse: bool
    found: int
    classified: int
    failed: int
    reused: int
    ignored: dict[str, int]
    created_at: float
    started_at: float | None
    finished_at: float | None
    error: str | None
    max_failures: str | None = None  # see store.failure_limits
    trouble: str | None = None  # what an open job waits for: space
    done_before: int = 0  # results of before the last retry: the times are of what ran since

    @property
    def pending(self) -> int:
        """Items without a result."""
        return self.found - self.classified - self.failed


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed shard: items lo ≤ idx < hi of a job, owned while the token holds."""

    shard_id: int
    job_id: int
    lo: int
    hi: int
    attempt: int
    token: str
    model_id: int | None
    worker_id: str


@dataclass(frozen=True, slots=True)
class NewResult:
    """The terminal row of an item. Either `label` … `topk`, or `error_code` and `error`."""

    idx: int
    status: str  # "ok" or "failed"
    error_code: str | None = None
    error: str | None = None
    label: str | None = None
    score: float | None = None
    topk: str | None = None
    content_hash: bytes | None = None
    width: int | None = None
    height: int | None = None
    reused: bool = False
    file_key: bytes | None = None  # where the file's path, size and time may answer for it next time


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One registered model version, as the database knows it."""

    id: int
    name: str
    version: int
    digest: str
    labels: tuple[str, ...]
    path: str

    @property
    def reference(self) -> str:
        """The full name, `birds@3`."""
        return f"{self.name}@{self.version}"
