"""How good a model was in a job over labelled images: printed, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from cli.output import make_table, say

if TYPE_CHECKING:
    from worker.measuring import Measured
    from worker.reporting.metrics import Evaluation

PAIRS = 5
CLASSES = 8
MISTAKES = 5
MOST_CLASSES_IN_FULL = 12


def print_headline(evaluation: Evaluation | Measured, name: str, to: Console) -> None:
    """One line of figures, and the pairs of classes that are confused the most."""
    from worker.reporting.text import headline, worst_pairs

    say(f"{name}: {headline(evaluation)}", "bold", to=to)
    if evaluation.correct < evaluation.images:
        say("Confused the most:", to=to)
        for line in worst_pairs(evaluation, PAIRS, min(to.width, 100)):
            say(f"  {line}", to=to)


def print_classes(evaluation: Evaluation | Measured, to: Console) -> None:
    """The table of classes, the weakest first; of very many only those."""
    from worker.reporting.text import CLASS_COLUMNS, class_rows

    few = len(evaluation.labels) <= MOST_CLASSES_IN_FULL
    if not few:
        say(f"The {CLASSES} weakest of {len(evaluation.labels):,} classes:", to=to)
    rows = class_rows(evaluation, None if few else CLASSES)
    to.print(make_table(CLASS_COLUMNS, rows, right=range(1, len(CLASS_COLUMNS))))


def print_mistakes(evaluation: Evaluation, to: Console) -> None:
    """The most confident mistakes."""
    if evaluation.mistakes:
        rows = ((one.path, one.true, one.predicted, one.score) for one in evaluation.mistakes[:MISTAKES])
        to.print(make_table(("most confident mistakes", "is a", "taken for a", "score"), rows))
