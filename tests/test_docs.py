"""Documents that cannot lie: what is there is documented, and what is documented is there."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.main import get_command

from cli.errors import Exit
from cli.tree import app
from models.errors import ImageError
from store import schema
from store.database import Database
from store.states import JobState
from store.views import definitions
from worker.failures import ITEM_CODES
from worker.settings import Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def commands(command: object, name: str) -> list[tuple[str, object]]:
    children = getattr(command, "commands", None) or {}
    found = [pair for child in children for pair in commands(children[child], f"{name} {child}")]
    return found or [(name, command)]


@pytest.mark.parametrize(("name", "command"), commands(get_command(app), "pixmill"))
def test_every_command_and_option_has_help_and_is_documented(name: str, command: object) -> None:
    page = read("cli.md")
    assert f"## {name}\n" in page
    assert getattr(command, "help", None), f"{name} has no help"
    for parameter in getattr(command, "params", []):
        if parameter.name != "help":
            assert parameter.help, f"{name}: {parameter.name} has no help"
            assert parameter.opts[0] in page or parameter.opts[0].upper() in page


def test_the_generated_documents_are_up_to_date() -> None:
    pages = [str(path) for path in (ROOT / "README.md", *sorted(DOCS.glob("*.md")))]
    done = subprocess.run(
        [sys.executable, "-m", "cogapp", "--check", *pages], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run ./do docs\n{done.stdout}{done.stderr}"


def test_every_exit_code_is_documented() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", read("cli.md"), re.MULTILINE)}
    assert documented == {int(code) for code in Exit}


def test_every_setting_and_job_state_is_documented() -> None:
    for name in Settings.model_fields:
        assert f"`{name}`" in read("settings.md")
    for state in JobState:
        assert f"`{state.value}`" in read("schema.md"), state


def test_every_item_code_that_the_code_can_raise_is_in_the_table() -> None:
    """Codes are the first argument of ImageError, wherever it is made."""
    known = {code.code for code in ITEM_CODES}
    assert ImageError("x", "y").code == "x"
    raised = set()
    for path in (*ROOT.glob("models/*.py"), *ROOT.glob("worker/**/*.py"), *ROOT.glob("store/*.py")):
        source = path.read_text(encoding="utf-8")
        raised |= set(re.findall(r"""(?:ImageError|error_code=)\(?\s*"([a-z_]+)\"""", source))
    assert len(raised) >= 8
    assert raised <= known, raised - known


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_every_view_and_every_column_is_documented(dialect: str) -> None:
    page = read("schema.md")
    for view in definitions(dialect):
        assert f"## {view}:" in page


def test_every_column_of_every_view_is_documented(database: Database) -> None:
    page = read("schema.md")
    with database.read() as connection:
        for view in definitions(connection.dialect.name):
            columns = list(connection.execute(text(f"SELECT * FROM {view}")).keys())
            assert columns
            for column in columns:
                assert f"`{column}`" in page, (view, column)


def test_every_documented_question_is_answered(database: Database) -> None:
    questions = re.search(r"```sql\n(.*?)```", read("schema.md"), re.DOTALL)
    assert questions
    statements = [part for part in questions.group(1).split(";") if part.strip()]
    assert len(statements) >= 5
    with database.read() as connection:
        for statement in statements:
            connection.execute(text(statement)).all()
    schema.check(database)


def test_every_attack_that_is_documented_has_its_tests() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", read("hostile-inputs.md"))
    assert len(named) > 25
    for file, name in named:
        functions = ast.walk(ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8")))
        assert name in {node.name for node in functions if isinstance(node, ast.FunctionDef)}, (file, name)
