"""`pixmill sql`: any question to the database, read-only."""

from __future__ import annotations

import csv
import sys
from typing import Annotated, Any

import typer

from cli.context import open_database, settings
from cli.errors import CommandError
from cli.output import emit_json, emit_table, say, to_pipe

TABLE_ROWS = 200


def sql(
    query: Annotated[str, typer.Argument(help="A SELECT; docs/schema.md describes the views.")],
    form: Annotated[str, typer.Option("--format", help="table, csv or jsonl.")] = "table",
    json: Annotated[bool, typer.Option("--json", help="One JSON object per row; the same as --format jsonl.")] = False,
) -> None:
    """Ask the database: v_results, v_failures, v_confusion, v_mistakes, v_runs, v_run_curve, v_model_diff and more."""
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    from store.database import sqlite_module

    if form not in ("table", "csv", "jsonl"):
        raise CommandError(f"--format: expected table, csv or jsonl, got {form!r}.")
    with open_database(settings()) as database:
        read_only = "PRAGMA query_only = ON" if database.is_sqlite else "SET TRANSACTION READ ONLY"
        with database.engine.connect() as connection:
            connection.exec_driver_sql(read_only)
            try:
                answer = connection.execution_options(stream_results=True).execute(text(query.replace(":", "\\:")))
                if not answer.returns_rows:
                    raise CommandError("Expected a query that returns rows; `pixmill sql` only reads.")
                with to_pipe():
                    _print(list(answer.keys()), answer, "jsonl" if json else form)
            except (DBAPIError, sqlite_module().Warning) as error:  # some fail only when their rows are read
                raise CommandError(f"The database refused: {str(getattr(error, 'orig', error)).strip()}") from error
            finally:
                connection.invalidate()  # the setting must not outlive this query in the pool


def _print(columns: list[str], rows: Any, form: str) -> None:
    if form == "jsonl":
        for row in rows:
            emit_json({name: _plain(value) for name, value in zip(columns, row, strict=True)})
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_plain(value) for value in row] for row in rows)
    else:
        head = rows.fetchmany(TABLE_ROWS + 1)
        emit_table(columns, ([_plain(value) for value in row] for row in head[:TABLE_ROWS]))
        if len(head) > TABLE_ROWS:
            say(f"These are the first {TABLE_ROWS} rows; --format csv gives all.")


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    return value if isinstance(value, (int, float, str, bool)) or value is None else str(value)
