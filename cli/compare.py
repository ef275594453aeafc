"""Two runs beside each other, for people; what is compared is `worker.comparing`'s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from cli.clock import clock
from cli.output import make_table, say, visible
from worker.comparing import Comparison, Figure, Value

if TYPE_CHECKING:
    from store.run_rows import FlipRow, RunRow

CLASSES = 12
FLIPS = 10
FINGERPRINT, SHORT = 64, 12  # letters, and how many of them are shown


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
    _print_flips(f"Right in {names[0]}, wrong in {names[1]}", found.flips.lost, found.flips.lost_count, to)
    _print_flips(f"Wrong in {names[0]}, right in {names[1]}", found.flips.gained, found.flips.gained_count, to)


def _print_classes(found: Comparison, names: tuple[str, str], to: Console) -> None:
    shown = list(found.classes.items())[:CLASSES]
    more = f", the {CLASSES} that changed most of {len(found.classes):,}" if len(found.classes) > CLASSES else ""
    say(f"\nClasses{more}:", to=to)
    rows = ((label, _figure("f1", a), _figure("f1", b), _change("f1", a, b), images) for label, (a, b, images) in shown)
    to.print(make_table(("class", f"F1 in {names[0]}", f"F1 in {names[1]}", "change", "images"), rows, right=(1, 2, 3)))


def _print_flips(title: str, flips: Sequence[FlipRow], count: int, to: Console) -> None:
    say(f"\n{title}: {count:,}", to=to)
    if flips:
        rows = ((visible(one.path), one.true_label, one.label_a, one.label_b) for one in flips[:FLIPS])
        to.print(make_table(("image", "is a", "was taken for", "now for"), rows))
    if count > FLIPS:
        listed = "all" if count == len(flips) else f"the first {len(flips):,}"
        say(f"and {count - FLIPS:,} more; --json lists {listed}.", to=to)


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
