"""`pixmill evaluate`: how good a model is on labelled pictures, as figures, rows and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.classify import Upload
from cli.context import make_home, settings
from cli.desk import Desk, EvaluateOrder, Pictures
from cli.errors import CommandError, Exit
from cli.measuring import print_classes, print_headline, print_mistakes
from cli.opening import open_desk
from cli.output import emit_json, out, say
from cli.submitting import carry_out

QUEUES = ("classify",)


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
    upload: Upload = None,
    json: Annotated[bool, typer.Option("--json", help="The evaluation as JSON on stdout.")] = False,
) -> None:
    """Evaluate a model on labelled pictures: accuracy, classes, confusion, calibration, mistakes, and a report."""
    if (dataset is None) == (job is None):
        raise CommandError("Expected a DATASET, or --job JOB for a job that is over.")
    if job is not None and (model is not None or split is not None or include or exclude):
        raise CommandError("--job has its model and its pictures already: leave --model, --split and the globs away.")
    if report is not None and report.exists() and not report.is_dir():
        raise CommandError(f"--report: {report} is a file; name a folder.")
    with open_desk() as desk:
        if dataset is None:
            raise typer.Exit(_tell(desk, job or 0, report, None, json=json))
        pictures = Pictures([dataset], include or (), exclude or (), "folder", upload)
        submit = desk.evaluate(EvaluateOrder(pictures, model, split, reuse, priority))
        job_id, code = carry_out(desk, submit, QUEUES, device, quiet=True)
        if code in (Exit.OK, Exit.WITH_FAILURES):
            code = _tell(desk, job_id, report, split, json=json)
    raise typer.Exit(code)


def _tell(desk: Desk, job_id: int, report: Path | None, split: str | None, *, json: bool) -> Exit:
    """Measure a job that is over, write the report, and print both."""
    from cli.summary import end_code
    from worker.measuring import evaluation_record

    chosen = settings()
    make_home(chosen)
    row = desk.job(job_id)
    if not row.state.is_final:
        raise CommandError(f"Job {job_id} is {row.state.value}, not over: `pixmill jobs follow {job_id}`.")
    folder = report if report is not None else chosen.home / "reports" / str(job_id)
    measured, page = desk.conclude(job_id, split, folder.absolute())
    if json:
        found = {"job_id": job_id, "model": row.model, "split": split, "report": str(page)}
        emit_json({**found, "unreadable": row.failed, **evaluation_record(measured)})
        return end_code(row)
    print_headline(measured, f"{row.model}", out)
    print_classes(measured, out)
    print_mistakes(measured, out)
    say(f"Report: {page}", to=out)
    failed = f" · `pixmill results {job_id} --status failed`" if row.failed else ""
    say(f"Next: `pixmill results {job_id} --wrong`{failed}")
    return end_code(row)
