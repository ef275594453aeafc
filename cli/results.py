"""`pixmill results`: the rows of a job, filtered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from cli.errors import CommandError
from cli.opening import open_desk

FORMATS = ("table", "csv", "jsonl", "parquet")


def results(
    job: Annotated[int, typer.Argument(help="The job's number.")],
    label: Annotated[str | None, typer.Option(help="Only this predicted label.")] = None,
    min_score: Annotated[float | None, typer.Option(min=0, max=1, help="Only scores of at least this.")] = None,
    max_score: Annotated[float | None, typer.Option(min=0, max=1, help="Only scores of at most this.")] = None,
    status: Annotated[str | None, typer.Option(help="Only ok, or only failed.")] = None,
    error_code: Annotated[str | None, typer.Option(help="Only failures with this code.")] = None,
    wrong: Annotated[bool, typer.Option("--wrong", help="Only images whose given label differs.")] = False,
    order: Annotated[
        str, typer.Option(help="item (by number), least_sure, most_sure, most_wrong, or newest first.")
    ] = "item",
    form: Annotated[str, typer.Option("--format", help="table, csv, jsonl or parquet.")] = "table",
    out: Annotated[Path | None, typer.Option(help="Write to this file: .csv, .jsonl or .parquet.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object per image; the same as --format jsonl.")
    ] = False,
) -> None:
    """Show, filter or export the results of a job."""
    from cli.export import Asked, emit_format, emit_results, writer_for
    from store.results import Filter
    from store.way import Order

    if status not in (None, "ok", "failed"):
        raise CommandError(f"--status: expected ok or failed, got {status!r}.")
    if form not in FORMATS:
        raise CommandError(f"--format: expected one of {', '.join(FORMATS)}, got {form!r}.")
    if order not in get_args(Order):
        raise CommandError(f"--order: expected one of {', '.join(get_args(Order))}, got {order!r}.")
    if form == "parquet" and out is None:
        raise CommandError("Parquet goes to a file: add --out FILE.parquet.")
    if out is not None:
        writer_for(out)
        if form not in ("table", out.suffix.lstrip(".").lower()):
            raise CommandError(f"--format {form} and the file {out.name} disagree; the file's ending is enough.")
    chosen = Filter(
        label=label,
        status=status,
        error_code=error_code,
        min_score=min_score,
        max_score=max_score,
        wrong=wrong or None,
    )
    asked = Asked(job, chosen, cast(Order, order))
    with open_desk() as desk:
        if out is not None or json:
            emit_results(desk, asked, out=out, json=json)
        else:
            emit_format(desk, asked, form)
