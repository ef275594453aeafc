"""Models on their way to a server and back: what is said of a file that is sent, and a .zip as a folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.bundles import export_bundle, unpack_bundle
from models.errors import InvalidModel
from models.importing import check_any
from models.labels import read_labels

if TYPE_CHECKING:
    from models.wishes import Overrides

IMAGENET = "imagenet"  # the class names that need no file


def wishes(file: Path, name: str | None, labels: Path | None, overrides: Overrides) -> dict[str, Any]:
    """What is said of a model's file that is to be sent, once it is looked at as here. Raises InvalidModel, OSError."""
    if file.is_dir():
        raise InvalidModel(f"{file} is a folder; a server takes a .keras file, or a .zip that `models export` wrote.")
    check_any(file, name=name, labels=labels, overrides=overrides)
    if not file.is_file():
        raise InvalidModel(f"{file}: no such file.")
    said = dict(overrides.to_json())
    if "size" in said:
        width, height = said["size"]
        said["size"] = f"{width}x{height}"
    if labels is None:
        return said
    if str(labels) == IMAGENET:
        return {**said, "labels": IMAGENET}
    return {**said, "label": list(read_labels(labels))}


def unpacked(destination: Path, fetch: Callable[[Path], object]) -> Path:
    """Have a .zip fetched to where it belongs, or unpacked, checked, into a new folder. Raises InvalidModel."""
    if destination.exists():
        raise InvalidModel(f"{destination} exists; choose another name, or remove it first.")
    if destination.suffix.lower() == ".zip":
        fetch(destination)
        return destination
    with tempfile.TemporaryDirectory(prefix="pixmill-") as folder:
        bundle = Path(folder, "model.zip")
        fetch(bundle)
        return export_bundle(unpack_bundle(bundle, Path(folder, "model")), destination)
