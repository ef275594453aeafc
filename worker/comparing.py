"""Two runs beside each other: what was chosen differently, what came out, and which images changed sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from models.recipes import flat
from store.database import Database
from store.evaluations import Flips, flips
from store.run_rows import EpochRow, RunRow
from store.runs import epochs_of
from worker.measuring import Measured, measure

FACTS = ("fingerprint", "device", "code_version", "images_train", "images_val", "images_test")
MEASURES = ("val_loss", "val_accuracy", "val_top5", "loss", "accuracy")

Value = Any  # of a recipe: a number, a word, or None where it was not chosen
Figure = float | int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs, A and B. settings: key → (A, B); metrics: name → (A, B); classes: label → (F1 in A, in B, images)."""

    settings: Mapping[str, tuple[Value, Value]]
    metrics: Mapping[str, tuple[Figure, Figure]]
    classes: Mapping[str, tuple[float | None, float | None, int]]
    flips: Flips


def compare_runs(
    database: Database, one: RunRow, other: RunRow, known: Sequence[Measured | None] | None = None
) -> Comparison:
    """Compare two runs by their best epochs and by their evaluations. Raises StoreError.

    `known`: the two evaluations, where they are measured already.
    """
    jobs = one.evaluation_job_id, other.evaluation_job_id
    measured = known if known is not None else [measure(database, job) if job is not None else None for job in jobs]
    best = [next((epoch for epoch in epochs_of(database, run.id) if epoch.is_best), None) for run in (one, other)]
    return Comparison(
        settings=differing(_chosen(one), _chosen(other)),
        metrics=dict(_metrics((one, other), best, measured)),
        classes=_classes(measured[0], measured[1]),
        flips=flips(database, jobs[0], jobs[1]) if jobs[0] is not None and jobs[1] is not None else Flips(),
    )


def differing(one: Mapping[str, Value], other: Mapping[str, Value]) -> dict[str, tuple[Value, Value]]:
    """The keys whose values differ, with both; None where one does not have it."""
    keys = dict.fromkeys([*one, *other])
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


def _chosen(run: RunRow) -> dict[str, Value]:
    """Everything that was chosen, or that was given by where the run was made."""
    facts = {f"({name})": getattr(run, name) for name in FACTS}
    libraries = {f"({name})": version for name, version in run.libraries.items()}
    return {**flat(run.recipe), **facts, **libraries}


def _metrics(
    runs: tuple[RunRow, RunRow], best: Sequence[EpochRow | None], measured: Sequence[Measured | None]
) -> Iterator[tuple[str, tuple[Figure, Figure]]]:
    one, other = runs
    yield "epochs", (one.epochs, other.epochs)
    yield "best epoch", (one.best_epoch, other.best_epoch)
    for name in MEASURES:
        first, second = (getattr(epoch, name) if epoch is not None else None for epoch in best)
        yield f"{name} of it", (first, second)
    yield "evaluated images", _pair(measured, lambda found: found.images)
    yield "evaluated accuracy", _pair(measured, lambda found: found.accuracy)
    yield "evaluated top-5", _pair(measured, lambda found: found.top5)
    yield "macro F1", _pair(measured, lambda found: found.macro.f1)
    yield "calibration error", _pair(measured, lambda found: found.ece)
    yield "seconds", (_seconds(one), _seconds(other))


def _pair(measured: Sequence[Measured | None], figure: Callable[[Measured], Figure]) -> tuple[Figure, Figure]:
    one, other = (figure(found) if found is not None else None for found in measured)
    return one, other


def _seconds(run: RunRow) -> float | None:
    if run.started_at is None or run.finished_at is None:
        return None
    return run.finished_at - run.started_at


def _classes(one: Measured | None, other: Measured | None) -> dict[str, tuple[float | None, float | None, int]]:
    """Classes that both know, by how much their F1 changed."""
    if one is None or other is None:
        return {}
    first = {row.label: row for row in one.classes}
    both = [(row, first[row.label]) for row in other.classes if row.label in first]
    both.sort(key=lambda pair: (-abs((pair[0].f1 or 0) - (pair[1].f1 or 0)), pair[0].label))
    return {after.label: (before.f1, after.f1, after.support) for after, before in both if after.support}


def comparison_record(one: RunRow, other: RunRow, found: Comparison) -> dict[str, Any]:
    """A comparison as JSON."""
    return {
        "a": {"run": one.id, "name": one.name, "model": one.model},
        "b": {"run": other.id, "name": other.name, "model": other.model},
        "settings": {key: {"a": a, "b": b} for key, (a, b) in found.settings.items()},
        "metrics": {key: {"a": a, "b": b} for key, (a, b) in found.metrics.items()},
        "classes": [
            {"label": label, "f1_a": a, "f1_b": b, "images": images} for label, (a, b, images) in found.classes.items()
        ],
        "flips": {"right_to_wrong": found.flips.lost_count, "wrong_to_right": found.flips.gained_count},
        "right_to_wrong": [asdict(flip) for flip in found.flips.lost],
        "wrong_to_right": [asdict(flip) for flip in found.flips.gained],
    }
