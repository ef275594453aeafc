"""What a request asks for, checked as far as that needs no look at the images, and kept as JSON for a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from api.access import Caller
from api.context import Context
from api.problems import Problem
from api.schemas.submit import ClassifyJob, EvaluateJob, FinetuneJob, Job, Upload
from models.manifest import ModelVersion
from models.recipes import Recipe, check_recipe, merge, parse_settings
from models.references import check_name
from models.registry import Registry
from store import figures, uploads
from store.errors import UnknownRun
from store.rows import NewJob
from store.run_rows import RunRow
from store.runs import find_run
from worker.finetuning import Training, settled
from worker.past import past_job
from worker.wishes import FIXED, Wishes, further_recipe, new_recipe, reached_of

AnyJob = ClassifyJob | EvaluateJob | FinetuneJob
_BODY: TypeAdapter[AnyJob] = TypeAdapter(Job)


@dataclass(frozen=True, slots=True)
class Asked:
    """One submission. `model`: NAME@VERSION; `recipe` and `name`: of a training; `most`: images it may have, as it
    looks when it comes; `limit`: those of its owner that may wait together.
    """

    body: AnyJob
    owner: str
    most: int | None = None
    model: str | None = None
    recipe: Mapping[str, Any] | None = None
    name: str | None = None
    limit: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `asked_again` makes the same of them."""
        return {
            "body": self.body.model_dump(mode="json"),
            "owner": self.owner,
            "most": self.most,
            "model": self.model,
            "recipe": dict(self.recipe) if self.recipe is not None else None,
            "name": self.name,
            "limit": self.limit,
        }

    @property
    def upload_id(self) -> str | None:
        """The upload that it reads."""
        return self.body.source.upload if isinstance(self.body.source, Upload) else None

    @property
    def queue(self) -> str:
        """The queue whose workers it needs."""
        return "train" if self.body.kind == "finetune" else "classify"

    def draft(self) -> NewJob:
        """The job as it is known before its images are."""
        return NewJob(
            model_id=None,
            description=self._description(),
            priority=self.body.priority,
            owner=self.owner,
            kind="finetune" if self.body.kind == "finetune" else "classify",
            queue=self.queue,
        )

    def training(self) -> Training:
        """What worker.finetuning takes, of a finetune job."""
        body = self.body
        if not isinstance(body, FinetuneJob):
            raise TypeError(f"expected a finetune job, got {body.kind}")
        return Training(
            self.name or "",
            check_recipe(self.recipe or {}),
            allow_leaks=body.allow_leaks or body.continue_run is not None,  # the run before was let through the gate
            priority=body.priority,
            owner=self.owner,
            continued_from=body.continue_run,
        )

    def _description(self) -> str:
        source = self.body.source
        if source is None:
            return self.name or ""
        kind, where = next(iter(source.model_dump().items()))
        return where if isinstance(where, str) else f"the {len(where):,} {kind} given"


def asked_again(values: Mapping[str, Any]) -> Asked:
    """What `to_json` told. Raises ValidationError where another release of Pixmill wrote it."""
    return Asked(**{**values, "body": _BODY.validate_python(values["body"])})


def ask(context: Context, caller: Caller, body: AnyJob) -> Asked:
    """Check all that can be told at once. Raises Problem, ModelError, StoreError."""
    if isinstance(body.source, Upload):
        own_upload(context, caller, body.source.upload)
    asked = Asked(
        body,
        caller.owner,
        _allowance(context, caller),
        limit=caller.limits.queued_items,
    )
    if not isinstance(body, FinetuneJob):
        return replace(asked, model=find_model(context.registry, body.model).reference)
    training = _continued(context, caller, body) if body.continue_run is not None else _begun(body)
    training = settled(training, context.registry.get)
    return replace(
        asked,
        recipe=training.recipe.model_dump(mode="json", exclude_none=True),
        name=check_name(training.name),
    )


def own_upload(context: Context, caller: Caller, upload_id: str) -> uploads.UploadRow:
    """An upload that the caller may use. Raises Problem 404, the same for another owner's as for none."""
    row = uploads.find(context.database, upload_id)
    if row is None or not caller.sees(row.owner):
        raise Problem("not-found", f"There is no upload {upload_id}.")
    return row


def find_model(registry: Registry, reference: str | None) -> ModelVersion:
    """The model to use: the one named, or the only one there is. Raises Problem, UnknownModel, InvalidModel."""
    if reference is not None:
        return registry.get(reference)
    names = registry.names()
    if len(names) == 1:
        return registry.get(names[0])
    if names:
        raise Problem(
            "unknown-model", f"Which model? Choose one with `model`: {', '.join(names[:20])}.", near=names[:20]
        )
    raise Problem("unknown-model", "There is no model yet: pull a preset or import one first.")


def _allowance(context: Context, caller: Caller) -> int | None:
    """How many more images may wait. Raises Problem 429 where none may."""
    most = caller.limits.queued_items
    if most is None:
        return None
    waiting = figures.queued_items(context.database, caller.owner)
    if waiting >= most:
        raise Problem("queue-full", f"At most {most:,} images may wait, and {waiting:,} do.")
    return most - waiting


def _begun(body: FinetuneJob) -> Training:
    if body.source is None or body.name is None:
        raise Problem("contradictory", "Expected source and name (or continue_run) for a training.")
    if body.add_epochs is not None:
        raise Problem("contradictory", "add_epochs goes with continue_run; epochs says how many there are in all.")
    return Training(check_name(body.name), new_recipe(_wishes(body)))


def _continued(context: Context, caller: Caller, body: FinetuneJob) -> Training:
    if body.source is not None or body.include or body.exclude:
        raise Problem(
            "contradictory", "continue_run goes on with the pictures of its run: leave source and globs away."
        )
    run = _own_run(context, caller, body.continue_run or 0)
    past_job(run)
    before = check_recipe(run.recipe)
    if body.recipe is None:
        recipe = further_recipe(before, run.epochs, _wishes(body), add_epochs=body.add_epochs)
    else:
        recipe = _further_document(before, run.epochs, body)
    return Training(body.name or run.name, recipe)


def _own_run(context: Context, caller: Caller, run_id: int) -> RunRow:
    try:
        run = find_run(context.database, run_id)
    except UnknownRun:
        run = None
    if run is None or not caller.sees(run.owner):
        raise Problem("not-found", f"There is no run {run_id}.")
    return run


def _further_document(before: Recipe, done: int, body: FinetuneJob) -> Recipe:
    """The whole further recipe as a client made it: what a run keeps must be as it was, and there must be more of it.

    `done`: epochs that the run has trained.
    """
    others = (body.mode, body.base, body.preset, body.epochs, body.add_epochs)
    if body.set or any(choice is not None for choice in others):
        raise Problem("contradictory", "With continue_run, give either the whole recipe or single choices, not both.")
    recipe = check_recipe(body.recipe or {})
    changed = [key for key in FIXED if getattr(recipe, key) != getattr(before, key)]
    if changed:
        raise Problem("invalid-recipe", f"A run that goes on keeps {', '.join(changed)}. Start a new one instead.")
    if recipe.total_epochs <= (reached := reached_of(before, done)):
        raise Problem("invalid-recipe", f"The run has {reached} epochs; expected a recipe with more.")
    return recipe


def _wishes(body: FinetuneJob) -> Wishes:
    return Wishes(
        base=body.base,
        preset=body.preset,
        mode=body.mode,
        document=body.recipe or {},
        epochs=body.epochs,
        settings=_nested(body.set),
    )


def _nested(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """`{"optimizer.learning_rate": 0.1}` as `{"optimizer": {"learning_rate": 0.1}}`, as the command line takes it."""
    nested: Mapping[str, Any] = {}
    for key, value in values.items():
        head, *rest = key.split(".")
        if len(rest) > 1 or not all([head, *rest]):
            parse_settings([key])  # which says what a key looks like
        nested = merge(nested, {head: {rest[0]: value}} if rest else {head: value})
    return nested
