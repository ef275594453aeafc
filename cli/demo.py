"""`pixmill demo`: real handwriting, trained, classified, reviewed: offline, in about a minute."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.context import make_home, settings
from cli.desk import ClassifyOrder, Desk, FinetuneOrder, Pictures
from cli.errors import CommandError
from cli.opening import stays_here
from cli.output import emit_json, err, make_table, say
from cli.submitting import carry_out
from models.recipes import Recipe, make_recipe

if TYPE_CHECKING:
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
    from cli.desk_local import LocalDesk

    stays_here("demo")
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
    with LocalDesk(chosen) as desk:
        say("2/3  Training a small network on them, as a job like any other …", "bold")
        run = _train(desk, train)
        say(f"3/3  Classifying {test} with {run.model} …", "bold")
        job_id = _classify(desk, test, run)
        _review(desk, job_id, run, time.monotonic() - begun, json=json)


def _train(desk: Desk, train: Path) -> RunRow:
    """Queue the training and follow it; some of the pictures are held back to choose the best epoch."""
    from cli.finetune import Manner
    from cli.finetune import train as finetune

    order = FinetuneOrder(Pictures([str(train)], labels="folder"), NAME, demo_recipe())
    job_id, code = finetune(desk, order, Manner(device="cpu"))
    run = desk.run_of_job(job_id)
    if run.model is None:
        raise typer.Exit(code)
    return run


def _classify(desk: Desk, test: Path, run: RunRow) -> int:
    order = ClassifyOrder(Pictures([str(test)], labels="folder"), run.model, top_k=3, reuse=False)
    return carry_out(desk, desk.classify(order), ("classify",), "cpu", quiet=True)[0]


def _review(desk: Desk, job_id: int, run: RunRow, seconds: float, *, json: bool) -> None:
    from store.records import job_record
    from store.results import Filter

    row = desk.job(job_id)
    right, labelled = desk.summary(job_id).agreement
    wrong = sorted(desk.results(job_id, Filter(wrong=True)), key=lambda one: -(one.score or 0))
    accuracy = right / labelled if labelled else 0.0
    if json:
        found = {"accuracy": accuracy, "mistakes": len(wrong), "run": run.id, "seconds": round(seconds, 1)}
        emit_json({**job_record(row), **found})
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
