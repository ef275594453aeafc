"""From what was typed to what is wished of a recipe, in the words of the command line; and the table of all keys."""

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
from models.recipes import Mode, Recipe, flat, parse_settings, read_recipe
from worker import wishes as wished

__all__ = ["Wishes", "flat", "further_recipe", "new_recipe", "reference"]

START = ("base", "preset")
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
    document, settings = _document(wishes.document), parse_settings(wishes.settings)
    if not any((wishes.base, wishes.preset, *(said.get(key) for said in (document, settings) for key in START))):
        raise CommandError(
            "What does it begin with? --base MODEL (`pixmill models list`) or --preset NAME (`pixmill models presets`)."
        )
    epochs = _whole(wishes.epochs) if wishes.epochs is not None else None
    return wished.new_recipe(wished.Wishes(wishes.base, wishes.preset, wishes.mode, document, epochs, settings))


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
    if wishes.epochs is None:
        raise CommandError("How far? --continue RUN needs --epochs, as in --epochs +10.")
    settings = parse_settings(wishes.settings)
    for key in settings:
        if key in wished.FIXED:
            raise CommandError(f"--set {key}: a run that goes on keeps it. Start a new one without --continue.")
    added = re.fullmatch(r"\+(\d{1,9})", wishes.epochs)
    epochs = None if added else _whole(wishes.epochs)
    more = int(added[1]) if added else None
    return wished.further_recipe(before, done, wished.Wishes(epochs=epochs, settings=settings), add_epochs=more)


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


def _row(key: str, field: FieldInfo) -> str:
    default = field.default
    worth = "–" if default is None else json.dumps(default).strip('"')
    return f"| `{key}` | {worth} | {field.description or ''} |"
