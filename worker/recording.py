"""Writes down what a job over labelled images came to, as the database itself measured it: no image is read."""

from __future__ import annotations

from store.database import Database
from store.evaluations import evaluation, record_evaluation
from store.rows import JobRow
from store.run_rows import EvaluationFacts
from worker.measuring import Figures


def record_measured(database: Database, job: JobRow, figures: Figures, split: str | None = None) -> None:
    """Write the figures of a finished job, over earlier ones; `split` says of which part of a data set they are.

    What a run has written of its own evaluation stays: which part it is of, and where its report is. Raises StoreError.
    """
    before = evaluation(database, job.id)
    record_evaluation(
        database,
        job.id,
        EvaluationFacts(
            model_id=job.model_id or 0,
            images=figures.images,
            accuracy=figures.accuracy,
            top5=figures.top5,
            macro_f1=figures.macro.f1,
            ece=figures.ece,
            split=before.split if before is not None else split,
            run_id=before.run_id if before is not None else None,
            report_path=before.report_path if before is not None else None,
        ),
    )
