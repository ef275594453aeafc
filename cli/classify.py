"""`pixmill classify`: a folder of pictures becomes rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.desk import ClassifyOrder, Pictures
from cli.errors import CommandError
from cli.failures import MaxFailures, check_max_failures
from cli.opening import open_desk
from cli.submitting import carry_out, leave

QUEUES = ("classify",)  # served while it runs

Upload = Annotated[
    bool | None,
    typer.Option(
        "--upload/--no-upload",
        help="Send a server the files, or their paths; by default paths where it is on this machine.",
        show_default=False,
    ),
]


def classify(
    paths: Annotated[
        list[str], typer.Argument(help="Folder, files, glob, manifest (.csv, .jsonl, .parquet), archive, or - .")
    ],
    model: Annotated[str | None, typer.Option("--model", "-m", help="NAME, NAME@VERSION, or a preset's name.")] = None,
    top_k: Annotated[int, typer.Option(min=1, max=20, help="Labels kept per image.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Write the results there: .csv, .jsonl or .parquet.")] = None,
    include: Annotated[list[str] | None, typer.Option(help="Only files that match this glob; may be repeated.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="No files that match this glob; may be repeated.")] = None,
    max_failures: MaxFailures = None,
    labels: Annotated[str, typer.Option(help="'folder' takes true labels from the folders' names.")] = "none",
    reuse: Annotated[bool, typer.Option(help="Take known answers for identical files.")] = True,
    priority: Annotated[int, typer.Option(min=0, max=9, help="0 goes first, 9 last.")] = 5,
    device: Annotated[str, typer.Option(help="Where to work in local mode: auto, cpu, GPU numbers or UUIDs.")] = "auto",
    upload: Upload = None,
    detach: Annotated[bool, typer.Option("--detach", help="Submit, print the job's id, and leave.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per image on stdout.")] = False,
) -> None:
    """Classify every picture of a folder; each one becomes one row, with its labels or the reason why not."""
    from cli.export import Asked, emit_results, writer_for

    if out is not None and detach:
        raise CommandError(
            "--out waits for the results, --detach does not: leave one away (`pixmill results JOB --out`)."
        )
    if out is not None:
        writer_for(out)  # a wrong ending is refused before the work, not after
    limit = check_max_failures(max_failures)
    pictures = Pictures(paths, include or (), exclude or (), check_labels(labels), upload)
    with open_desk() as desk:
        submit = desk.classify(ClassifyOrder(pictures, model, top_k, reuse, priority, limit))
        if detach:
            leave(desk, submit, json=json)
            return
        job_id, code = carry_out(desk, submit, QUEUES, device, quiet=json)
        emit_results(desk, Asked(job_id), out=out, json=json)
    raise typer.Exit(code)


def check_labels(text: str) -> Literal["none", "folder"]:
    """What --labels says. Raises CommandError."""
    if text == "folder":
        return "folder"
    if text == "none":
        return "none"
    raise CommandError(f"--labels: expected none or folder, got {text!r}.")
