"""`pixmill finetune`: a folder per class becomes a model that serves the next folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.classify import Upload
from cli.desk import Check, Desk, FinetuneOrder, Pictures
from cli.errors import CommandError, Exit
from cli.opening import open_desk
from cli.output import emit_json, say
from cli.recipes import Wishes, further_recipe, new_recipe
from cli.submitting import follow_to_end, leave
from cli.tracking import NOWHERE, Destination, tracked
from models.recipes import Mode, Recipe, check_recipe

if TYPE_CHECKING:
    from store.run_rows import RunRow

QUEUES = ("classify", "train")  # served while it runs: the evaluation is a classify job


@dataclass(frozen=True, slots=True)
class Manner:
    """How a training is submitted and followed, whatever it trains."""

    detach: bool = False
    json: bool = False
    device: str = "auto"
    destination: Destination = NOWHERE


def finetune(
    dataset: Annotated[
        str | None,
        typer.Argument(help="Folder with a folder per class, manifest (.csv, .jsonl, .parquet), or archive."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the model is called; it becomes its next version.")] = None,
    base: Annotated[str | None, typer.Option(help="A model to begin with: NAME, NAME@VERSION, or a preset's.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="An architecture to begin with: `models presets` lists them.")
    ] = None,
    mode: Annotated[Mode | None, typer.Option(help="head (for a base), full, two_phase, or scratch.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A recipe in TOML, as `runs recipe RUN` prints it.")] = None,
    epochs: Annotated[str | None, typer.Option(help="How many; +10 for so many more, with --continue.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of a recipe; may be repeated.")
    ] = None,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Train although pictures are on both sides of the split.")
    ] = False,
    further: Annotated[
        str | None, typer.Option("--continue", metavar="RUN", help="Go on with a finished run, by number or name.")
    ] = None,
    include: Annotated[list[str] | None, typer.Option(help="Only files that match this glob; may be repeated.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="No files that match this glob; may be repeated.")] = None,
    priority: Annotated[int, typer.Option(min=0, max=9, help="0 goes first, 9 last.")] = 5,
    device: Annotated[str, typer.Option(help="Where to work in local mode: auto, cpu, GPU numbers or UUIDs.")] = "auto",
    upload: Upload = None,
    detach: Annotated[bool, typer.Option("--detach", help="Submit, print the job's id, and leave.")] = False,
    tensorboard: Annotated[Path | None, typer.Option(help="Log to TensorBoard too, in this folder.")] = None,
    mlflow: Annotated[str | None, typer.Option(help="Log to MLflow too, at this tracking URI.")] = None,
    json: Annotated[bool, typer.Option("--json", help="The run as JSON on stdout.")] = False,
) -> None:
    """Train a model on labelled pictures: queued, followed, evaluated, and ready for `classify --model NAME`."""
    wishes = Wishes(base, preset, mode, recipe, epochs, changes or ())
    destination = Destination(tensorboard, mlflow)
    if detach and destination.is_anywhere:
        raise CommandError(
            "--tensorboard and --mlflow log while a run is followed: `pixmill runs log RUN` does it later."
        )
    manner = Manner(detach, json, device, destination)
    if further is not None:
        if dataset is not None or include or exclude:
            raise CommandError("--continue goes on with the pictures of its run: leave DATASET and the globs away.")
        with open_desk() as desk:
            raise typer.Exit(train(desk, _further(desk, further, wishes, name, priority), manner)[1])
    if dataset is None or name is None:
        raise CommandError("Expected a DATASET and --name NAME for the model (or --continue RUN).")
    pictures = Pictures([dataset], include or (), exclude or (), "folder", upload)
    order = FinetuneOrder(pictures, name, new_recipe(wishes), allow_leaks=allow_leaks, priority=priority)
    with open_desk() as desk:
        raise typer.Exit(train(desk, order, manner)[1])


def train(desk: Desk, order: FinetuneOrder, manner: Manner) -> tuple[int, Exit]:
    """Check everything, submit, and follow; returns the job and the exit code.

    Raises InvalidRecipe, InvalidModel, UnknownModel, SourceError, CommandError, StoreError: nothing is queued then.
    """
    submit = desk.finetune(order)
    if manner.detach:
        return leave(desk, submit, json=manner.json), Exit.OK
    with desk.at_work(QUEUES, manner.device) as check:
        job_id = submit()
        return job_id, _follow(desk, job_id, check, manner)


def _follow(desk: Desk, job_id: int, check: Check, manner: Manner) -> Exit:
    run = desk.run_of_job(job_id)
    say(f"Job {job_id}, run {run.id} ({run.name}): {describe(check_recipe(run.recipe))}.")
    with tracked(desk, run, manner.destination) as note:

        def checked() -> None:
            check()
            note()

        code = follow_to_end(desk, job_id, checked, quiet=manner.json)
    if manner.json:
        emit_json(desk.run_record(desk.run_of_job(job_id)))
    return code


def describe(recipe: Recipe) -> str:
    """A recipe in a few words: "a new head on mobilenet@1, 10 epochs"."""
    start = recipe.base or recipe.preset
    if recipe.mode == "two_phase":
        return f"a new head on {start}, {recipe.epochs} epochs, then all of it, {recipe.second_phase.epochs} more"
    what = {"head": "a new head on", "full": "all of"}.get(recipe.mode, "from nothing,")
    return f"{what} {start}, {recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''}"


def _further(desk: Desk, text: str, wishes: Wishes, name: str | None, priority: int) -> FinetuneOrder:
    """What goes on with a finished run: its pictures, its split, its last checkpoint, and more epochs."""
    before = desk.run(text)
    _refuse_unfinished(before)
    return FinetuneOrder(
        None,
        name or before.name,
        further_recipe(check_recipe(before.recipe), before.epochs, wishes),
        allow_leaks=True,  # the run before was let through the gate with these very pictures
        priority=priority,
        continued_from=before,
    )


def _refuse_unfinished(run: RunRow) -> None:
    if run.state in ("queued", "running", "paused"):
        raise CommandError(
            f"Run {run.id} is {run.state}, not finished: `pixmill jobs resume {run.job_id}` lets it go on."
        )
    if run.checkpoint is None:
        raise CommandError(
            f"Run {run.id} has no checkpoint to go on from; start a new one with `runs recipe {run.id}`."
        )
    if run.job_id is None:
        raise CommandError(
            f"The job of run {run.id} was removed, and with it the list of its pictures.", Exit.NOT_FOUND
        )
