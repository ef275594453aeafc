"""From what was typed to a recipe: a document, options and `--set` put over each other; and the table of all keys."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cli.errors import CommandError, Exit
from models.recipes import Mode, Recipe, check_recipe, make_recipe, merge, parse_settings, read_recipe

# A run that goes on has the network, the pictures and their split of the run before it.
FIXED = ("mode", "base", "preset", "pretrained", "keep_head", "seed", "image", "split")
MAX_BYTES = 1 << 20  # of a recipe; larger is another file


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was typed about a recipe. `epochs` is a number, or `+10` where a run goes on."""

    base: str | None = None
    preset: str | None = None
    mode: Mode | None = None
    document: Path | None = None
    epochs: str | None = None
    settings: Sequence[str] = ()


def new_recipe(wishes: Wishes) -> Recipe:
    """The recipe of a new training: options and `--set` over the document, over the defaults of mode and start.

    Raises CommandError, InvalidRecipe.
    """
    said = dict(merge(_document(wishes.document), parse_settings(wishes.settings)))
    if wishes.epochs is not None:
        said["epochs"] = _whole(wishes.epochs)
    base, preset = _start(wishes, said)
    mode = wishes.mode or said.get("mode")
    said = {key: value for key, value in said.items() if key not in ("base", "preset", "mode")}
    return make_recipe(mode, base=base, preset=preset, said=said)


def further_recipe(before: Recipe, done: int, wishes: Wishes) -> Recipe:
    """The recipe of a run that goes on with another: more epochs than were `done`, and other choices where they fit.

    `--epochs +10` adds to those done, in two_phase to what was planned for the last phase. Raises CommandError,
    InvalidRecipe.
    """
    if wishes.base or wishes.preset or wishes.mode or wishes.document:
        raise CommandError(
            "--continue goes on with the network and the choices of its run: leave --base, --preset, --mode and "
            "--recipe away. --epochs and --set can change the rest."
        )
    said = parse_settings(wishes.settings)
    for key in said:
        if key in FIXED:
            raise CommandError(f"--set {key}: a run that goes on keeps it. Start a new one without --continue.")
    values = merge(before.model_dump(exclude_none=True), said)
    return check_recipe(merge(values, _further(before, done, wishes.epochs)))


def reference() -> str:
    """Every key of a recipe as a table in Markdown, with its default (docs/training.md)."""
    lines = ["| key | default | |", "|---|---|---|"]
    for name, field in Recipe.model_fields.items():
        part = field.annotation
        if isinstance(part, type) and issubclass(part, BaseModel):
            lines += [_row(f"{name}.{key}", inner) for key, inner in part.model_fields.items()]
        else:
            lines.append(_row(name, field))
    return "\n".join(lines)


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested values by their whole keys, `optimizer.learning_rate` and the like."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found


def _start(wishes: Wishes, said: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Base and preset: an option takes the place of either in the document."""
    if wishes.base is not None and wishes.preset is not None:
        raise CommandError("--base and --preset exclude each other: begin with a model, or with an architecture.")
    if wishes.base is not None or wishes.preset is not None:
        return wishes.base, wishes.preset
    base, preset = said.get("base"), said.get("preset")
    if base is None and preset is None:
        raise CommandError(
            "What does it begin with? --base MODEL (`pixmill models list`) or --preset NAME (`pixmill models presets`)."
        )
    return base, preset


def _document(path: Path | None) -> Mapping[str, Any]:
    if path is None:
        return {}
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CommandError(f"{path} is too large to be a recipe: expected TOML as `pixmill runs recipe` prints it.")
        return read_recipe(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError as error:
        raise CommandError(f"There is no recipe {path}.", Exit.NOT_FOUND) from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is no text: expected TOML as `pixmill runs recipe` prints it.") from error


def _whole(text: str) -> int:
    if re.fullmatch(r"\d{1,9}", text):
        return int(text)
    if re.fullmatch(r"\+\d{1,9}", text):
        raise CommandError(f"--epochs {text} adds to a run that goes on: name it with --continue RUN.")
    raise CommandError(f"--epochs: expected a number, got {text!r}.")


def _further(before: Recipe, done: int, epochs: str | None) -> Mapping[str, Any]:
    if epochs is None:
        raise CommandError("How far? --continue RUN needs --epochs, as in --epochs +10.")
    two = before.mode == "two_phase"
    reached = before.total_epochs if two else done  # a run that was ended early goes on from where it ended
    added = re.fullmatch(r"\+(\d{1,9})", epochs)
    more = int(added[1]) if added else _whole(epochs) - reached
    if more < 1:
        raise CommandError(f"--epochs {epochs}: the run has {reached} epochs; expected more, or +N for so many more.")
    if two:
        return {"second_phase": {"epochs": before.second_phase.epochs + more}}
    return {"epochs": reached + more}


def _row(key: str, field: FieldInfo) -> str:
    default = field.default
    worth = "–" if default is None else json.dumps(default).strip('"')
    return f"| `{key}` | {worth} | {field.description or ''} |"
