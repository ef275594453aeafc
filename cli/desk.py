"""The desk: everything that commands ask and have done, wherever that is: on this machine or on a server.

A command opens the desk (`cli.opening.open_desk`) and does not know which of the two it got. `cli.desk_local` works on
the database, the registry and the workers of this machine; `cli.desk_remote` asks a Pixmill server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from models.recipes import Recipe
    from models.records import ModelFacts
    from models.wishes import Overrides
    from store.asking import Answer
    from store.facets import Summary
    from store.results import Filter, ResultRow
    from store.rows import JobRow
    from store.run_rows import EpochRow, FindingRow, RunRow
    from store.way import Order
    from worker.comparing import Comparison
    from worker.measuring import Measured
    from worker.reporting.metrics import Evaluation

Labels = Literal["none", "folder"]
Check = Callable[[], None]  # called while waiting; what it raises ends the wait
Submit = Callable[[], int]  # submits what was checked, and returns the job's number
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Pictures:
    """What was named to be read. `upload`: whether a server gets the files or their paths; None is as far as it is."""

    paths: Sequence[str]
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    labels: Labels = "none"
    upload: bool | None = None


@dataclass(frozen=True, slots=True)
class ClassifyOrder:
    """Pictures to classify. `model` None is the only one there is; `max_failures` as store.failure_limits has it."""

    pictures: Pictures
    model: str | None = None
    top_k: int = 5
    reuse: bool = True
    priority: int = 5
    max_failures: str | None = None


@dataclass(frozen=True, slots=True)
class FinetuneOrder:
    """A training: of labelled pictures, or, without any, of those of the finished run that it goes on from."""

    pictures: Pictures | None
    name: str
    recipe: Recipe
    allow_leaks: bool = False
    priority: int = 5
    continued_from: RunRow | None = None


@dataclass(frozen=True, slots=True)
class EvaluateOrder:
    """Labelled pictures, all or those of one split, to evaluate a model on."""

    pictures: Pictures
    model: str | None = None
    split: str | None = None
    reuse: bool = True
    priority: int = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One point of an examination: what was looked at, whether it is well, and what was seen or is to be done."""

    point: str
    ok: bool
    detail: str


class Desk(Protocol):
    """Where commands work. Raises what `cli.errors` knows: a StoreError here is an ApiError of the same code there."""

    @property
    def where(self) -> str:
        """One line: where the rows are."""
        ...

    @property
    def works_here(self) -> bool:
        """Whether jobs run by workers of this very command, and so end with it."""
        ...

    def patiently(self) -> AbstractContextManager[None]:
        """For as long as this lasts, wait a while for a server that is away: one that restarts is soon back."""
        ...

    # Jobs

    def jobs(self, limit: int) -> Sequence[JobRow]:
        """The newest jobs first."""
        ...

    def job(self, job_id: int) -> JobRow:
        """One job."""
        ...

    def watch(self, job_id: int, check: Check) -> Iterator[JobRow]:
        """The job as it stands, again and again, until it is over or paused; that is the last."""
        ...

    def summary(self, job_id: int) -> Summary:
        """What came out of a job so far: classes, failures by reason, agreement with true labels."""
        ...

    def pause(self, job_id: int) -> None:
        """Pause a job."""
        ...

    def resume(self, job_id: int, max_failures: str | None = None) -> None:
        """Let a paused job go on, or one that failed, with what was never run."""
        ...

    def cancel(self, job_id: int, *, keep_best: bool = False) -> None:
        """End a job; a training, with `keep_best`, with a model."""
        ...

    def retry(self, job_id: int, codes: Sequence[str] = (), max_failures: str | None = None) -> int:
        """Run again what failed, and what was never run; how many images that are."""
        ...

    def remove(self, job_id: int) -> None:
        """Remove a finished job with all its rows."""
        ...

    # Work: an order is checked first, then workers stand by, then it is submitted

    def classify(self, order: ClassifyOrder) -> Submit:
        """Check an order to classify."""
        ...

    def finetune(self, order: FinetuneOrder) -> Submit:
        """Check an order to train."""
        ...

    def evaluate(self, order: EvaluateOrder) -> Submit:
        """Check an order to evaluate."""
        ...

    def at_work(self, queues: Sequence[str], device: str = "auto") -> AbstractContextManager[Check]:
        """Workers for these queues stand by for as long as this lasts; the check raises once none can run any more."""
        ...

    # Results

    def results(self, job_id: int, chosen: Filter | None = None, order: Order = "item") -> Iterator[ResultRow]:
        """Every matching result, by default in the order of the items."""
        ...

    def export(self, job_id: int, chosen: Filter | None, out: Path, order: Order = "item") -> int | None:
        """Write the matching results to a file that is there whole or not at all; how many, where that is known."""
        ...

    def original(self, row: ResultRow, *, stays: bool = False) -> AbstractContextManager[Path]:
        """The file of a classified image, on this machine for as long as this lasts; with `stays`, for good.

        Raises OSError where it cannot be had.
        """
        ...

    def measure(self, job_id: int) -> Measured | None:
        """How good a job's model was on its labelled images; None where it classified none."""
        ...

    def conclude(self, job_id: int, split: str | None, report: Path) -> tuple[Evaluation, Path]:
        """Measure a job that is over and write its report into a folder; returns the report's page too."""
        ...

    def query(self, text: str) -> AbstractContextManager[Answer]:
        """Ask the database, read-only."""
        ...

    # Runs

    def runs(self, limit: int) -> Sequence[RunRow]:
        """The newest runs first."""
        ...

    def run(self, text: str) -> RunRow:
        """The run of this number, this name (the newest), or that made this model."""
        ...

    def run_of_job(self, job_id: int) -> RunRow:
        """The run of a training's job."""
        ...

    def run_record(self, run: RunRow) -> dict[str, Any]:
        """A run for `--json`, with what its job and its evaluation say of it."""
        ...

    def epochs(self, run_id: int) -> Sequence[EpochRow]:
        """The history of a run."""
        ...

    def findings(self, run_id: int) -> Sequence[FindingRow]:
        """What was found odd in a run's pictures."""
        ...

    def compare(self, one: RunRow, other: RunRow) -> Comparison:
        """Two runs beside each other."""
        ...

    # Models

    def models(self) -> Sequence[ModelFacts]:
        """Every version of every model."""
        ...

    def model(self, reference: str) -> ModelFacts:
        """The version that a name, NAME@VERSION or NAME@ALIAS means, with its labels."""
        ...

    def import_model(
        self, file: Path, *, name: str | None, labels: Path | None, overrides: Overrides, progress: Progress
    ) -> ModelFacts:
        """Take a model file in, checked and compiled."""
        ...

    def pull_model(self, preset: str, *, name: str | None, progress: Progress) -> ModelFacts:
        """Fetch a pretrained classifier from its hub."""
        ...

    def export_model(self, reference: str, destination: Path) -> Path:
        """Write a version as a .zip or folder."""
        ...

    def alias_model(self, reference: str, alias: str) -> ModelFacts:
        """Give a version a second name."""
        ...

    def remove_model(self, reference: str, *, force: bool) -> str:
        """Remove a version; returns its full name."""
        ...

    # The place itself

    def workers(self) -> Sequence[Mapping[str, Any]]:
        """The workers that were seen lately, as records."""
        ...

    def examine(self, *, quick: bool) -> Iterator[Finding]:
        """Whether all is well, point by point."""
        ...
