"""Runs over HTTP: their facts, epochs, evaluations, findings, and two of them beside each other."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from api.schemas.text import MAX_ID, Input, Output, Plain

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=MAX_ID)]


class RunImages(Output):
    """How many images are in each part; null before they were counted."""

    train: Count | None
    val: Count | None
    test: Count | None


class Run(Output):
    """One training. `accuracy` and `top5` are those of its evaluation; `stage` and `progress` only while it runs."""

    run: int
    uid: str
    job_id: int | None
    name: str
    state: str
    stage: str | None
    progress: dict[str, Any] | None
    model: str | None
    base: str | None
    base_model: str | None
    recipe: dict[str, Any]
    options: dict[str, Any]
    monitor: str
    epochs: Count
    epochs_planned: Count
    best_epoch: int | None
    best_value: float | None
    keep_best: bool
    checkpoint_epoch: int | None
    images: RunImages
    unreadable: Count | None
    census: dict[str, Any]
    evaluation_job_id: int | None
    evaluated_on: str | None
    accuracy: float | None
    top5: float | None
    report: str | None
    continued_from: int | None
    fingerprint: str | None
    seed: int | None
    device: str | None
    libraries: dict[str, str]
    code_version: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    error: str | None


class Epoch(Output):
    """One epoch of a run. `is_best`: of all; `restarted`: another attempt than that of the epoch before."""

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
    metrics: dict[str, float | None]


class ClassScores(Output):
    """How one class went; null where it is not defined."""

    label: str
    images: Count
    predicted: Count
    correct: Count
    precision: Share | None
    recall: Share | None
    f1: Share | None


class ConfusionCell(Output):
    """How many images of one true label got one prediction."""

    true: str
    predicted: str
    images: Annotated[int, Field(ge=1)]


class ScoreTenth(Output):
    """Images whose score lies between low and high: were they right as often as the scores say?"""

    low: Share
    high: Share
    images: Count
    mean_score: float | None
    accuracy: Share | None


class Evaluation(Output):
    """How good a model was on labelled images: figures, classes, and what is not zero of the confusion matrix."""

    images: Count
    correct: Count
    accuracy: Share
    top5: Share
    macro_f1: Share
    weighted_f1: Share
    calibration_error: float
    classes: list[ClassScores]
    confusion: list[ConfusionCell]


class Recorded(Input):
    """What is said of an evaluation that is written down."""

    split: (
        Annotated[
            str, Field(min_length=1, max_length=16, description="Of which part of the data: train, val, test."), Plain
        ]
        | None
    ) = None


class Finding(Output):
    """Something odd about one image or a pair; paths are null once the run's job is removed."""

    kind: str
    idx: int | None
    path: str | None
    split: str | None
    other_idx: int | None
    other_path: str | None
    other_split: str | None
    distance: float | None
    detail: str


class Compared(Output):
    """One of two runs."""

    run: int
    name: str
    model: str | None


class Pair(Output):
    """A value in the one run and in the other."""

    a: Any
    b: Any


class ClassChange(Output):
    """One class in both evaluations."""

    label: str
    f1_a: float | None
    f1_b: float | None
    images: Count


class Flip(Output):
    """An image that one of the two labelled right and the other wrong; `gained`: wrong in A, right in B."""

    path: str
    true_label: str
    label_a: str
    score_a: float
    label_b: str
    score_b: float
    gained: bool


class FlipCounts(Output):
    """How many images changed sides."""

    right_to_wrong: Count
    wrong_to_right: Count


class Comparison(Output):
    """Two runs: settings that differ, figures, classes by how much they changed, images that changed sides.

    `flips` counts all of those; of each kind the first 10,000 by path are listed.
    """

    a: Compared
    b: Compared
    settings: dict[str, Pair]
    metrics: dict[str, Pair]
    classes: list[ClassChange]
    flips: FlipCounts
    right_to_wrong: list[Flip]
    wrong_to_right: list[Flip]


class Runs(Output):
    """A page of runs, the newest first."""

    items: list[Run]
    next: str | None


class Epochs(Output):
    """A page of epochs, in order."""

    items: list[Epoch]
    next: str | None


class Classes(Output):
    """A page of classes, in the model's order."""

    items: list[ClassScores]
    next: str | None


class Confusion(Output):
    """A page of the confusion matrix, by true label and prediction."""

    items: list[ConfusionCell]
    next: str | None


class Calibration(Output):
    """Ten tenths of the scores, and the mean gap between score and accuracy."""

    calibration_error: float
    items: list[ScoreTenth]
    next: None = None


class Findings(Output):
    """A page of findings, in the order in which they were found."""

    items: list[Finding]
    next: str | None
