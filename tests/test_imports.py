"""Thin processes stay thin: what they import, read from `sys.modules` of a new interpreter."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import store.database

HEAVY = ("cv2", "h5py", "keras", "keras_cv", "matplotlib", "openvino", "scipy", "sklearn", "tensorflow", "torch")
PICTURES = ("PIL", "numpy", "pyarrow", "simplejpeg")  # not in the API's image

API = "cli.api, api.serve"  # all that `pixmill api` imports before it makes the app
IMPORTED_S = 1.0  # the issue's; it takes 0.65 on two cores that do other things too


def loaded_by(statement: str, *watched: str) -> set[str]:
    """Which of the watched modules are loaded after a statement in a fresh interpreter."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(watched) & set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", [API, "dashboard", "worker.dispatch", "cli.tree"])
def test_the_web_and_the_command_line_start_without_machine_learning(module: str) -> None:
    assert not loaded_by(f"import {module}", *HEAVY, *PICTURES)


def test_the_api_brings_no_machine_learning_with_all_its_routes(tmp_path: Path) -> None:
    make = f"from worker.settings import Settings\napi.serve.make_app(Settings(home={str(tmp_path)!r}), roots=[])"
    seen = loaded_by(f"import {API}\n{make}", *HEAVY, *PICTURES, "api.routes.submit", "uvicorn", "fastapi")
    assert seen == {"api.routes.submit", "uvicorn", "fastapi"}


def test_the_api_is_imported_within_a_second() -> None:
    """Of processor time, user and system, at the best of three: what else the machine does has no say in that."""
    assert min(processor_time(f"import {API}") for _ in range(3)) < IMPORTED_S


def processor_time(statement: str) -> float:
    """What a fresh interpreter computes until a statement is done."""
    program = f"{statement}\nimport time\nprint(time.process_time())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.splitlines()[-1])


def test_the_command_line_answers_before_it_needs_a_database_or_a_server() -> None:
    assert not loaded_by("import cli.tree", "sqlalchemy", "fastapi", "celery", "redis", "httpx", "httpx2")


@pytest.mark.parametrize("module", ["worker.app", "worker.tasks"])
def test_the_queue_side_starts_without_a_framework(module: str) -> None:
    # The parent of the workers imports these: TensorFlow must never be in it.
    assert not loaded_by(f"import {module}", *HEAVY)


def test_the_store_keeps_its_sqlite_when_tensorflow_comes_later() -> None:
    # TensorFlow exports an older SQLite of its own to the process that imports it first (docs/decisions/0003).
    program = """
import store.database, tensorflow
connection = store.database.sqlite_module().connect(":memory:")
print(*connection.execute("SELECT sqlite_version()").fetchone())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert tuple(int(part) for part in done.stdout.split(".")) >= store.database.WAL_SAFE


def test_a_loaded_module_is_seen() -> None:
    assert loaded_by("import numpy", *HEAVY, *PICTURES) == {"numpy"}
