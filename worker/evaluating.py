"""What is concluded from the rows of an evaluation: figures, and a report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import ImageError, InvalidRecipe
from store.database import Database
from store.evaluation_jobs import item_at
from store.evaluations import predictions, record_evaluation
from store.insights import job as read_job
from store.rows import Lease
from store.run_rows import EvaluationFacts
from worker.reading import Location, Reader
from worker.settings import Settings

if TYPE_CHECKING:
    from worker.reporting.metrics import Evaluation, Prediction
    from worker.reporting.page import ReportFacts


@dataclass(frozen=True, slots=True)
class Concluded:
    """What an evaluation job came to. `page`: the report's, where one was asked for."""

    facts: EvaluationFacts
    evaluation: Evaluation
    page: Path | None


def conclude(
    database: Database,
    settings: Settings,
    job_id: int,
    labels: tuple[str, ...],
    *,
    report: Path | None = None,
    facts: ReportFacts | None = None,
) -> Concluded:
    """Measure a finished evaluation job; with `report`, write that folder, `facts` being what else it tells.

    Raises InvalidRecipe where no labelled picture was classified, StoreError.
    """
    from worker.reporting.metrics import evaluate  # numpy

    rows = list(_predictions(database, job_id))
    if not rows:
        raise InvalidRecipe(f"Job {job_id} classified no picture that has a label; there is nothing to evaluate.")
    measured = evaluate(rows, labels)
    page = None
    if report is not None and facts is not None:
        from worker.reporting.page import write_report  # Matplotlib

        pictures = Pictures(database, settings, job_id)
        page = write_report(report, replace(facts, evaluation=measured, picture=pictures))
    figures = EvaluationFacts(
        model_id=read_job(database, job_id).model_id or 0,
        images=measured.images,
        accuracy=measured.accuracy,
        top5=measured.top5,
        macro_f1=measured.macro.f1,
        ece=measured.ece,
        report_path=str(page) if page is not None else None,
    )
    return Concluded(figures, measured, page)


def record(
    database: Database,
    job_id: int,
    concluded: Concluded,
    *,
    split: str | None = None,
    run_id: int | None = None,
    lease: Lease | None = None,
) -> None:
    """Write the figures down. Raises LeaseLost, StoreError."""
    record_evaluation(database, job_id, replace(concluded.facts, split=split, run_id=run_id), lease)


def _predictions(database: Database, job_id: int) -> Iterator[Prediction]:
    from worker.reporting.metrics import Prediction

    for row in predictions(database, job_id):
        path = row.path.decode("utf-8", "backslashreplace") + (f"!/{row.member}" if row.member else "")
        yield Prediction(path, row.true_label, row.label, row.score, row.topk, row.idx)


class Pictures:
    """Gives the bytes of evaluated pictures, for a gallery."""

    def __init__(self, database: Database, settings: Settings, job_id: int) -> None:
        self._database = database
        self._job = read_job(database, job_id)
        self._reader = Reader(settings.max_file_mb << 20, settings.cache_folder / "archives")

    def __call__(self, prediction: Prediction) -> bytes | None:
        """The file of one picture; None where it cannot be read any more."""
        item = item_at(self._database, self._job.id, prediction.idx)
        if item is None:
            return None
        where = Location(
            self._job.root, item.path, self._job.confined, item.size, item.mtime_ns, item.member, item.offset
        )
        try:
            return self._reader.read(where).data
        except ImageError:
            return None
