"""What an evaluation that is over came to: measured, written down, and told in a report that is one folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cli.desk import Desk
from cli.errors import CommandError
from cli.output import name_text

if TYPE_CHECKING:
    from store.database import Database
    from store.results import ResultRow
    from store.rows import JobRow
    from worker.reporting.metrics import Evaluation, Prediction
    from worker.reporting.page import ReportFacts
    from worker.settings import Settings


def conclude(
    database: Database, chosen: Settings, row: JobRow, split: str | None, report: Path
) -> tuple[Evaluation, Path]:
    """Measure a job of this database, write report and figures. Raises InvalidRecipe, StoreError, CommandError."""
    from store.catalog import find_model
    from store.evaluations import evaluation
    from worker.evaluating import conclude as measured
    from worker.evaluating import record

    facts = report_facts(row)
    model = find_model(database, row.model_id or 0)
    concluded = measured(database, chosen, row.id, model.labels, report=report, facts=facts)
    before = evaluation(database, row.id)  # of a run's own evaluation it stays known what it is
    run_id = before.run_id if before is not None else None
    record(database, row.id, concluded, split=before.split if before is not None else split, run_id=run_id)
    return concluded.evaluation, concluded.page or report


def conclude_elsewhere(desk: Desk, row: JobRow, report: Path) -> tuple[Evaluation, Path]:
    """Measure a job from the rows that a desk gives, and write its report here. Raises InvalidRecipe, CommandError."""
    from models.errors import InvalidRecipe
    from store.results import Filter
    from worker.reporting.metrics import evaluate
    from worker.reporting.page import write_report

    facts = report_facts(row)
    found = {
        result.idx: result for result in desk.results(row.id, Filter(status="ok")) if result.true_label is not None
    }
    if not found:
        raise InvalidRecipe(f"Job {row.id} classified no picture that has a label; there is nothing to evaluate.")
    measured = evaluate([_prediction(result) for result in found.values()], _labels(desk, row, found.values()))

    def picture(prediction: Prediction) -> bytes | None:
        try:
            with desk.original(found[prediction.idx]) as file:
                return file.read_bytes()
        except OSError:
            return None

    return measured, write_report(report, replace(facts, evaluation=measured, picture=picture))


def _prediction(row: ResultRow) -> Prediction:
    from worker.reporting.metrics import Prediction

    path = name_text(row.path) + (f"!/{row.member}" if row.member else "")
    topk = tuple(str(entry["label"]) for entry in row.topk)
    return Prediction(path, row.true_label or "", row.label or "", row.score or 0.0, topk, row.idx)


def _labels(desk: Desk, row: JobRow, rows: Iterable[ResultRow]) -> tuple[str, ...]:
    """The model's class names; of a model that was removed, those that occur."""
    for version in desk.models():
        if version.reference == row.model:
            return desk.model(version.reference).labels or ()
    return tuple(sorted({name for result in rows for name in (result.true_label, result.label) if name}))


def report_facts(row: JobRow) -> ReportFacts:
    """What the report says besides figures. Raises CommandError for a training, ImportError without the extra."""
    from importlib.metadata import version

    from worker.reporting.page import ReportFacts

    if row.model is None:
        raise CommandError(f"Job {row.id} is a training; `pixmill runs show` tells how it went.")
    return ReportFacts(
        title=row.model,
        created_at=datetime.now(UTC),
        subtitle=f"{row.classified:,} labelled images, {row.description}",
        facts={"Job": str(row.id), "Model": row.model},
        versions={"pixmill": version("pixmill")},
    )
