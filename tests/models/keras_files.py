"""Hand-made `.keras` files: what a stranger could write without Keras. For the static checks."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

METADATA = {"keras_version": "3.15.1", "date_saved": "2026-01-01@00:00:00"}


def layer(
    class_name: str, module: str = "keras.layers", registered_name: str | None = None, **config: Any
) -> dict[str, Any]:
    """A layer as Keras writes it."""
    return {"module": module, "class_name": class_name, "config": config, "registered_name": registered_name}


def sequential(*layers: dict[str, Any]) -> dict[str, Any]:
    """A configuration with these layers behind an input of 8×8 RGB."""
    first = layer("InputLayer", batch_shape=[None, 8, 8, 3], dtype="float32", name="picture")
    return layer("Sequential", "keras", name="net", layers=[first, *layers])


def plain_weights(file: h5py.File) -> None:
    """Weights of one layer, as Keras writes them."""
    file.create_group("layers/dense/vars").create_dataset("0", data=np.ones((192, 2), np.float32))


def keras_file(
    path: Path,
    config: Any = None,
    *,
    weights: Callable[[h5py.File], object] = plain_weights,
    metadata: Any = METADATA,
    more: dict[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """Write a `.keras` file of these parts."""
    hdf5 = io.BytesIO()
    with h5py.File(hdf5, "w") as file:
        weights(file)
    chosen = sequential(layer("Flatten"), layer("Dense", units=2, activation="softmax")) if config is None else config
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("metadata.json", _bytes(metadata))
        archive.writestr("config.json", _bytes(chosen))
        archive.writestr("model.weights.h5", hdf5.getvalue())
        for name, data in (more or {}).items():
            archive.writestr(name, data)
    return path


def _bytes(content: Any) -> bytes:
    return content if isinstance(content, bytes) else json.dumps(content).encode()
