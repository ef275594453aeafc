"""The desk of this machine: its database, its registry of models, and workers of its own where no others serve it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cli.context import has_database, make_home, open_database, registry
from cli.desk import (
    Check,
    ClassifyOrder,
    EvaluateOrder,
    Finding,
    FinetuneOrder,
    Progress,
    Submit,
)
from cli.local import is_embedded, local_stack
from worker.settings import Settings

if TYPE_CHECKING:
    from models.manifest import ModelVersion
    from models.records import ModelFacts
    from models.wishes import Overrides
    from store.asking import Answer
    from store.database import Database
    from store.facets import Summary
    from store.results import Filter, ResultRow
    from store.rows import JobRow
    from store.run_rows import EpochRow, FindingRow, RunRow
    from store.way import Order
    from worker.comparing import Comparison
    from worker.measuring import Measured
    from worker.reporting.metrics import Evaluation

LOOK_S = 0.1  # between two looks at a job that is watched


@dataclass(slots=True)
class LocalDesk:
    """Works on the home folder. The database is opened when the first question needs it."""

    settings: Settings
    _open: ExitStack = field(default_factory=ExitStack)
    _database: Database | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    @property
    def database(self) -> Database:
        """The database. Raises CommandError where there is none yet, StoreError."""
        return self._opened(create=False)

    def _opened(self, *, create: bool) -> Database:
        if self._database is None:
            self._database = self._open.enter_context(open_database(self.settings, create=create))
        return self._database

    def _made(self) -> Database:
        """The database, made where there is none yet: what is submitted needs one."""
        return self._opened(create=True)

    @property
    def where(self) -> str:
        """The database's file or address."""
        return f"Database: {self.database.where}"

    @property
    def works_here(self) -> bool:
        """Unless a broker is configured that other workers serve."""
        return is_embedded(self.settings)

    def patiently(self) -> AbstractContextManager[None]:
        """Nobody to wait for."""
        return nullcontext()

    # Jobs

    def jobs(self, limit: int) -> Sequence[JobRow]:
        """The newest jobs first; none where there is no database yet."""
        from store.insights import list_jobs

        return list_jobs(self.database, limit=limit) if has_database(self.settings) else []

    def job(self, job_id: int) -> JobRow:
        """One job. Raises UnknownJob."""
        from store.insights import job

        return job(self.database, job_id)

    def watch(self, job_id: int, check: Check) -> Iterator[JobRow]:
        """Looks at the database again and again. Raises UnknownJob, and what `check` raises."""
        from store.states import JobState

        while True:
            check()
            row = self.job(job_id)
            yield row
            if row.state.is_final or row.state is JobState.PAUSED:
                return
            time.sleep(LOOK_S)

    def summary(self, job_id: int) -> Summary:
        """From the job's tallies. Raises UnknownJob."""
        from store.facets import summary

        return summary(self.database, job_id)

    def pause(self, job_id: int) -> None:
        """Raises UnknownJob, IllegalMove."""
        from store.jobs import pause

        pause(self.database, job_id)

    def resume(self, job_id: int, max_failures: str | None = None) -> None:
        """Raises UnknownJob, IllegalMove, NothingToDo."""
        from store.jobs import resume

        resume(self.database, job_id, max_failures)

    def cancel(self, job_id: int, *, keep_best: bool = False) -> None:
        """Raises UnknownJob, IllegalMove."""
        from store.jobs import cancel

        cancel(self.database, job_id, keep_best)

    def retry(self, job_id: int, codes: Sequence[str] = (), max_failures: str | None = None) -> int:
        """Raises UnknownJob, IllegalMove, NothingToDo."""
        from store.jobs import retry

        return retry(self.database, job_id, codes, max_failures=max_failures)

    def remove(self, job_id: int) -> None:
        """Raises UnknownJob, IllegalMove."""
        from store.removal import remove

        remove(self.database, job_id)

    # Work

    def classify(self, order: ClassifyOrder) -> Submit:
        """See cli.orders."""
        from cli.orders import check_classify

        return check_classify(self.settings, self._made, order)

    def finetune(self, order: FinetuneOrder) -> Submit:
        """See cli.orders."""
        from cli.orders import check_finetune

        return check_finetune(self.settings, self._made, order)

    def evaluate(self, order: EvaluateOrder) -> Submit:
        """See cli.orders."""
        from cli.orders import check_evaluate

        return check_evaluate(self.settings, self._made, order)

    def at_work(self, queues: Sequence[str], device: str = "auto") -> AbstractContextManager[Check]:
        """Broker and workers of this command's own, where no others serve. Raises DeviceError, BrokerError, OSError."""
        from worker.devices import find_devices

        devices = find_devices(device)
        self._made()  # before a worker looks for its tables
        return local_stack(self.settings, devices, queues) if self.works_here else nullcontext(_nothing)

    # Results

    def results(self, job_id: int, chosen: Filter | None = None, order: Order = "item") -> Iterator[ResultRow]:
        """Streamed from the database. Raises UnknownJob at the first row."""
        from store.query import walk

        return walk(self.database, job_id, chosen, order)

    def export(self, job_id: int, chosen: Filter | None, out: Path, order: Order = "item") -> int:
        """Raises UnknownJob, CommandError for an ending that is none, OSError."""
        from cli.export import writer_for

        return writer_for(out)(out, self.results(job_id, chosen, order), self.job(job_id).top_k)

    @contextmanager
    def original(self, row: ResultRow, *, stays: bool = False) -> Iterator[Path]:  # noqa: ARG002  it does anyway
        """Where it always was."""
        yield Path(os.fsdecode(row.path))

    def measure(self, job_id: int) -> Measured | None:
        """By the database. Raises UnknownJob."""
        from worker.measuring import measure

        return measure(self.database, job_id)

    def conclude(self, job_id: int, split: str | None, report: Path) -> tuple[Evaluation, Path]:
        """The figures are written into the database too. Raises UnknownJob, InvalidRecipe."""
        from cli.concluding import conclude

        return conclude(self.database, self.settings, self.job(job_id), split, report)

    def query(self, text: str) -> AbstractContextManager[Answer]:
        """Raises QueryRefused."""
        from store.asking import ask

        return ask(self.database, text)

    # Runs

    def runs(self, limit: int) -> Sequence[RunRow]:
        """The newest runs first; none where there is no database yet."""
        from store.runs import list_runs

        return list_runs(self.database, limit=limit) if has_database(self.settings) else []

    def run(self, text: str) -> RunRow:
        """Raises UnknownRun."""
        from store.runs import resolve_run

        return resolve_run(self.database, text)

    def run_of_job(self, job_id: int) -> RunRow:
        """Raises UnknownRun."""
        from store.runs import run_of_job

        return run_of_job(self.database, job_id)

    def run_record(self, run: RunRow) -> dict[str, Any]:
        """A run as JSON."""
        from store.records import run_record
        from store.run_facts import facts_of

        facts = facts_of(self.database, [run])[run.id]
        return run_record(run, unreadable=facts.unreadable, evaluated_on=facts.evaluated_on)

    def epochs(self, run_id: int) -> Sequence[EpochRow]:
        """The history of a run."""
        from store.runs import epochs_of

        return epochs_of(self.database, run_id)

    def findings(self, run_id: int) -> Sequence[FindingRow]:
        """What the survey found."""
        from store.run_data import findings_of

        return findings_of(self.database, run_id)

    def compare(self, one: RunRow, other: RunRow) -> Comparison:
        """Raises StoreError."""
        from worker.comparing import compare_runs

        return compare_runs(self.database, one, other)

    # Models

    def models(self) -> Sequence[ModelFacts]:
        """Every version in the registry, with its aliases."""
        return [self._facts(version) for version in registry(self.settings).list()]

    def model(self, reference: str) -> ModelFacts:
        """Raises UnknownModel."""
        return self._facts(registry(self.settings).get(reference), with_labels=True)

    def _facts(self, version: ModelVersion, *, with_labels: bool = False) -> ModelFacts:
        from models.records import ModelFacts

        facts = version.manifest
        aliases = registry(self.settings).aliases(facts.name)
        mine = [alias for alias, number in aliases.items() if number == facts.version]
        return ModelFacts.of(version, mine, with_labels=with_labels)

    def import_model(
        self, file: Path, *, name: str | None, labels: Path | None, overrides: Overrides, progress: Progress
    ) -> ModelFacts:
        """In a sandbox. Raises InvalidModel."""
        from models.importing import import_any

        make_home(self.settings)
        known = registry(self.settings)
        return self._facts(import_any(file, known, name=name, labels=labels, overrides=overrides, progress=progress))

    def pull_model(self, preset: str, *, name: str | None, progress: Progress) -> ModelFacts:
        """Raises UnknownModel, HubUnreachable."""
        from models.pulling import pull

        make_home(self.settings)
        return self._facts(pull(preset, registry(self.settings), as_name=name, progress=progress))

    def export_model(self, reference: str, destination: Path) -> Path:
        """Raises UnknownModel, InvalidModel."""
        return registry(self.settings).export(reference, destination)

    def alias_model(self, reference: str, alias: str) -> ModelFacts:
        """Raises UnknownModel, InvalidModel."""
        return self._facts(registry(self.settings).alias(reference, alias))

    def remove_model(self, reference: str, *, force: bool) -> str:
        """Raises UnknownModel, InvalidModel."""
        return registry(self.settings).remove(reference, force=force).reference

    # The place itself

    def workers(self) -> Sequence[Mapping[str, Any]]:
        """From the table of workers; none where there is no database yet."""
        from dataclasses import asdict

        from store.records import worker_record
        from store.workers import list_workers

        if not has_database(self.settings):
            return []
        return [worker_record(asdict(row)) for row in list_workers(self.database)]

    def examine(self, *, quick: bool) -> Iterator[Finding]:
        """See cli.examining."""
        from cli.examining import examine

        return examine(self.settings, quick=quick)


def _nothing() -> None:
    """Workers elsewhere are not ours to check."""
