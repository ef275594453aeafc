"""docs/training.md cannot lie: its questions are answered, its commands exist."""

import re
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.main import get_command

from cli.recipes import flat
from cli.tree import app
from models.recipes import all_keys, parse_settings
from store.database import Database

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"^\$ pixmill ([^#\n]*)", PAGE, re.MULTILINE)))


def test_every_question_of_the_page_is_answered(database: Database) -> None:
    questions = re.search(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    assert questions
    statements = [part for part in questions.group(1).split(";") if part.strip()]
    assert len(statements) >= 6
    with database.read() as connection:
        for statement in statements:
            connection.execute(text(statement)).all()


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_page_exists_with_its_options(line: str) -> None:
    command: object = get_command(app)
    words = line.split()
    while children := getattr(command, "commands", None):
        command = children[words.pop(0)]
    known = {option for parameter in getattr(command, "params", []) for option in parameter.opts}
    used = {word for word in words if word.startswith("--")}
    assert used <= known, (line, used - known)


def test_every_key_that_the_page_sets_is_one_of_a_recipe() -> None:
    settings = re.findall(r"--set ([a-z]\S+=\S+)", "\n".join(COMMANDS))
    assert settings
    assert set(flat(parse_settings(settings))) <= set(all_keys())
