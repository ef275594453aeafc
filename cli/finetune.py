"""`pixmill finetune`: a folder per class becomes a model that serves the next folder."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.context import make_home, open_database, registry, settings
from cli.errors import CommandError, Exit
from cli.output import emit_json, say
from cli.recipes import Wishes, further_recipe, new_recipe
from cli.submitting import Check, counting, find_model, follow_to_end, no_check, ring, say_detached, say_open
from cli.tracking import NOWHERE, Destination, tracked
from models.recipes import Mode, Recipe, check_recipe
from worker.settings import Settings

if TYPE_CHECKING:
    from store.database import Database
    from store.run_rows import RunRow
    from worker.finetuning import Dataset, Training
    from worker.sources.entry import Source

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
    chosen = settings()
    if further is not None:
        if dataset is not None or include or exclude:
            raise CommandError("--continue goes on with the pictures of its run: leave DATASET and the globs away.")
        raise typer.Exit(_continue(chosen, further, wishes, manner, name=name, priority=priority))
    if dataset is None or name is None:
        raise CommandError("Expected a DATASET and --name NAME for the model (or --continue RUN).")
    from worker.finetuning import Training
    from worker.sources.opening import open_source

    source = open_source(
        [dataset],
        include=include or (),
        exclude=exclude or (),
        labels="folder",
        cache_dir=chosen.cache_folder / "archives",
    )
    training = Training(name, new_recipe(wishes), allow_leaks=allow_leaks, priority=priority)
    raise typer.Exit(train(chosen, source, training, manner)[1])


def train(chosen: Settings, source: Source, training: Training, manner: Manner) -> tuple[int, Exit]:
    """Check everything, submit, work on it where no server does, and follow; returns the job and the exit code.

    Raises InvalidRecipe, InvalidModel, UnknownModel, SourceError, CommandError, StoreError: nothing is queued then.
    """
    from models.references import check_name

    check_name(training.name)
    make_home(chosen)
    training = _settled(chosen, training)
    dataset = _examine(chosen, source, training)
    with open_database(chosen, create=True) as database:
        return _run(chosen, database, dataset, training, manner)


def _settled(chosen: Settings, training: Training) -> Training:
    """The same, its base found or fetched and named with its version, its architecture by its own name."""
    from worker.finetuning import check_start

    recipe = training.recipe
    if recipe.base is not None:
        recipe = recipe.model_copy(update={"base": find_model(chosen, recipe.base).reference})
    if recipe.preset is not None:
        recipe = recipe.model_copy(update={"preset": _own_name(recipe.preset)})
    check_start(recipe)
    return replace(training, recipe=recipe)


def _own_name(preset: str) -> str:
    """An architecture's name as the catalogue has it, `efficientnetv2_b0` for `EfficientNetV2B0`."""
    from models.errors import UnknownModel
    from models.training.backbones import find_backbone
    from models.training.networks import NETWORKS

    try:
        return preset if preset in NETWORKS else find_backbone(preset).name
    except UnknownModel:
        return preset  # and is refused with the nearest of all names


def _examine(chosen: Settings, source: Source, training: Training) -> Dataset:
    """Read the source to its end, and refuse or warn before anything is queued."""
    from models.datasets.census import problems
    from worker.finetuning import UNLABELLED, check_dataset

    recipe = training.recipe
    with counting(source) as each:
        dataset = check_dataset(source, each)
    kept = registry(chosen).get(recipe.base).labels if recipe.base is not None and recipe.keep_head else None
    if source.ignored.get(UNLABELLED):
        say(f"{source.ignored[UNLABELLED]:,} pictures without a label are passed over.", "yellow")
    for warning in problems(dataset.counts, recipe, kept):
        say(warning, "yellow")
    return dataset


def _run(
    chosen: Settings, database: Database, dataset: Dataset, training: Training, manner: Manner
) -> tuple[int, Exit]:
    from cli.local import is_embedded, local_stack
    from worker.devices import find_devices
    from worker.finetuning import submit_finetune

    devices = find_devices(manner.device)
    works_here = is_embedded(chosen) and not manner.detach
    with local_stack(chosen, devices, QUEUES) if works_here else nullcontext(no_check) as check:
        say_open(database, QUEUES)
        job_id = submit_finetune(database, dataset, training, registry(chosen))
        ring(chosen, job_id, "train")
        if manner.detach:
            say_detached(chosen, job_id, json=manner.json)
            return job_id, Exit.OK
        return job_id, _follow(chosen, database, job_id, check, manner)


def _follow(chosen: Settings, database: Database, job_id: int, check: Check, manner: Manner) -> Exit:
    from cli.training_summary import run_json
    from store.runs import run_of_job

    run = run_of_job(database, job_id)
    say(f"Job {job_id}, run {run.id} ({run.name}): {describe(check_recipe(run.recipe))}.")
    with tracked(database, run, manner.destination) as note:

        def checked() -> None:
            check()
            note()

        code = follow_to_end(chosen, database, job_id, checked, quiet=manner.json)
    if manner.json:
        emit_json(run_json(database, run_of_job(database, job_id)))
    return code


def describe(recipe: Recipe) -> str:
    """A recipe in a few words: "a new head on mobilenet@1, 10 epochs"."""
    start = recipe.base or recipe.preset
    if recipe.mode == "two_phase":
        return f"a new head on {start}, {recipe.epochs} epochs, then all of it, {recipe.second_phase.epochs} more"
    what = {"head": "a new head on", "full": "all of"}.get(recipe.mode, "from nothing,")
    return f"{what} {start}, {recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''}"


def _continue(chosen: Settings, text: str, wishes: Wishes, manner: Manner, *, name: str | None, priority: int) -> Exit:
    """Go on with a finished run: its pictures, its split, its last checkpoint, and more epochs."""
    from store.runs import resolve_run
    from worker.finetuning import Training

    with open_database(chosen) as database:
        before = resolve_run(database, text)
        _refuse_unfinished(before)
        training = Training(
            name or before.name,
            further_recipe(check_recipe(before.recipe), before.epochs, wishes),
            allow_leaks=True,  # the run before was let through the gate with these very pictures
            priority=priority,
            continued_from=before.id,
        )
        training = _settled(chosen, training)
        dataset = _examine(chosen, _past_source(database, before), training)
        return _run(chosen, database, dataset, training, manner)[1]


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


def _past_source(database: Database, run: RunRow) -> Source:
    from cli.past import PastSource

    if run.job_id is None:
        raise CommandError(
            f"The job of run {run.id} was removed, and with it the list of its pictures.", Exit.NOT_FOUND
        )
    return PastSource(database, run.job_id)
