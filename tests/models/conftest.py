"""Small real models, built once by one TensorFlow process: `.keras` files, and versions with their compiled form."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.children import Child, bare_environment
from models.conversion import read_version
from models.manifest import ModelVersion


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what tests/models/small_models.py builds; read-only by custom."""
    folder = tmp_path_factory.mktemp("small-models")
    child = Child("tests.models.small_models", folder, bare_environment(folder), 180)
    child.ask({"folder": str(folder)})
    return folder


@pytest.fixture(scope="session")
def small_model_file(small_models: Path) -> Callable[[str], Path]:
    """A `.keras` file: "rgb" (softmax, 32×32×3, 10 classes), "grey_logits" (28×28×1, 7) or "many_classes" (30)."""
    return lambda kind: small_models / kind / "model.keras"


@pytest.fixture(scope="session")
def small_version(small_models: Path) -> Callable[[str], ModelVersion]:
    """A kind as a complete version, outside any registry. Not to be changed: `own_version` gives a copy."""
    return lambda kind: read_version(small_models / kind)


@pytest.fixture
def own_version(small_version: Callable[[str], ModelVersion], tmp_path: Path) -> ModelVersion:
    """A copy of "rgb" that the test may damage."""
    original = small_version("rgb")
    return replace(original, path=Path(shutil.copytree(original.path, tmp_path / "rgb")))
