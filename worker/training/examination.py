"""What follows a training: the evaluation as a classify job, its report, and the model's card."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from models.card import CardFacts, ClassFacts, EvaluationFacts, TrainingFacts, card_text
from models.manifest import ModelVersion
from models.recipes import Recipe, check_recipe, write_recipe
from models.registry import Registry
from store.catalog import find_model
from store.database import Database
from store.evaluation_jobs import find_evaluation_job, marked
from store.evaluations import labelled_items
from store.insights import job as read_job
from store.jobs import accept
from store.rows import JobRow, Lease, NewJob
from store.run_rows import RunRow, Split, Wanted
from store.runs import epochs_of, set_evaluation, set_stage
from store.states import JobState
from worker.dispatch import Dispatcher
from worker.evaluating import Concluded, conclude, record
from worker.evaluation_jobs import TOP_K
from worker.settings import Settings

if TYPE_CHECKING:
    from worker.reporting.metrics import Evaluation
    from worker.reporting.page import ReportFacts

log = logging.getLogger(__name__)

POLL_S = 0.2
TELL_S = 1.0


class Examination:
    """The evaluation of one run's model. Every step can be repeated by another attempt."""

    def __init__(self, settings: Settings, database: Database, lease: Lease, sign: Callable[[], None]) -> None:
        self._settings = settings
        self._database = database
        self._lease = lease
        self._sign = sign
        self._registry = Registry(settings.models_folder)

    def run(self, run: RunRow, wish: Callable[[], Wanted]) -> bool:
        """Evaluate and report; False where the run is to be given back before that is done. Raises LeaseLost."""
        version = self._version(run)
        if not run.images_test and not run.images_val:
            return True  # nothing was held out
        split: Split = "test" if run.images_test else "val"
        job_id = run.evaluation_job_id or self._submit(run, version, split)
        job = self._wait(job_id, wish)
        if job is None:
            return False
        set_stage(self._database, self._lease, "reporting", {})
        if not job.classified or job.state in (JobState.CANCELLED, JobState.FAILED):
            log.warning("run %d: its evaluation, job %d, is %s: no figures", run.id, job_id, job.state)
            return True
        self._report(run, version, job_id, split)
        return True

    def _version(self, run: RunRow) -> ModelVersion:
        return self._registry.get(find_model(self._database, run.model_id or 0).reference)

    def _submit(self, run: RunRow, version: ModelVersion, split: Split) -> int:
        """The evaluation job, made unless an earlier attempt has."""
        job_id = find_evaluation_job(self._database, run.uid)
        if job_id is None:
            mine = read_job(self._database, self._lease.job_id)
            job = NewJob(
                model_id=run.model_id,
                description=f"evaluation of {version.reference}: {split} images of job {mine.id}",
                root=mine.root,
                confined=mine.confined,
                top_k=min(TOP_K, len(version.labels)),
                priority=0,  # a trainer waits for it, and it is small beside what it follows
                owner=mine.owner,
                options=marked(run.uid),
            )
            job_id = accept(self._database, job, labelled_items(self._database, mine.id, split))
        set_evaluation(self._database, self._lease, job_id, None)
        dispatcher = Dispatcher(self._settings)
        dispatcher.ring(job_id)
        dispatcher.close()
        return job_id

    def _wait(self, job_id: int, wish: Callable[[], Wanted]) -> JobRow | None:
        """The evaluation job once it has ended; None where the run is to be given back before."""
        told = 0.0
        while True:
            job = read_job(self._database, job_id)
            if job.state.is_final:
                return job
            if wish() in ("pause", "cancel", "lost"):
                return None
            self._sign()
            if time.monotonic() - told > TELL_S:
                told = time.monotonic()
                waiting = {"job": job_id, "paused": job.state is JobState.PAUSED}
                progress = {"done": job.classified + job.failed, "total": job.found, **waiting}
                set_stage(self._database, self._lease, "evaluating", progress)
            time.sleep(POLL_S)

    def _report(self, run: RunRow, version: ModelVersion, job_id: int, split: Split) -> None:
        """Write report and card into the version's folder, and the figures into the database."""
        with tempfile.TemporaryDirectory(prefix="pixmill-report-", dir=self._folder()) as place:
            folder = Path(place) / "report"
            facts = self._facts(run, version, split)
            concluded = conclude(self._database, self._settings, job_id, version.labels, report=folder, facts=facts)
            attached = self._registry.attach(version.reference, folder, self._card(run, version, split, concluded))
        page = str(attached.path / "report" / "index.html")
        concluded = replace(concluded, facts=replace(concluded.facts, report_path=page))
        record(self._database, job_id, concluded, split=split, run_id=run.id, lease=self._lease)
        set_evaluation(self._database, self._lease, job_id, page)

    def _folder(self) -> Path:
        folder = self._settings.runs_folder
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _facts(self, run: RunRow, version: ModelVersion, split: Split) -> ReportFacts:
        from worker.reporting.page import ReportFacts  # Matplotlib

        epochs = epochs_of(self._database, run.id)
        images = {"train": run.images_train, "val": run.images_val, "test": run.images_test}
        told = {
            "Run": f"{run.id}",
            "Base model": run.base_model or str(run.recipe.get("preset") or ""),
            "Images": ", ".join(f"{name} {count:,}" for name, count in images.items() if count),
            "Best epoch": f"{run.best_epoch} of {run.epochs} ({run.monitor} {run.best_value:.4g})"
            if run.best_value is not None
            else "",
            "Device": run.device or "",
            "Data fingerprint": (run.fingerprint or "")[:16],
        }
        return ReportFacts(
            title=version.reference,
            created_at=datetime.now(UTC),
            subtitle=f"{images[split] or 0:,} {split} images, {len(version.labels)} classes",
            epochs=epochs,
            restarts=[later.epoch for before, later in pairwise(epochs) if later.attempt != before.attempt],
            facts={name: value for name, value in told.items() if value},
            census=run.census,
            recipe=write_recipe(check_recipe(run.recipe)),
            versions={"pixmill": run.code_version or "", **run.libraries},
        )

    def _card(self, run: RunRow, version: ModelVersion, split: Split, concluded: Concluded) -> str:
        took = time.time() - run.started_at if run.started_at is not None else 0.0
        images = {"train": run.images_train or 0, "val": run.images_val or 0, "test": run.images_test or 0}
        training = TrainingFacts(
            run=str(run.id),
            images={name: count for name, count in images.items() if count},
            recipe=in_short(check_recipe(run.recipe)),
            epochs=run.epochs,
            best_epoch=run.best_epoch or 0,
            monitor=run.monitor,
            best_value=run.best_value or 0.0,
            seconds=took,
        )
        return card_text(version, CardFacts(training=training, evaluation=_card_facts(concluded.evaluation, split)))


def _card_facts(evaluation: Evaluation, split: str) -> EvaluationFacts:
    classes = [
        ClassFacts(one.label, one.support, one.precision or 0.0, one.recall or 0.0, one.f1 or 0.0)
        for one in evaluation.classes
        if one.support
    ]
    return EvaluationFacts(split, evaluation.images, evaluation.accuracy, evaluation.top5, classes)


def in_short(recipe: Recipe) -> str:
    """A recipe in one line, for a person."""
    rate = f"{recipe.optimizer.name} {recipe.optimizer.learning_rate:g}"
    parts = [recipe.mode.replace("_", " "), f"{recipe.total_epochs} epochs", rate, f"batches of {recipe.batch_size}"]
    if recipe.schedule.name != "constant":
        parts.append(recipe.schedule.name.replace("_", " "))
    switched = [
        name for name in ("flip", "crop_and_resize", "rand_augment", "cutout") if getattr(recipe.augmentation, name)
    ]
    mixed = [recipe.augmentation.mix] if recipe.augmentation.mix != "none" else []
    if switched or mixed:
        parts.append("with " + ", ".join(name.replace("_", " ") for name in [*switched, *mixed]))
    return ", ".join(parts)
