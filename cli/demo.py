"""`pixmill demo`: real handwriting, trained, classified, reviewed: offline, in about a minute."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn

from cli.context import make_home, open_database, registry, settings
from cli.errors import CommandError
from cli.output import emit_json, err, interactive, make_table, say
from worker.settings import Settings

if TYPE_CHECKING:
    from models.digits import Epoch
    from models.manifest import ModelVersion
    from store.database import Database

NAME = "demo_digits"
MISTAKES = 8


def demo(json: Annotated[bool, typer.Option("--json", help="The outcome as JSON on stdout.")] = False) -> None:
    """Train a small network on handwritten digits, classify a folder with it, and look at its mistakes."""
    try:
        from models.digits import write_digits
    except ImportError as error:
        raise CommandError(f"The demo trains a network: install the extra `cpu` or `gpu` ({error}).") from error
    chosen = settings()
    make_home(chosen)
    begun = time.monotonic()
    folder = chosen.home / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    say("1/3  Writing 1,797 handwritten digits as PNG files …", "bold")
    train, test = write_digits(folder)
    say(f"     {train} · {test}")
    say("2/3  Training a small network on them, in a process of its own …", "bold")
    version = _train(chosen, folder, train)
    say(f"3/3  Classifying {test} with {version.reference} …", "bold")
    job_id = _classify(chosen, test, version)
    with open_database(chosen) as database:
        _review(database, job_id, time.monotonic() - begun, json=json)


def _train(chosen: Settings, folder: Path, train: Path) -> ModelVersion:
    from models.digits import EPOCHS, IMPORT_AS, train_digits
    from models.importing import import_keras

    columns = (
        TextColumn("     epoch {task.completed}/{task.total}"),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns, console=err, transient=True, disable=not interactive()) as progress:
        task = progress.add_task("", total=EPOCHS, told="starting")

        def each(epoch: Epoch) -> None:
            told = f"loss {epoch.loss:.3f} · accuracy {epoch.val_accuracy:.3f} on pictures held back"
            progress.update(task, completed=epoch.epoch, total=epoch.epochs, told=told)
            if not interactive():
                say(f"     epoch {epoch.epoch}/{epoch.epochs}: {told}")

        model, labels = train_digits(folder / "model", train, each_epoch=each)
    say("     Importing it: checked, opened in a sandbox, compiled …")
    return import_keras(model, registry(chosen), name=NAME, labels=labels, overrides=IMPORT_AS)


def _classify(chosen: Settings, test: Path, version: ModelVersion) -> int:
    from cli.classify import Request, run
    from worker.sources.opening import open_source

    source = open_source([str(test)], labels="folder")
    request = Request(version.reference, 3, reuse=False, priority=5, detach=False, quiet=True, device="cpu")
    return run(chosen, source, request)[0]


def _review(database: Database, job_id: int, seconds: float, *, json: bool) -> None:
    from cli import summary
    from store.insights import agreement
    from store.insights import job as read_job
    from store.results import Filter, stream

    row = read_job(database, job_id)
    right, labelled = agreement(database, job_id)
    wrong = sorted(stream(database, job_id, Filter(wrong=True)), key=lambda one: -(one.score or 0))
    accuracy = right / labelled if labelled else 0.0
    if json:
        emit_json({**summary.as_json(row), "accuracy": accuracy, "mistakes": len(wrong), "seconds": round(seconds, 1)})
    say(
        f"\n{row.classified:,} images classified, {right:,} of {labelled:,} right: accuracy {accuracy:.4f}",
        "bold green",
    )
    if wrong:
        shown = [(one.file_name, one.true_label, one.label, one.score) for one in wrong[:MISTAKES]]
        err.print(make_table(("most confident mistakes", "is a", "taken for a", "score"), shown))
    say(f"\nThat took {seconds:.0f} s. Every picture is a row now:")
    say(f"  pixmill results {job_id} --wrong")
    say('  pixmill sql "SELECT true_label, predicted_label, images FROM v_confusion"')
    say("Now yours:")
    say("  pixmill models presets                 pretrained classifiers")
    say("  pixmill models import MODEL.keras      your own")
    say("  pixmill classify ~/Pictures            a folder becomes rows")
