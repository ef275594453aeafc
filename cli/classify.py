"""`pixmill classify`: a folder of pictures becomes rows."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.context import choose_model, make_home, open_database, registry, settings
from cli.errors import CommandError, Exit
from cli.output import err, interactive, say
from worker.settings import Settings

if TYPE_CHECKING:
    from models.manifest import ModelVersion
    from store.database import Database
    from worker.sources.entry import Source
    from worker.submission import Scan


@dataclass(frozen=True, slots=True)
class Request:
    """What `classify` was asked for."""

    model: str | None
    top_k: int
    reuse: bool
    priority: int
    detach: bool
    quiet: bool
    device: str


def classify(
    paths: Annotated[
        list[str], typer.Argument(help="Folder, files, glob, manifest (.csv, .jsonl, .parquet), archive, or - .")
    ],
    model: Annotated[str | None, typer.Option("--model", "-m", help="NAME, NAME@VERSION, or a preset's name.")] = None,
    top_k: Annotated[int, typer.Option(min=1, max=20, help="Labels kept per image.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Write the results there: .csv, .jsonl or .parquet.")] = None,
    include: Annotated[list[str] | None, typer.Option(help="Only files that match this glob; may be repeated.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="No files that match this glob; may be repeated.")] = None,
    labels: Annotated[str, typer.Option(help="'folder' takes true labels from the folders' names.")] = "none",
    reuse: Annotated[bool, typer.Option(help="Take known answers for identical files.")] = True,
    priority: Annotated[int, typer.Option(min=0, max=9, help="0 goes first, 9 last.")] = 5,
    device: Annotated[str, typer.Option(help="Where to work in local mode: auto, cpu, GPU numbers or UUIDs.")] = "auto",
    detach: Annotated[bool, typer.Option("--detach", help="Submit, print the job's id, and leave.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per image on stdout.")] = False,
) -> None:
    """Classify every picture of a folder; each one becomes one row, with its labels or the reason why not."""
    from cli.export import emit_results, writer_for
    from worker.sources.opening import open_source

    if out is not None and detach:
        raise CommandError(
            "--out waits for the results, --detach does not: leave one away (`pixmill results JOB --out`)."
        )
    if out is not None:
        writer_for(out)  # a wrong ending is refused before the work, not after
    if labels not in ("none", "folder"):
        raise CommandError(f"--labels: expected none or folder, got {labels!r}.")
    chosen = settings()
    given: Literal["none", "folder"] = "folder" if labels == "folder" else "none"
    source = open_source(
        paths,
        include=include or (),
        exclude=exclude or (),
        labels=given,
        cache_dir=chosen.cache_folder / "archives",
    )
    request = Request(model, top_k, reuse, priority, detach, json, device)
    job_id, code = run(chosen, source, request)
    if detach:
        return
    with open_database(chosen) as database:
        emit_results(database, job_id, out=out, json=json)
    raise typer.Exit(code)


def run(chosen: Settings, source: Source, request: Request) -> tuple[int, Exit]:
    """Submit, work on it where no server does, follow, and sum up; returns the job and the exit code."""
    from cli.local import is_embedded, local_stack
    from worker.devices import find_devices
    from worker.submission import Scan

    make_home(chosen)
    scan = Scan(source)
    devices = find_devices(request.device)
    version = find_model(chosen, request.model)
    with open_database(chosen, create=True) as database:
        works_here = is_embedded(chosen) and not request.detach
        with local_stack(chosen, devices) if works_here else nullcontext(no_check) as check:
            job_id = _submit(chosen, database, scan, version, request)
            if request.detach:
                _say_detached(chosen, job_id, quiet=request.quiet)
                return job_id, Exit.OK
            return job_id, follow_to_end(chosen, database, job_id, check, quiet=request.quiet)


def find_model(chosen: Settings, reference: str | None) -> ModelVersion:
    """The model to use; a preset that is not in the registry yet is fetched first."""
    from models.errors import UnknownModel
    from models.presets import PRESETS

    try:
        return choose_model(chosen, reference)
    except UnknownModel:
        if reference is None or reference not in PRESETS:
            raise
    from models.pulling import pull

    say(f"{reference} is not here yet: fetching about {PRESETS[reference].download_mb} MB, once.")
    return pull(reference, registry(chosen), progress=say)


def _submit(chosen: Settings, database: Database, scan: Scan, version: ModelVersion, request: Request) -> int:
    from cli.local import is_embedded
    from worker.submission import Choices, submit_classify

    _say_open(database)
    choices = Choices(top_k=request.top_k, reuse=request.reuse, priority=request.priority)
    with _counting(scan.source) as each:
        job_id = submit_classify(database, scan, version, choices, each)
    if not is_embedded(chosen):  # workers that start with this command look for work by themselves
        from worker.dispatch import Dispatcher

        dispatcher = Dispatcher(chosen)
        dispatcher.ring(job_id)
        dispatcher.close()
    return job_id


def _say_open(database: Database) -> None:
    """Workers take whatever is due: tell of jobs that were left open before."""
    from store.insights import list_jobs
    from store.states import CLAIMABLE

    for row in list_jobs(database, states=tuple(CLAIMABLE), limit=3):
        done = f"{row.classified + row.failed:,} of {row.found:,}"
        say(f"Job {row.id} is still open ({done}) and goes on as well; `pixmill jobs pause {row.id}` puts it aside.")


@contextmanager
def _counting(source: Source) -> Iterator[Callable[[int], None] | None]:
    """Show the growing count while a large folder is scanned."""
    if not interactive():
        yield None
        return
    with err.status(f"Looking through the {source.description}") as status:
        yield lambda n: status.update(f"Looking through the {source.description}: {n:,} found")


def _say_detached(chosen: Settings, job_id: int, *, quiet: bool) -> None:
    from cli.local import is_embedded
    from cli.output import emit_json, out

    emit_json({"id": job_id}) if quiet else out.print(job_id)
    say(f"Job {job_id} is accepted. Follow it with `pixmill jobs follow {job_id}`.")
    if is_embedded(chosen):
        say("A running `pixmill worker` takes it; without one, following it works on it.")


def no_check() -> None:
    """Workers elsewhere are not ours to check."""


def follow_to_end(
    chosen: Settings, database: Database, job_id: int, check: Callable[[], None], *, quiet: bool = False
) -> Exit:
    """Follow a job and sum it up. Ctrl-C pauses a local job and leaves one on a server running."""
    from cli import summary
    from cli.follow import follow
    from cli.local import is_embedded

    try:
        row = follow(database, job_id, check)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is being done: further presses must not get in its way
        _interrupted(database, job_id, pause=is_embedded(chosen))
        return Exit.INTERRUPTED
    if quiet:
        failed = f"; {row.failed:,} failed" if row.failed else ""
        say(f"Job {row.id}: {row.classified:,} of {row.found:,} classified{failed}. Database: {database.where}")
    else:
        summary.summarize(database, row)
    return summary.end_code(row)


def _interrupted(database: Database, job_id: int, *, pause: bool) -> None:
    from store import jobs
    from store.errors import IllegalMove
    from store.insights import job as read_job

    if not pause:
        say(f"Job {job_id} goes on. Follow it: `pixmill jobs follow {job_id}`; end it: `pixmill jobs cancel {job_id}`.")
        return
    try:
        jobs.pause(database, job_id)
    except IllegalMove:
        return  # it ended at that very moment
    row = read_job(database, job_id)
    say(
        f"Job {job_id} is paused at {row.classified + row.failed:,} of {row.found:,}; nothing is lost. "
        f"`pixmill jobs resume {job_id}` goes on."
    )
