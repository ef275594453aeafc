"""How good a model was in a job over labelled images: measured from its rows, printed, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console

from cli.context import settings
from cli.output import make_table, say

if TYPE_CHECKING:
    from store.database import Database
    from worker.reporting.metrics import Evaluation

PAIRS = 5
CLASSES = 8
MISTAKES = 5
MOST_CLASSES_IN_FULL = 12


def measure(database: Database, job_id: int) -> Evaluation | None:
    """The metrics of a classify job over its labelled images; None where it classified none. Raises UnknownJob."""
    from models.errors import InvalidRecipe
    from store.catalog import find_model
    from store.insights import job as read_job
    from worker.evaluating import conclude

    row = read_job(database, job_id)
    if row.model_id is None:
        return None
    try:
        return conclude(database, settings(), job_id, find_model(database, row.model_id).labels).evaluation
    except InvalidRecipe:
        return None


def print_headline(evaluation: Evaluation, name: str, to: Console) -> None:
    """One line of figures, and the pairs of classes that are confused the most."""
    from worker.reporting.text import headline, worst_pairs

    say(f"{name}: {headline(evaluation)}", "bold", to=to)
    if evaluation.correct < evaluation.images:
        say("Confused the most:", to=to)
        for line in worst_pairs(evaluation, PAIRS, min(to.width, 100)):
            say(f"  {line}", to=to)


def print_classes(evaluation: Evaluation, to: Console) -> None:
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


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation for `--json`: figures, classes, and the cells of the confusion matrix that are not empty."""
    return {
        "images": evaluation.images,
        "correct": evaluation.correct,
        "accuracy": evaluation.accuracy,
        "top5": evaluation.top5,
        "macro_f1": evaluation.macro.f1,
        "weighted_f1": evaluation.weighted.f1,
        "calibration_error": evaluation.ece,
        "classes": [
            {
                "label": row.label,
                "images": row.support,
                "predicted": row.predicted,
                "correct": row.correct,
                "precision": row.precision,
                "recall": row.recall,
                "f1": row.f1,
            }
            for row in evaluation.classes
        ],
        "confusion": [
            {"true": evaluation.labels[true], "predicted": evaluation.labels[predicted], "images": images}
            for (true, predicted), images in sorted(evaluation.cells.items())
        ],
    }
