"""`pixmill classify`: a folder of pictures becomes rows."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.context import make_home, open_database, settings
from cli.errors import CommandError, Exit
from cli.submitting import counting, find_model, follow_to_end, no_check, ring, say_detached, say_open
from worker.settings import Settings

if TYPE_CHECKING:
    from models.manifest import ModelVersion
    from store.database import Database
    from worker.sources.entry import Source
    from worker.submission import Scan

CLASSIFY = ("classify",)  # the queue that is served while it runs


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
        with local_stack(chosen, devices, CLASSIFY) if works_here else nullcontext(no_check) as check:
            job_id = _submit(chosen, database, scan, version, request)
            if request.detach:
                say_detached(chosen, job_id, json=request.quiet)
                return job_id, Exit.OK
            return job_id, follow_to_end(chosen, database, job_id, check, quiet=request.quiet)


def _submit(chosen: Settings, database: Database, scan: Scan, version: ModelVersion, request: Request) -> int:
    from worker.submission import Choices, submit_classify

    say_open(database, CLASSIFY)
    choices = Choices(top_k=request.top_k, reuse=request.reuse, priority=request.priority)
    with counting(scan.source) as each:
        job_id = submit_classify(database, scan, version, choices, each)
    ring(chosen, job_id)
    return job_id
