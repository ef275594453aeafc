"""The sandboxed child with every check of its own switched off: only the fences are left."""

import importlib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

from models import sandbox
from models.children import answer_with


def open_blindly(source: Path) -> Any:
    """With code in it, if it has any."""
    import keras

    return keras.models.load_model(source, compile=False, safe_mode=False)


def import_blindly(name: str) -> ModuleType:
    module = importlib.import_module(name)
    if name == "models.opening":
        mock.patch.object(module, "open_model", open_blindly).start()
    if name == "models.weights_check":
        mock.patch.object(module, "check_weights").start()
    return module


if __name__ == "__main__":
    with mock.patch.object(sandbox, "importlib", SimpleNamespace(import_module=import_blindly)):
        answer_with(sandbox.open_file)
