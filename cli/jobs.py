"""`pixmill jobs`: list, show, follow, pause, resume, cancel, retry, rm."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from cli.clock import moment
from cli.desk import Desk
from cli.errors import CommandError
from cli.failures import NewLimit, check_codes, check_max_failures
from cli.opening import open_desk
from cli.output import emit_json, emit_table, say
from cli.submitting import follow_to_end, no_check

app = typer.Typer(no_args_is_help=True, help="Jobs: what was asked for, how it stands, and steering it.")

QUEUES = {"classify": ("classify",), "finetune": ("classify", "train")}  # a training is evaluated by a classify job

Job = Annotated[int, typer.Argument(help="The job's number.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Detach = Annotated[bool, typer.Option("--detach", help="Do not follow it.")]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the newest first.")] = 20, json: Json = False
) -> None:
    """List jobs, the newest first."""
    from store.records import job_record

    with open_desk() as desk:
        rows = desk.jobs(limit)
    if json:
        for row in rows:
            emit_json(job_record(row))
        return
    if not rows:
        say("No jobs yet.")
        return
    emit_table(
        ("job", "kind", "state", "found", "done", "failed", "model", "created", "what"),
        (
            (
                *(row.id, row.kind, row.state.value.replace("_", " "), row.found, row.classified, row.failed),
                *(row.model, moment(row.created_at), row.description),
            )
            for row in rows
        ),
    )


@app.command()
def show(job: Job, json: Json = False) -> None:
    """Show one job: totals, classes, failures by reason; of a training its model, its data, its test."""
    from cli import summary
    from cli.output import out

    with open_desk() as desk:
        row = desk.job(job)
        if json:
            emit_json(summary.job_json(desk, row))
        else:
            summary.summarize(desk, row, out)


@app.command()
def follow(job: Job, json: Json = False) -> None:
    """Follow a job until it ends; in local mode this also runs the workers."""
    with open_desk() as desk:
        _follow(desk, job, json=json)


def _follow(desk: Desk, job: int, *, json: bool) -> None:
    from cli.summary import job_json

    with desk.patiently():
        row = desk.job(job)
    with nullcontext(no_check) if row.state.is_final else desk.at_work(QUEUES[row.kind]) as check:
        code = follow_to_end(desk, job, check, quiet=json)
    if json:
        emit_json(job_json(desk, desk.job(job)))
    raise typer.Exit(code)


def _tell(desk: Desk, job: int, *, json: bool) -> None:
    from cli.summary import job_json

    row = desk.job(job)
    if json:
        emit_json(job_json(desk, row))
    say(f"Job {job} is {row.state.value.replace('_', ' ')}.")


@app.command()
def pause(job: Job, json: Json = False) -> None:
    """Pause a job; workers give its images back after the current batch, a training after its next checkpoint."""
    with open_desk() as desk:
        desk.pause(job)
        _tell(desk, job, json=json)


@app.command()
def cancel(
    job: Job,
    keep_best: Annotated[
        bool, typer.Option("--keep-best", help="Of a training: end it now, and make a model of its best epoch.")
    ] = False,
    detach: Detach = False,
    json: Json = False,
) -> None:
    """Cancel a job; the results that are there stay."""
    with open_desk() as desk:
        if keep_best and desk.job(job).kind != "finetune":
            raise CommandError(f"--keep-best is for trainings; job {job} classifies, and its results stay anyway.")
        desk.cancel(job, keep_best=keep_best)
        if keep_best and not detach and not desk.job(job).state.is_final:
            say(f"Job {job} ends now; its best epoch becomes a model.")
            _follow(desk, job, json=json)
        _tell(desk, job, json=json)


@app.command()
def resume(job: Job, max_failures: NewLimit = None, detach: Detach = False, json: Json = False) -> None:
    """Let a paused job go on, or one whose workers are gone, or with the rest of one that failed; and follow it."""
    from store.states import CLAIMABLE

    limit = check_max_failures(max_failures)
    with open_desk() as desk:
        if limit is not None or desk.job(job).state not in CLAIMABLE:
            desk.resume(job, limit)
        say(f"Job {job} goes on.")
        _tell(desk, job, json=json) if detach else _follow(desk, job, json=json)


@app.command()
def retry(
    job: Job,
    code: Annotated[list[str] | None, typer.Option(help="Only failures with this error code; may be repeated.")] = None,
    max_failures: NewLimit = None,
    detach: Detach = False,
    json: Json = False,
) -> None:
    """Run again what failed, and what was never run, in the same job; a training goes on from its last checkpoint."""
    codes, limit = check_codes(code or ()), check_max_failures(max_failures)
    with open_desk() as desk:
        count = desk.retry(job, codes, limit)
        training = desk.job(job).kind == "finetune"
        say(f"Job {job} goes on from its checkpoint." if training else f"{count:,} images of job {job} run again.")
        _tell(desk, job, json=json) if detach else _follow(desk, job, json=json)


@app.command()
def rm(job: Job, json: Json = False) -> None:
    """Remove a finished job with all its rows."""
    with open_desk() as desk:
        desk.remove(job)
    if json:
        emit_json({"id": job, "removed": True})
    say(f"Job {job} is removed.")
