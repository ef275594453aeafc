"""From what was asked of a training to its recipe: a document, single choices and settings put over each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.errors import InvalidRecipe
from models.recipes import Mode, Recipe, check_recipe, make_recipe, merge

# A run that goes on has the network, the pictures and their split of the run before it.
FIXED = ("mode", "base", "preset", "pretrained", "keep_head", "seed", "image", "split")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was said about a recipe. `settings` go over `document`, the rest over both; nested values both."""

    base: str | None = None
    preset: str | None = None
    mode: Mode | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def new_recipe(wishes: Wishes) -> Recipe:
    """The recipe of a new training, over the defaults of its mode and start. Raises InvalidRecipe."""
    said = dict(merge(wishes.document, wishes.settings))
    if wishes.epochs is not None:
        said["epochs"] = wishes.epochs
    base, preset = _start(wishes, said)
    mode = wishes.mode or said.get("mode")
    said = {key: value for key, value in said.items() if key not in ("base", "preset", "mode")}
    return make_recipe(mode, base=base, preset=preset, said=said)


def further_recipe(before: Recipe, done: int, wishes: Wishes, *, add_epochs: int | None = None) -> Recipe:
    """The recipe of a run that goes on with another: more epochs than were `done`, and other choices where they fit.

    `add_epochs` adds to those done, in two_phase to what was planned for the last phase; `wishes.epochs` is how many
    there are to be in all. Raises InvalidRecipe.
    """
    if wishes.base or wishes.preset or wishes.mode or wishes.document:
        raise InvalidRecipe(
            "A run that goes on keeps the network and the choices of its run: leave base, preset, mode and recipe "
            "away. The number of epochs and single settings can change the rest."
        )
    for key in wishes.settings:
        if key in FIXED:
            raise InvalidRecipe(f"{key}: a run that goes on keeps it. Start a new one instead.")
    values = merge(before.model_dump(exclude_none=True), wishes.settings)
    return check_recipe(merge(values, _further(before, done, wishes.epochs, add_epochs)))


def _start(wishes: Wishes, said: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Base and preset: a choice of its own takes the place of either in the document."""
    if wishes.base is not None and wishes.preset is not None:
        raise InvalidRecipe("base and preset exclude each other: begin with a model, or with an architecture.")
    if wishes.base is not None or wishes.preset is not None:
        return wishes.base, wishes.preset
    base, preset = said.get("base"), said.get("preset")
    if base is None and preset is None:
        raise InvalidRecipe("What does it begin with? Expected a base (a model) or a preset (an architecture).")
    return base, preset


def reached_of(before: Recipe, done: int) -> int:
    """The epochs that a run has which goes on: one that was ended early goes on from where it ended.

    `done` of them were trained; in two_phase those that were planned count, since the phases keep their lengths.
    """
    return before.total_epochs if before.mode == "two_phase" else done


def _further(before: Recipe, done: int, epochs: int | None, added: int | None) -> Mapping[str, Any]:
    two = before.mode == "two_phase"
    reached = reached_of(before, done)
    if (epochs is None) == (added is None):
        raise InvalidRecipe("How far? A run that goes on needs either epochs (in all) or add_epochs (so many more).")
    more = added if added is not None else (epochs or 0) - reached
    if more < 1:
        raise InvalidRecipe(f"The run has {reached} epochs; expected more of them, got {epochs if epochs else added}.")
    if two:
        return {"second_phase": {"epochs": before.second_phase.epochs + more}}
    return {"epochs": reached + more}
