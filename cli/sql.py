"""`pixmill sql`: any question to the database, read-only."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import CommandError
from cli.opening import open_desk
from cli.output import emit_json, emit_table, say, to_pipe

if TYPE_CHECKING:
    from store.asking import Row

TABLE_ROWS = 200


def sql(
    query: Annotated[str, typer.Argument(help="A SELECT; docs/schema.md describes the views.")],
    form: Annotated[str, typer.Option("--format", help="table, csv or jsonl.")] = "table",
    json: Annotated[bool, typer.Option("--json", help="One JSON object per row; the same as --format jsonl.")] = False,
) -> None:
    """Ask the database: v_results, v_failures, v_confusion, v_mistakes, v_runs, v_run_curve, v_model_diff and more."""
    if form not in ("table", "csv", "jsonl"):
        raise CommandError(f"--format: expected table, csv or jsonl, got {form!r}.")
    with open_desk() as desk, desk.query(query) as answer, to_pipe():
        _print(answer.columns, answer.rows, "jsonl" if json else form)


def _print(columns: Sequence[str], rows: Iterator[Row], form: str) -> None:
    if form == "jsonl":
        for row in rows:
            emit_json(dict(zip(columns, row, strict=True)))
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    else:
        head = list(islice(rows, TABLE_ROWS + 1))
        emit_table(columns, head[:TABLE_ROWS])
        if len(head) > TABLE_ROWS:
            say(f"These are the first {TABLE_ROWS} rows; --format csv gives all.")
