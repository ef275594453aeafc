"""`pixmill demo`: real handwriting, trained, classified, reviewed: offline, in about a minute."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.context import make_home, open_database, settings
from cli.errors import CommandError
from cli.output import emit_json, err, make_table, say
from models.recipes import Recipe, make_recipe
from worker.settings import Settings

if TYPE_CHECKING:
    from store.database import Database
    from store.run_rows import RunRow

NAME = "demo_digits"
MISTAKES = 8
SIDE = 16  # pixels that the network sees: half the PNG's side keeps all that the 8×8 original knows


def demo_recipe() -> Recipe:
    """The recipe of the demonstration: a small network, the whole frame, small shifts."""
    return make_recipe(
        "scratch",
        base=None,
        preset="fashion_cnn",
        said={
            "epochs": 12,
            "batch_size": 32,
            "image": {"width": SIDE, "height": SIDE, "channels": 1, "crop": "squash", "interpolation": "area"},
            "optimizer": {"name": "adam", "learning_rate": 3e-3},
            "schedule": {"name": "warmup_hold_cosine", "warmup": 0.05, "hold": 0.3},
            "loss": {"label_smoothing": 0.05},
            "regularization": {"dropout": 0.3},
            "augmentation": {"shift": 0.1},
        },
    )


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
    say("2/3  Training a small network on them, as a job like any other …", "bold")
    run = _train(chosen, train)
    say(f"3/3  Classifying {test} with {run.model} …", "bold")
    job_id = _classify(chosen, test, str(run.model))
    with open_database(chosen) as database:
        _review(database, job_id, run, time.monotonic() - begun, json=json)


def _train(chosen: Settings, train: Path) -> RunRow:
    """Queue the training and follow it; some of the pictures are held back to choose the best epoch."""
    from cli.finetune import Manner
    from cli.finetune import train as finetune
    from store.runs import run_of_job
    from worker.finetuning import Training
    from worker.sources.opening import open_source

    source = open_source([str(train)], labels="folder")
    job_id, code = finetune(chosen, source, Training(NAME, demo_recipe()), Manner(device="cpu"))
    with open_database(chosen) as database:
        run = run_of_job(database, job_id)
    if run.model is None:
        raise typer.Exit(code)
    return run


def _classify(chosen: Settings, test: Path, model: str) -> int:
    from cli.classify import Request, run
    from worker.sources.opening import open_source

    source = open_source([str(test)], labels="folder")
    request = Request(model, 3, reuse=False, priority=5, detach=False, quiet=True, device="cpu")
    return run(chosen, source, request)[0]


def _review(database: Database, job_id: int, run: RunRow, seconds: float, *, json: bool) -> None:
    from cli import summary
    from store.insights import agreement
    from store.insights import job as read_job
    from store.results import Filter, stream

    row = read_job(database, job_id)
    right, labelled = agreement(database, job_id)
    wrong = sorted(stream(database, job_id, Filter(wrong=True)), key=lambda one: -(one.score or 0))
    accuracy = right / labelled if labelled else 0.0
    if json:
        found = {"accuracy": accuracy, "mistakes": len(wrong), "run": run.id, "seconds": round(seconds, 1)}
        emit_json({**summary.as_json(row), **found})
    say(
        f"\n{row.classified:,} images classified, {right:,} of {labelled:,} right: accuracy {accuracy:.4f}",
        "bold green",
    )
    if wrong:
        shown = [(one.file_name, one.true_label, one.label, one.score) for one in wrong[:MISTAKES]]
        err.print(make_table(("most confident mistakes", "is a", "taken for a", "score"), shown))
    say(f"\nThat took {seconds:.0f} s. Every picture is a row now:")
    say(f"  pixmill runs show {run.id}                    how the training went")
    say(f"  pixmill results {job_id} --wrong")
    say('  pixmill sql "SELECT true_label, predicted_label, images FROM v_confusion"')
    say("Now yours:")
    say("  pixmill models presets                 pretrained classifiers")
    say("  pixmill models import MODEL.keras      your own")
    say("  pixmill finetune ~/Pictures --name NAME --base MODEL")
    say("                                         a folder per class becomes a model")
    say("  pixmill classify ~/Pictures            a folder becomes rows")
