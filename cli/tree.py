"""The command tree, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from cli import (
    api,
    classify,
    db,
    demo,
    doctor,
    evaluate,
    finetune,
    jobs,
    models,
    results,
    runs,
    sort,
    sql,
    token,
    up,
    worker,
    workers,
)
from cli.errors import Exit, exit_code, message
from cli.output import drop_unread, fail, out, say

app = typer.Typer(
    name="pixmill",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(demo.demo)
app.command()(classify.classify)
app.command()(finetune.finetune)
app.command()(evaluate.evaluate)
app.command()(results.results)
app.command()(sort.sort)
app.command()(sql.sql)
app.command()(up.up)
app.command()(api.api)
app.command()(worker.worker)
app.command()(workers.workers)
app.command()(doctor.doctor)
app.add_typer(jobs.app, name="jobs")
app.add_typer(runs.app, name="runs")
app.add_typer(models.app, name="models")
app.add_typer(token.app, name="token")
app.add_typer(db.app, name="db")


def _tell_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        out.print(f"pixmill {version('pixmill')}")
        raise typer.Exit


@app.callback()
def pixmill(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Grinds folders of pictures into rows you can query."""


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        return _run(arguments)
    except BrokenPipeError as error:  # nobody reads what went wrong either
        return _unheard(error)


def _run(arguments: list[str]) -> int:
    try:
        code = app(arguments, prog_name="pixmill", standalone_mode=True)
    except SystemExit as end:
        code = end.code
        if isinstance(end.__context__, BrokenPipeError):  # Typer has made 1 of it, without a word
            return _unheard(end.__context__)
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
            say("Interrupted.")  # before anything was accepted: a followed job says more
    except Exception as error:  # noqa: BLE001  the command line's top: one of the two doors
        return _explain(error)
    return int(code or 0)


def _unheard(error: BrokenPipeError) -> int:
    """The exit code where a pipe broke: whoever read stdout had enough, or nobody hears what there is to say."""
    gone = drop_unread()
    if not gone:
        return _explain(error)  # it was another pipe
    return Exit.UNHEARD if "stderr" in gone else Exit.OK


def _explain(error: Exception) -> int:
    code = exit_code(error)
    if code is not None:
        fail(message(error))
        return code
    fail(f"{type(error).__name__}: {error}")
    say("This is a bug in Pixmill. PIXMILL_CLI_LOG=DEBUG shows where it happened; please report it.")
    logging.getLogger(__name__).debug("the command failed", exc_info=error)
    return Exit.UNEXPECTED
