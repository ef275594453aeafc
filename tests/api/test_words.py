"""Errors speak to whoever is there: of options and commands at a shell, of fields and operations over HTTP."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.problems import problem_of
from api.words import OPERATIONS, for_http, for_shell
from models.errors import InvalidRecipe, UnknownModel
from store.errors import UnknownJob
from worker.sources.errors import EmptySource

ROOT = Path(__file__).parents[2]
SHELL = re.compile(r"pixmill [a-z]+|(?<![^\s(`])--[a-z][a-z-]+")
# Words for whoever runs the server, or another machine; and what is no message at all.
STAYS = re.compile(r"`pixmill db upgrade`|^Where there is internet: .*$", re.MULTILINE)
NOT_TOLD = (
    "worker/main.py",  # Celery's arguments
    "worker/devices.py",  # of a worker's command line
    "worker/reporting/",  # style sheets
    "models/probe.py",  # a User-Agent
    "store/failure_limits.py",  # a job keeps it as its own error
)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("leave the pictures out (--exclude 'FOLDER/*'), or", "leave the pictures out (`exclude` 'FOLDER/*'), or"),
        ("If these are images, `--include '*.x'` names them.", "If these are images, `include` '*.x' names them."),
        ("train all the same with --allow-leaks.", "train all the same with `allow_leaks`."),
        (
            "birds (a preset: `pixmill models pull birds`)",
            "birds (a preset: `POST /api/v1/presets/pull, preset birds`)",
        ),
        ("There is no folder /p/--exclude/x.", "There is no folder /p/--exclude/x."),
        ("There is nothing at --old.", "There is nothing at --old."),
    ],
)
def test_options_become_fields_and_commands_operations(said: str, told: str) -> None:
    assert for_http(said) == told


@pytest.mark.parametrize("command", sorted(OPERATIONS))
def test_a_command_line_hears_of_commands_again(command: str) -> None:
    text = "It says: `" + re.sub(r"{\w+}", "x7", command) + "` helps."
    assert for_http(text) != text
    assert for_shell(for_http(text)) == text


@pytest.mark.parametrize(
    "text", ["leave them out (--exclude 'FOLDER/*').", "or use --force.", "up to --max-failures, or so"]
)
def test_a_command_line_hears_of_options_again(text: str) -> None:
    assert for_http(text) != text
    assert for_shell(for_http(text)) == text


def test_problems_speak_of_the_api() -> None:
    for error in (UnknownJob(7), UnknownModel("birds"), InvalidRecipe("name one with --preset."), _empty()):
        problem = problem_of(error)
        assert problem is not None
        assert not SHELL.search(str(problem.detail)), problem.detail


def _empty() -> EmptySource:
    return EmptySource("folder /p", Counter({".txt": 3}))


def test_no_message_of_the_packages_below_speaks_of_a_shell_over_http() -> None:
    seen = 0
    for path, text in _texts():
        seen += bool(SHELL.search(text))
        left = SHELL.findall(STAYS.sub("", for_http(text)))
        assert not left or path.startswith(NOT_TOLD), (path, text, left)
    assert seen > 20


def _texts() -> Iterator[tuple[str, str]]:
    """Every text of the code with its file; no docstrings, and no bare command, which a message puts into backticks."""
    for package in ("models", "store", "worker"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for text in _texts_of(ast.parse(path.read_text(encoding="utf-8"))):
                if text not in OPERATIONS:
                    yield str(path.relative_to(ROOT)), text


def _texts_of(tree: ast.Module) -> Iterator[str]:
    """The texts of a module; values that are put into them are X."""
    nodes = list(ast.walk(tree))
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    parts |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value
