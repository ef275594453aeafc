"""`pixmill jobs`: list, show, follow, pause, resume, cancel, retry, rm."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from cli.clock import moment
from cli.context import has_database, open_database, settings
from cli.errors import CommandError
from cli.output import emit_json, emit_table, say
from cli.submitting import follow_to_end, no_check

if TYPE_CHECKING:
    from store.database import Database

app = typer.Typer(no_args_is_help=True, help="Jobs: what was asked for, how it stands, and steering it.")

Job = Annotated[int, typer.Argument(help="The job's number.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Detach = Annotated[bool, typer.Option("--detach", help="Do not follow it.")]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the newest first.")] = 20, json: Json = False
) -> None:
    """List jobs, the newest first."""
    from cli.summary import as_json
    from store.insights import list_jobs

    chosen = settings()
    if not has_database(chosen):
        say("No jobs yet.")
        return
    with open_database(chosen) as database:
        rows = list_jobs(database, limit=limit)
    if json:
        for row in rows:
            emit_json(as_json(row))
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
    from store.insights import job as read_job

    with open_database(settings()) as database:
        row = read_job(database, job)
        if json:
            emit_json(summary.job_json(database, row))
        else:
            summary.summarize(database, row, out)


@app.command()
def follow(job: Job, json: Json = False) -> None:
    """Follow a job until it ends; in local mode this also runs the workers."""
    with open_database(settings()) as database:
        _follow(database, job, json=json)


def _follow(database: Database, job: int, *, json: bool) -> None:
    from cli.local import is_embedded, local_stack, queues_for
    from cli.summary import job_json
    from store.insights import job as read_job
    from worker.devices import find_devices

    chosen = settings()
    row = read_job(database, job)
    with (
        local_stack(chosen, find_devices("auto"), queues_for(row.kind))
        if not row.state.is_final and is_embedded(chosen)
        else nullcontext(no_check) as check
    ):
        code = follow_to_end(chosen, database, job, check, quiet=json)
    if json:
        emit_json(job_json(database, read_job(database, job)))
    raise typer.Exit(code)


def _move(job: int, move: Callable[[Database, int], object], *, json: bool) -> None:
    with open_database(settings()) as database:
        move(database, job)
        _tell(database, job, json=json)


def _tell(database: Database, job: int, *, json: bool) -> None:
    from cli.summary import job_json
    from store.insights import job as read_job

    row = read_job(database, job)
    if json:
        emit_json(job_json(database, row))
    say(f"Job {job} is {row.state.value.replace('_', ' ')}.")


@app.command()
def pause(job: Job, json: Json = False) -> None:
    """Pause a job; workers give its images back after the current batch, a training after its next checkpoint."""
    from store.jobs import pause as move

    _move(job, move, json=json)


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
    from store.jobs import cancel as move

    with open_database(settings()) as database:
        if keep_best:
            _refuse_other(database, job)
        move(database, job, keep_best)
        if keep_best and not detach and _is_open(database, job):
            say(f"Job {job} ends now; its best epoch becomes a model.")
            _follow(database, job, json=json)
        _tell(database, job, json=json)


def _refuse_other(database: Database, job: int) -> None:
    from store.insights import job as read_job

    if read_job(database, job).kind != "finetune":
        raise CommandError(f"--keep-best is for trainings; job {job} classifies, and its results stay anyway.")


def _is_open(database: Database, job: int) -> bool:
    """Whether a worker still has to do something."""
    from store.insights import job as read_job

    return not read_job(database, job).state.is_final


@app.command()
def resume(job: Job, detach: Detach = False, json: Json = False) -> None:
    """Let a paused job go on, or one whose workers are gone, and follow it."""
    from store import jobs as moves
    from store.insights import job as read_job
    from store.states import CLAIMABLE

    with open_database(settings()) as database:
        if read_job(database, job).state not in CLAIMABLE:
            moves.resume(database, job)
        say(f"Job {job} goes on.")
        _tell(database, job, json=json) if detach else _follow(database, job, json=json)


@app.command()
def retry(
    job: Job,
    code: Annotated[list[str] | None, typer.Option(help="Only failures with this error code; may be repeated.")] = None,
    detach: Detach = False,
    json: Json = False,
) -> None:
    """Run again what failed, and what was never run, in the same job; a training goes on from its last checkpoint."""
    from store import jobs as moves
    from store.insights import job as read_job

    with open_database(settings()) as database:
        count = moves.retry(database, job, code or ())
        training = read_job(database, job).kind == "finetune"
        say(f"Job {job} goes on from its checkpoint." if training else f"{count:,} images of job {job} run again.")
        _tell(database, job, json=json) if detach else _follow(database, job, json=json)


@app.command()
def rm(job: Job, json: Json = False) -> None:
    """Remove a finished job with all its rows."""
    from store.removal import remove

    with open_database(settings()) as database:
        remove(database, job)
    if json:
        emit_json({"id": job, "removed": True})
    say(f"Job {job} is removed.")
