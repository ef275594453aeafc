"""Frozen rows of trainings: what the store is given of a run, its data and its evaluation, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from store import rows
from store.rows import NewResult

NewRun = rows.NewRun  # a run as accepted is part of its NewJob

RunState = Literal["queued", "running", "paused", "done", "failed", "cancelled"]
RunEnd = Literal["done", "cancelled", "failed"]
# What a person wants of a run now: go on; checkpoint and give the lease back (pause); end now, keep the best and call
# finish_run(…, "cancelled") (stop); end now and give the lease back (cancel); or the lease is lost: write nothing.
Wanted = Literal["go", "pause", "stop", "cancel", "lost"]
Split = Literal["train", "val", "test"]
FindingKind = Literal["duplicate", "near_duplicate", "label_conflict", "leak", "small_class"]


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run. `model` and `base_model` are references like `birds@3`; accuracy and top5 are its evaluation's."""

    id: int
    uid: str
    job_id: int | None  # None once the job is removed
    owner: str
    name: str
    state: RunState
    stage: str
    progress: dict[str, Any]
    recipe: dict[str, Any]
    options: dict[str, Any]
    seed: int | None
    monitor: str
    fingerprint: str | None
    census: dict[str, Any]
    base_model_id: int | None
    base_model: str | None
    model_id: int | None
    model: str | None
    continued_from: int | None
    device: str | None
    libraries: dict[str, str]
    code_version: str | None
    epochs_planned: int
    epochs: int  # in the history
    best_epoch: int | None
    best_value: float | None
    images_train: int | None
    images_val: int | None
    images_test: int | None
    checkpoint: str | None
    checkpoint_epoch: int | None
    checkpoint_step: int | None
    keep_best: bool  # a person asked for an early end that keeps the best
    evaluation_job_id: int | None
    accuracy: float | None
    top5: float | None
    report_path: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class EpochFacts:
    """One epoch as it ended, numbered from 1. `is_best`: of all so far, when it ended."""

    epoch: int
    phase: str
    loss: float | None
    accuracy: float | None
    top5: float | None
    val_loss: float | None
    val_accuracy: float | None
    val_top5: float | None
    learning_rate: float
    images_per_s: float
    seconds: float
    is_best: bool
    patience_left: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)  # whatever else was measured


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch of the history. `is_best`: of all; `restarted`: another attempt than that of the epoch before."""

    run_id: int
    epoch: int
    attempt: int
    restarted: bool
    phase: str
    loss: float | None
    accuracy: float | None
    top5: float | None
    val_loss: float | None
    val_accuracy: float | None
    val_top5: float | None
    learning_rate: float | None
    images_per_s: float | None
    seconds: float | None
    is_best: bool
    patience_left: int | None
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class RunItem:
    """One usable image of a run: the item's number in the job, its split, the hash of its bytes, what it belongs to."""

    idx: int
    split: Split
    content_hash: bytes
    group_key: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a survey found about one image or a pair; `distance` as the finder of duplicates measures it."""

    kind: FindingKind
    idx: int | None = None
    other_idx: int | None = None
    distance: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A finding with the files' full paths (readable text; None once the job is removed) and their splits."""

    kind: str
    idx: int | None
    path: str | None
    split: str | None
    other_idx: int | None
    other_path: str | None
    other_split: str | None
    distance: float | None
    detail: str


@dataclass(frozen=True, slots=True)
class Survey:
    """All that is known of the data before the first epoch. `failed`: the unreadable images, as failed results.

    `items` and `failed` together name every item of the job once.
    """

    items: Sequence[RunItem]
    findings: Sequence[Finding]
    failed: Sequence[NewResult]
    census: Mapping[str, Any]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class EvaluationFacts:
    """How good a model version is on labelled images: of a run's split, or of any labelled folder."""

    model_id: int
    images: int  # that have a true label and were classified
    accuracy: float
    top5: float | None = None
    macro_f1: float | None = None
    ece: float | None = None
    split: str | None = None
    run_id: int | None = None
    report_path: str | None = None


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One evaluation: a classify job over labelled items, and its figures."""

    job_id: int
    run_id: int | None
    model_id: int
    model: str
    split: str | None
    images: int
    accuracy: float
    top5: float | None
    macro_f1: float | None
    ece: float | None
    report_path: str | None
    created_at: float


@dataclass(frozen=True, slots=True)
class PredictionRow:
    """A classified image with its true label. `path` is the file's full path, `member` the name in an archive."""

    idx: int
    path: bytes
    member: str | None
    true_label: str
    label: str
    score: float
    topk: tuple[str, ...]  # labels, best first


@dataclass(frozen=True, slots=True)
class FlipRow:
    """An image that one of two jobs labelled right and the other wrong; `gained`: wrong in A, right in B."""

    path: str
    true_label: str
    label_a: str
    score_a: float
    label_b: str
    score_b: float
    gained: bool
