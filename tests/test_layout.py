"""The house keeps its shape: names, sizes, who imports whom."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("api", "cli", "dashboard", "models", "store", "worker")
MOST_LINES = 400
# The command line's top, the task boundary, a request's, and its likes without a request: a scan that goes on after the
# answer, a check of readiness, and threads of the API and of a supervisor, which nobody would start again.
DOORS = {
    *("cli/tree.py", "worker/tasks.py", "worker/rounds.py"),
    *("api/guards_envelope.py", "api/submission/scanner.py", "api/health.py"),
    "api/client/sending.py",
    *("api/following/channel.py", "api/submission/service.py", "api/touches.py", "api/webhooks/sender.py"),
}


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_no_package_file_stands_under_tests() -> None:
    # With one, pytest would import tests/worker as `worker`, and the real package would vanish.
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_no_other_distribution_claims_our_top_level_names() -> None:
    owners = packages_distributions()
    intruders = {name: set(owners.get(name, ())) - {"pixmill"} for name in PACKAGES}
    assert not any(intruders.values()), intruders


def test_no_file_is_longer_than_one_can_hold_in_the_head() -> None:
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files(*PACKAGES, "tests", "bench", ".ci")
    }
    assert len(sizes) > len(PACKAGES)
    assert not {name: lines for name, lines in sizes.items() if lines > MOST_LINES}


def broad_handlers(source: str) -> list[int]:
    """The lines of handlers that catch everything and do not raise again."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        names = {part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)} if node.type else {"Exception"}
        raises = any(isinstance(part, ast.Raise) for part in ast.walk(node))
        if names & {"Exception", "BaseException"} and not raises:
            found.append(node.lineno)
    return found


def test_everything_is_caught_only_at_the_doors() -> None:
    broad = {
        name: lines
        for path in python_files(*PACKAGES)
        if (lines := broad_handlers(path.read_text(encoding="utf-8")))
        and (name := str(path.relative_to(ROOT))) not in DOORS
    }
    assert not broad


@pytest.mark.parametrize("clause", ["except:", "except Exception:", "except (ValueError, BaseException) as error:"])
def test_a_handler_that_catches_everything_is_seen(clause: str) -> None:
    assert broad_handlers(f"try:\n    work()\n{clause}\n    pass\n") == [3]
    assert not broad_handlers(f"try:\n    work()\n{clause}\n    raise\n")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the six packages, to plant things in."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(house: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=house, capture_output=True, text=True, check=False)


def test_the_contracts_hold(house: Path) -> None:
    done = lint_imports(house)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("where", "planted", "contract"),
    [
        ("store", "import worker", "Imports run downhill"),
        ("models", "import store", "Imports run downhill"),
        ("worker", "import api", "Imports run downhill"),
        ("api", "import dashboard", "Imports run downhill"),
        ("dashboard", "import cli", "Imports run downhill"),
        ("api", "import keras", "The web processes start without a machine-learning package"),
        ("models", "import sqlalchemy", "Models know nothing of queues, tables or the web"),
        ("store", "import celery", "The store knows nothing of models, queues or the web"),
    ],
)
def test_a_planted_import_is_named_with_its_contract(house: Path, where: str, planted: str, contract: str) -> None:
    (house / where / "planted.py").write_text(planted + "\n", encoding="utf-8")
    done = lint_imports(house)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in done.stdout
    assert f"{where}.planted" in done.stdout
