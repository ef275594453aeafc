"""`pixmill evaluate`: how good a model is on labelled pictures, as figures, rows and a report."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.context import make_home, open_database, settings
from cli.errors import CommandError, Exit
from cli.measuring import as_json, print_classes, print_headline, print_mistakes
from cli.output import emit_json, out, say
from cli.submitting import counting, find_model, follow_to_end, no_check, ring, say_open
from worker.settings import Settings

if TYPE_CHECKING:
    from store.database import Database
    from store.rows import JobRow
    from worker.evaluating import Concluded
    from worker.sources.entry import Source

QUEUES = ("classify",)


@dataclass(frozen=True, slots=True)
class Question:
    """What `evaluate` was asked for."""

    source: Source
    model: str | None
    split: str | None
    reuse: bool
    priority: int
    device: str


def evaluate(
    dataset: Annotated[
        str | None,
        typer.Argument(help="Folder with a folder per class, manifest (.csv, .jsonl, .parquet), or archive."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="NAME, NAME@VERSION, or a preset's name.")] = None,
    split: Annotated[str | None, typer.Option(help="Only this part: train, val or test; all by default.")] = None,
    job: Annotated[
        int | None, typer.Option(help="Instead of DATASET: a classify job with labels that is over.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="The report's folder; reports/JOB in the home folder.")] = None,
    include: Annotated[list[str] | None, typer.Option(help="Only files that match this glob; may be repeated.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="No files that match this glob; may be repeated.")] = None,
    reuse: Annotated[bool, typer.Option(help="Take known answers for identical files.")] = True,
    priority: Annotated[int, typer.Option(min=0, max=9, help="0 goes first, 9 last.")] = 5,
    device: Annotated[str, typer.Option(help="Where to work in local mode: auto, cpu, GPU numbers or UUIDs.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="The evaluation as JSON on stdout.")] = False,
) -> None:
    """Evaluate a model on labelled pictures: accuracy, classes, confusion, calibration, mistakes, and a report."""
    from worker.sources.opening import open_source

    if (dataset is None) == (job is None):
        raise CommandError("Expected a DATASET, or --job JOB for a job that is over.")
    if job is not None and (model is not None or split is not None or include or exclude):
        raise CommandError("--job has its model and its pictures already: leave --model, --split and the globs away.")
    if report is not None and report.exists() and not report.is_dir():
        raise CommandError(f"--report: {report} is a file; name a folder.")
    chosen = settings()
    make_home(chosen)
    if dataset is None:
        with open_database(chosen) as database:
            raise typer.Exit(_tell(chosen, database, job or 0, report, None, json=json))
    source = open_source(
        [dataset],
        include=include or (),
        exclude=exclude or (),
        labels="folder",
        cache_dir=chosen.cache_folder / "archives",
    )
    question = Question(source, model, split, reuse, priority, device)
    with open_database(chosen, create=True) as database:
        job_id, code = _work(chosen, database, question)
        if code in (Exit.OK, Exit.WITH_FAILURES):
            code = _tell(chosen, database, job_id, report, split, json=json)
    raise typer.Exit(code)


def _work(chosen: Settings, database: Database, question: Question) -> tuple[int, Exit]:
    """Submit the evaluation's job, work on it where no server does, and follow it."""
    from cli.local import is_embedded, local_stack
    from worker.devices import find_devices
    from worker.evaluating import submit_evaluation
    from worker.finetuning import check_dataset

    version = find_model(chosen, question.model)
    with counting(question.source) as each:
        dataset = check_dataset(question.source, each)
    devices = find_devices(question.device)
    say_open(database, QUEUES)
    job_id = submit_evaluation(
        database, dataset, version, split=question.split, reuse=question.reuse, priority=question.priority
    )
    ring(chosen, job_id)
    with local_stack(chosen, devices, QUEUES) if is_embedded(chosen) else nullcontext(no_check) as check:
        return job_id, follow_to_end(chosen, database, job_id, check, quiet=True)


def _tell(
    chosen: Settings, database: Database, job_id: int, report: Path | None, split: str | None, *, json: bool
) -> Exit:
    """Measure a job that is over, write the report, and print both."""
    from cli.summary import end_code
    from store.evaluations import evaluation
    from store.insights import job as read_job
    from worker.evaluating import record

    row = read_job(database, job_id)
    if not row.state.is_final:
        raise CommandError(f"Job {job_id} is {row.state.value}, not over: `pixmill jobs follow {job_id}`.")
    concluded = _conclude(chosen, database, row, report)
    before = evaluation(database, job_id)  # of a run's own evaluation it stays known what it is
    run_id = before.run_id if before is not None else None
    record(database, job_id, concluded, split=before.split if before is not None else split, run_id=run_id)
    measured = concluded.evaluation
    if json:
        found = {"job_id": job_id, "model": row.model, "split": split, "report": str(concluded.page or "")}
        emit_json({**found, "unreadable": row.failed, **as_json(measured)})
        return end_code(row)
    print_headline(measured, f"{row.model}", out)
    print_classes(measured, out)
    print_mistakes(measured, out)
    say(f"Report: {concluded.page}", to=out)
    failed = f" · `pixmill results {job_id} --status failed`" if row.failed else ""
    say(f"Next: `pixmill results {job_id} --wrong`{failed}")
    return end_code(row)


def _conclude(chosen: Settings, database: Database, row: JobRow, report: Path | None) -> Concluded:
    from importlib.metadata import version

    from store.catalog import find_model as find_row
    from worker.evaluating import conclude
    from worker.reporting.page import ReportFacts

    if row.model_id is None:
        raise CommandError(f"Job {row.id} is a training; `pixmill runs show` tells how it went.")
    model = find_row(database, row.model_id)
    facts = ReportFacts(
        title=model.reference,
        created_at=datetime.now(UTC),
        subtitle=f"{row.classified:,} labelled images, {row.description}",
        facts={"Job": str(row.id), "Model": model.reference},
        versions={"pixmill": version("pixmill")},
    )
    folder = report if report is not None else chosen.home / "reports" / str(row.id)
    return conclude(database, chosen, row.id, model.labels, report=folder.absolute(), facts=facts)
