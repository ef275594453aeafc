"""`pixmill runs`: list, show, compare, recipe, report, log: the histories of trainings."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from cli.clock import between, clock, moment
from cli.desk import Desk
from cli.errors import CommandError, Exit
from cli.opening import open_desk
from cli.output import emit_json, emit_table, make_table, out, say, to_pipe

if TYPE_CHECKING:
    from store.run_rows import RunRow

app = typer.Typer(no_args_is_help=True, help="Runs: the history of every training.")

FIGURES = (".svg", ".png")
DIGEST = 16  # digits of a fingerprint that a person compares

COLUMNS = (
    *("run", "name", "state", "model", "from", "mode", "epochs", "best", "its value", "accuracy", "begun", "took"),
)

Run = Annotated[str, typer.Argument(metavar="RUN", help="Its number, its name (the newest), or its model, NAME@V.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the newest first.")] = 20, json: Json = False
) -> None:
    """List runs, the newest first."""
    with open_desk() as desk:
        rows = desk.runs(limit)
        if json:
            for run in rows:
                emit_json(desk.run_record(run))
            return
    if not rows:
        say("No runs yet. `pixmill finetune DATASET --name NAME` makes one.")
        return
    emit_table(COLUMNS, (_row(run) for run in rows))


def _row(run: RunRow) -> tuple[Any, ...]:
    value = f"{run.monitor} {run.best_value:.4f}" if run.best_value is not None else None
    return (
        *(run.id, run.name, run.state, run.model, _start(run), run.recipe.get("mode")),
        *(f"{run.epochs}/{run.epochs_planned}", run.best_epoch, value),
        *(run.accuracy, moment(run.created_at), _took(run)),
    )


def _start(run: RunRow) -> str | None:
    return run.base_model or run.recipe.get("base") or run.recipe.get("preset")


def _took(run: RunRow) -> str | None:
    return clock(between(run.started_at, run.finished_at)) if run.finished_at and run.started_at else None


@app.command()
def show(
    run: Run,
    plot: Annotated[Path | None, typer.Option(help="Draw the curve into this file: .svg or .png.")] = None,
    json: Json = False,
) -> None:
    """Show one run: facts, the curve as text, the evaluation."""
    if plot is not None:
        _check_figure(plot)
    with open_desk() as desk:
        row = desk.run(run)
        if plot is not None:
            _plot(desk, row, plot)
        if json:
            emit_json(_in_full(desk, row))
        elif plot is None:
            with to_pipe():
                _print(desk, row, out)


def _check_figure(path: Path) -> None:
    if path.suffix.lower() not in FIGURES:
        raise CommandError(f"--plot: expected a file ending in .svg or .png, got {path.name!r}.")
    if not path.absolute().parent.is_dir():
        raise CommandError(f"There is no folder {path.absolute().parent} to draw {path.name} into.", Exit.NOT_FOUND)


def _plot(desk: Desk, run: RunRow, path: Path) -> None:
    try:
        from worker.reporting.figures import curve
    except ImportError as error:
        raise CommandError(f"A figure needs matplotlib: install the extra `report` ({error}).") from error
    epochs = desk.epochs(run.id)
    if not epochs:
        raise CommandError(f"Run {run.id} has no finished epoch yet: there is no curve to draw.")
    curve(epochs, [epoch.epoch for epoch in epochs if epoch.restarted], path, title=run.model or run.name)
    say(f"The curve of run {run.id} is drawn in {path}")


def _in_full(desk: Desk, run: RunRow) -> dict[str, Any]:
    from store.records import epoch_record
    from worker.measuring import evaluation_record

    measured = desk.measure(run.evaluation_job_id) if run.evaluation_job_id is not None else None
    return {
        **desk.run_record(run),
        "history": [epoch_record(epoch) for epoch in desk.epochs(run.id)],
        "evaluation": evaluation_record(measured) if measured is not None else None,
        "findings": [asdict(finding) for finding in desk.findings(run.id)],
    }


def _print(desk: Desk, run: RunRow, to: Console) -> None:
    from cli import training_summary as summary
    from cli.measuring import print_classes, print_headline

    say(summary.headline(run), "bold", to=to)
    if run.error:
        say(run.error, "red", to=to)
    summary.tell_data(run, desk.job(run.job_id) if run.job_id is not None else None, to)
    to.print(make_table(("", ""), _facts(run)))
    summary.tell_curve(desk, run, to)
    measured = desk.measure(run.evaluation_job_id) if run.evaluation_job_id is not None else None
    if measured is not None:
        print_headline(measured, summary.tested_on(desk, run), to)
        print_classes(measured, to)


def _facts(run: RunRow) -> list[tuple[str, str]]:
    from models.recipes import check_recipe
    from worker.training.examination import in_short

    pairs = (
        ("recipe", in_short(check_recipe(run.recipe))),
        ("from", _start(run)),
        ("goes on with run", run.continued_from),
        ("seed", run.seed),
        ("data", (run.fingerprint or "")[:DIGEST]),
        ("device", run.device),
        ("made with", " · ".join(f"{name} {version}" for name, version in run.libraries.items())),
        ("begun", moment(run.started_at) if run.started_at else None),
        ("job", run.job_id),
        ("evaluation's job", run.evaluation_job_id),
        ("report", run.report_path),
    )
    return [(name, str(value)) for name, value in pairs if value not in (None, "")]


@app.command()
def compare(
    one: Annotated[str, typer.Argument(metavar="A", help="A run: number, name, or model.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    json: Json = False,
) -> None:
    """Compare two runs: settings that differ, best metrics, classes, and images that changed sides."""
    from cli.compare import print_comparison
    from worker.comparing import comparison_record

    with open_desk() as desk:
        first, second = desk.run(one), desk.run(other)
        if first.id == second.id:
            raise CommandError(f"{one} and {other} are the same run, {first.id}. Expected two.")
        found = desk.compare(first, second)
    if json:
        emit_json(comparison_record(first, second, found))
        return
    with to_pipe():
        print_comparison(first, second, found, out)


@app.command()
def recipe(run: Run, json: Json = False) -> None:
    """Print a run's recipe as TOML, for `finetune --recipe`."""
    from models.recipes import check_recipe, write_recipe

    with open_desk() as desk:
        row = desk.run(run)
    if json:
        emit_json(row.recipe)
        return
    with to_pipe():
        sys.stdout.write(write_recipe(check_recipe(row.recipe)))


@app.command()
def report(
    run: Run,
    copy_to: Annotated[Path | None, typer.Option("--out", help="Copy the report into this folder, made anew.")] = None,
    json: Json = False,
) -> None:
    """Print where a run's report is, or take a copy of it along."""
    with open_desk() as desk:
        row = desk.run(run)
    page = _page(row)
    if copy_to is not None:
        if copy_to.exists():
            raise CommandError(f"{copy_to} is there already; name a folder to make.")
        shutil.copytree(page.parent, copy_to)
        page = copy_to / page.name
    emit_json({"run": row.id, "report": str(page)}) if json else out.print(str(page), soft_wrap=True, markup=False)


def _page(run: RunRow) -> Path:
    if run.report_path is not None and Path(run.report_path).exists():
        return Path(run.report_path)
    why = "has no report yet" if run.report_path is None else f"had its report at {run.report_path}, which is gone"
    again = f" `pixmill evaluate --job {run.evaluation_job_id}` writes one." if run.evaluation_job_id else ""
    raise CommandError(f"Run {run.id} {why}.{again}", Exit.NOT_FOUND)


@app.command()
def findings(run: Run, json: Json = False) -> None:
    """List what was found odd in a run's pictures: copies, leaks, copies with two labels, small classes."""
    from store.run_facts import SPLITS

    with open_desk() as desk:
        found = desk.findings(desk.run(run).id)
    if json:
        for finding in found:
            emit_json(asdict(finding))
        return
    if not found:
        say("Nothing odd was found in the pictures of this run.")
        return
    emit_table(
        ("what", "picture", "in", "the same as", "in", "distance", ""),
        (
            (
                *(one.kind.replace("_", " "), one.path, SPLITS.get(one.split or "")),
                *(one.other_path, SPLITS.get(one.other_split or ""), one.distance, one.detail),
            )
            for one in found
        ),
    )


@app.command()
def log(
    run: Run,
    tensorboard: Annotated[Path | None, typer.Option(help="Log to TensorBoard, in this folder.")] = None,
    mlflow: Annotated[str | None, typer.Option(help="Log to MLflow, at this tracking URI.")] = None,
    json: Json = False,
) -> None:
    """Pass a run's history on to TensorBoard or MLflow."""
    from cli.tracking import Destination, RunLog, open_trackers

    destination = Destination(tensorboard, mlflow)
    if not destination.is_anywhere:
        raise CommandError("Where to? Expected --tensorboard DIR or --mlflow URI.")
    with open_desk() as desk:
        row = desk.run(run)
        count = RunLog(desk, row, open_trackers(row, destination)).finish()
    if json:
        emit_json({"run": row.id, "epochs": count})
    say(f"{count} epochs of run {row.id} are passed on.")
