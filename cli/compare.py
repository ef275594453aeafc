"""Two runs beside each other: what was chosen differently, what came out, and which images changed sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cli.clock import clock
from cli.measuring import measure
from cli.output import make_table, say, visible
from cli.recipes import flat

if TYPE_CHECKING:
    from store.database import Database
    from store.run_rows import EpochRow, FlipRow, RunRow
    from worker.reporting.metrics import Evaluation

CLASSES = 12
FLIPS = 10
FINGERPRINT, SHORT = 64, 12  # letters, and how many of them are shown
FACTS = ("fingerprint", "device", "code_version", "images_train", "images_val", "images_test")

Value = Any  # of a recipe: a number, a word, or None where it was not chosen
Figure = float | int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs, A and B. settings: key → (A, B); metrics: name → (A, B); classes: label → (F1 in A, in B, images)."""

    settings: Mapping[str, tuple[Value, Value]]
    metrics: Mapping[str, tuple[Figure, Figure]]
    classes: Mapping[str, tuple[float | None, float | None, int]]
    lost: Sequence[FlipRow]
    gained: Sequence[FlipRow]


def compare_runs(database: Database, one: RunRow, other: RunRow) -> Comparison:
    """Compare two runs by their best epochs and by their evaluations. Raises StoreError."""
    from store.evaluations import flips
    from store.runs import epochs_of

    jobs = one.evaluation_job_id, other.evaluation_job_id
    measured = [measure(database, job) if job is not None else None for job in jobs]
    best = [next((epoch for epoch in epochs_of(database, run.id) if epoch.is_best), None) for run in (one, other)]
    flipped = flips(database, jobs[0], jobs[1]) if jobs[0] is not None and jobs[1] is not None else []
    return Comparison(
        settings=differing(_chosen(one), _chosen(other)),
        metrics=dict(_metrics((one, other), best, measured)),
        classes=_classes(measured[0], measured[1]),
        lost=[flip for flip in flipped if not flip.gained],
        gained=[flip for flip in flipped if flip.gained],
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
    runs: Sequence[RunRow], best: Sequence[EpochRow | None], measured: Sequence[Evaluation | None]
) -> Iterator[tuple[str, tuple[Figure, Figure]]]:
    one, other = runs
    yield "epochs", (one.epochs, other.epochs)
    yield "best epoch", (one.best_epoch, other.best_epoch)
    for name in ("val_loss", "val_accuracy", "val_top5", "loss", "accuracy"):
        first, second = (getattr(epoch, name) if epoch is not None else None for epoch in best)
        yield f"{name} of it", (first, second)
    yield "evaluated images", _pair(measured, lambda found: found.images)
    yield "evaluated accuracy", _pair(measured, lambda found: found.accuracy)
    yield "evaluated top-5", _pair(measured, lambda found: found.top5)
    yield "macro F1", _pair(measured, lambda found: found.macro.f1)
    yield "calibration error", _pair(measured, lambda found: found.ece)
    yield "seconds", (_seconds(one), _seconds(other))


def _pair(measured: Sequence[Evaluation | None], figure: Any) -> tuple[Figure, Figure]:
    one, other = (figure(found) if found is not None else None for found in measured)
    return one, other


def _seconds(run: RunRow) -> float | None:
    if run.started_at is None or run.finished_at is None:
        return None
    return run.finished_at - run.started_at


def _classes(one: Evaluation | None, other: Evaluation | None) -> dict[str, tuple[float | None, float | None, int]]:
    """Classes that both know, by how much their F1 changed."""
    if one is None or other is None:
        return {}
    first = {row.label: row for row in one.classes}
    both = [(row, first[row.label]) for row in other.classes if row.label in first]
    both.sort(key=lambda pair: (-abs((pair[0].f1 or 0) - (pair[1].f1 or 0)), pair[0].label))
    return {after.label: (before.f1, after.f1, after.support) for after, before in both if after.support}


def as_json(one: RunRow, other: RunRow, found: Comparison) -> dict[str, Any]:
    """A comparison for `--json`."""
    return {
        "a": {"run": one.id, "name": one.name, "model": one.model},
        "b": {"run": other.id, "name": other.name, "model": other.model},
        "settings": {key: {"a": a, "b": b} for key, (a, b) in found.settings.items()},
        "metrics": {key: {"a": a, "b": b} for key, (a, b) in found.metrics.items()},
        "classes": [
            {"label": label, "f1_a": a, "f1_b": b, "images": images} for label, (a, b, images) in found.classes.items()
        ],
        "right_to_wrong": [asdict(flip) for flip in found.lost],
        "wrong_to_right": [asdict(flip) for flip in found.gained],
    }


def print_comparison(one: RunRow, other: RunRow, found: Comparison, to: Console) -> None:
    """Settings, metrics, classes and images, as tables; what is the same is left out."""
    names = f"run {one.id}", f"run {other.id}"
    if found.settings:
        to.print(make_table(("setting", *names), ((key, _said(a), _said(b)) for key, (a, b) in found.settings.items())))
    else:
        say("Both have the same settings and data.", to=to)
    say("", to=to)
    rows = [(key, _figure(key, a), _figure(key, b), _change(key, a, b)) for key, (a, b) in found.metrics.items()]
    known = [row for row in rows if row[1:3] != ("–", "–")]
    to.print(make_table(("metric", *names, "change"), known, right=(1, 2, 3)))
    if one.fingerprint != other.fingerprint:
        say("\nThey saw different pictures: figures of the one say little of the other.", "yellow", to=to)
    if found.classes:
        _print_classes(found, names, to)
    _print_flips(f"Right in {names[0]}, wrong in {names[1]}", found.lost, to)
    _print_flips(f"Wrong in {names[0]}, right in {names[1]}", found.gained, to)


def _print_classes(found: Comparison, names: tuple[str, str], to: Console) -> None:
    shown = list(found.classes.items())[:CLASSES]
    more = f", the {CLASSES} that changed most of {len(found.classes):,}" if len(found.classes) > CLASSES else ""
    say(f"\nClasses{more}:", to=to)
    rows = ((label, _figure("f1", a), _figure("f1", b), _change("f1", a, b), images) for label, (a, b, images) in shown)
    to.print(make_table(("class", f"F1 in {names[0]}", f"F1 in {names[1]}", "change", "images"), rows, right=(1, 2, 3)))


def _print_flips(title: str, flips: Sequence[FlipRow], to: Console) -> None:
    say(f"\n{title}: {len(flips):,}", to=to)
    if flips:
        rows = ((visible(one.path), one.true_label, one.label_a, one.label_b) for one in flips[:FLIPS])
        to.print(make_table(("image", "is a", "was taken for", "now for"), rows))
    if len(flips) > FLIPS:
        say(f"and {len(flips) - FLIPS:,} more; --json lists all.", to=to)


def _said(value: Value) -> str:
    text = "–" if value is None else str(value)
    return text[:SHORT] + "…" if len(text) == FINGERPRINT else text


def _figure(key: str, value: Figure) -> str:
    if value is None:
        return "–"
    if key == "seconds":
        return clock(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _change(key: str, one: Figure, other: Figure) -> str:
    if one is None or other is None or one == other:
        return ""
    change = other - one
    if key == "seconds":
        return f"{'+' if change > 0 else '-'}{clock(abs(change))}"
    return f"{change:+,}" if isinstance(change, int) else f"{change:+.4f}"
