"""Accepting a finetune job: a labelled data set, a recipe, and a name for what comes out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from models.datasets.counting import count, problems
from models.datasets.splits import understand
from models.errors import InvalidRecipe, UnknownModel
from models.labels import check_labels
from models.manifest import ModelVersion
from models.recipes import Recipe
from models.references import check_name
from models.registry import Registry
from models.training.catalogue import BACKBONES, NETWORKS, find_backbone
from store.database import Database
from store.jobs import accept
from store.rows import NewItem, NewJob, NewRun
from worker.sources.entry import Entry, Source, pass_over
from worker.submission import new_item, register_version

Each = Callable[[int], None]
UNLABELLED = "without a label"  # what such pictures are counted as


@dataclass(frozen=True, slots=True)
class Training:
    """What was asked for. `continued_from`: the id of a finished run that goes on for more epochs."""

    name: str
    recipe: Recipe
    allow_leaks: bool = False
    priority: int = 5
    owner: str = ""
    continued_from: int | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """The labelled pictures of a source, read to its end. `labels`: class names, sorted."""

    source: Source
    entries: list[Entry]
    labels: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]  # pictures per label, per split; "train" where none is given


def check_dataset(source: Source, each: Each | None = None) -> Dataset:
    """Read a source opened with labels="folder". Pictures without a label are passed over, and counted as such.

    Raises SourceError for what is wrong with the source, InvalidRecipe where no picture has a label.
    """
    entries, unlabelled, columns = [], 0, set[str]()
    for n, entry in enumerate(source, 1):
        if each is not None and n % 1000 == 0:
            each(n)
        if entry.label and entry.label.strip():
            entries.append(replace(entry, label=entry.label.strip()))  # a blank beside a name is no part of it
        else:
            unlabelled += 1
            columns.update(entry.extra or ())
            pass_over(source.ignored, UNLABELLED)
    if not entries:
        raise InvalidRecipe(
            f"Expected a folder for each class (DATASET/cats/1.jpg, or DATASET/train/cats/1.jpg) or a manifest with a "
            f"column label; the {unlabelled:,} pictures of the {source.description} have no label"
            f"{f' (its other columns: {chr(44).join(sorted(columns))})' if columns else ''}."
        )
    counts = count([entry.label or "" for entry in entries], [understand(entry.split) or "train" for entry in entries])
    return Dataset(source, entries, check_labels(sorted(counts), source.description), counts)


def submit_finetune(
    database: Database, dataset: Dataset, training: Training, registry: Registry, each: Each | None = None
) -> int:
    """Accept a finetune job with its run, and return the job's id. Raises what `finetune_job` raises."""
    job = finetune_job(database, dataset, training, registry)
    return accept(database, job, dataset_items(dataset, each), dataset.source.ignored)


def finetune_job(database: Database, dataset: Dataset, training: Training, registry: Registry) -> NewJob:
    """The job of a training with its run, to be accepted with the data set's items.

    Raises InvalidRecipe where recipe, data and base do not fit, UnknownModel, InvalidModel for a name, StoreError.
    """
    recipe = training.recipe
    base = registry.get(recipe.base) if recipe.base is not None else None
    check_start(recipe)
    if base is not None:
        check_size(recipe, base)
    kept = base.labels if base is not None and recipe.keep_head else None
    problems(dataset.counts, recipe, kept)
    if base is not None:
        recipe = recipe.model_copy(update={"base": base.reference})  # what was meant today, also tomorrow
    return NewJob(
        model_id=None,
        description=f"{training.name}: {dataset.source.description}",
        root=os.fsencode(dataset.source.root),
        confined=dataset.source.confined,
        priority=training.priority,
        owner=training.owner,
        queue="train",
        kind="finetune",
        run=_new_run(database, dataset, replace(training, recipe=recipe), base),
    )


def settled(training: Training, find: Callable[[str], ModelVersion]) -> Training:
    """The same, its base named with its version, its architecture by its own name; `find` gives a model by reference.

    Raises InvalidRecipe where a mode has nothing to begin with, and what `find` raises.
    """
    recipe = training.recipe
    if recipe.base is not None:
        recipe = recipe.model_copy(update={"base": find(recipe.base).reference})
    if recipe.preset is not None:
        recipe = recipe.model_copy(update={"preset": _own_name(recipe.preset)})
    check_start(recipe)
    return replace(training, recipe=recipe)


def _own_name(preset: str) -> str:
    """An architecture's name as the catalogue has it, `efficientnetv2_b0` for `EfficientNetV2B0`."""
    try:
        return preset if preset in NETWORKS else find_backbone(preset).name
    except UnknownModel:
        return preset  # and is refused with the nearest of all names


def check_start(recipe: Recipe) -> None:
    """Raise InvalidRecipe where a mode has nothing to begin with."""
    if recipe.preset is None:
        if recipe.mode == "scratch":
            raise InvalidRecipe(
                "scratch begins with an architecture, not with a trained model: name one with --preset."
            )
        return
    if recipe.preset in NETWORKS:
        if recipe.mode != "scratch":
            raise InvalidRecipe(
                f"{recipe.preset} is a small network without pretrained weights: mode {recipe.mode} has no backbone to "
                "begin with. Leave --mode away, or choose scratch."
            )
    elif recipe.preset not in BACKBONES:
        _refuse_preset(recipe.preset)
    elif recipe.mode != "scratch":
        _check_weights(recipe)
    if recipe.keep_head:
        raise InvalidRecipe("keep_head goes on with a registered model's last layer: name the model with --base.")


def _check_weights(recipe: Recipe) -> None:
    """A mode that goes on from weights needs some; only `full` makes sense without."""
    if recipe.pretrained and not BACKBONES[recipe.preset or ""].has_weights:
        raise InvalidRecipe(
            f"{recipe.preset} has no published weights to go on from: choose --mode scratch, or another architecture."
        )
    if not recipe.pretrained and recipe.mode in ("head", "two_phase"):
        raise InvalidRecipe(
            f"--mode {recipe.mode} freezes the backbone, and pretrained=false leaves it as it was drawn: it would "
            "learn nothing. Choose --mode scratch."
        )


def check_size(recipe: Recipe, base: ModelVersion) -> None:
    """Raise InvalidRecipe where the recipe wants pictures that the base does not take."""
    given, said = base.manifest.preprocessing, recipe.image
    for name in ("width", "height", "channels"):
        wanted = getattr(said, name)
        if wanted not in (None, getattr(given, name)):
            raise InvalidRecipe(
                f"image.{name}: {base.reference} takes pictures of {given.width}×{given.height}×{given.channels} only, "
                f"got {wanted}. Leave it away."
            )


def _refuse_preset(name: str) -> None:
    from difflib import get_close_matches

    near = get_close_matches(name, [*NETWORKS, *BACKBONES], n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise InvalidRecipe(f"There is no architecture {name!r}.{hint} `pixmill models presets` lists them.")


def _new_run(database: Database, dataset: Dataset, training: Training, base: ModelVersion | None) -> NewRun:
    recipe = training.recipe
    return NewRun(
        name=check_name(training.name),
        recipe=recipe.model_dump(exclude_none=True),
        options={"allow_leaks": training.allow_leaks, "labels": list(dataset.labels)},
        seed=recipe.seed,
        base_model_id=register_version(database, base) if base is not None else None,
        monitor=recipe.stopping.monitor,
        epochs_planned=recipe.total_epochs,
        continued_from=training.continued_from,
    )


def dataset_items(dataset: Dataset, each: Each | None = None) -> Iterator[NewItem]:
    """Every picture as a new item; `each` is told the count now and then."""
    for n, entry in enumerate(dataset.entries, 1):
        if each is not None and n % 1000 == 0:
            each(n)
        yield new_item(entry)
