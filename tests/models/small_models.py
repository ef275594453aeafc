"""A child that builds small classifiers with Keras and makes each a model version, compiled form included.

request: `folder`. Afterwards `<folder>/<kind>/` is a version, and `<folder>/<kind>.npz` holds `images` and what Keras
says of them in float32 (`probabilities`), computed the plain way: no code of the engines is asked.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from models.children import Progress, answer_with
from models.conversion import convert
from models.manifest import Manifest, ModelVersion, Output, Preprocessing, Scale
from models.probe import make_probe, save_probe


@dataclass(frozen=True)
class Kind:
    """A small classifier: its input and output, and how it was "trained" to see pixels."""

    preprocessing: Preprocessing
    classes: int
    output: Output


KINDS: Mapping[str, Kind] = {
    "rgb": Kind(Preprocessing(32, 32), 10, "probabilities"),
    "grey_logits": Kind(Preprocessing(28, 28, 1, scale="0-1"), 7, "logits"),
    "many_classes": Kind(Preprocessing(40, 24, scale="-1-1", crop="squash"), 30, "probabilities"),
}


def network(kind: Kind) -> Any:
    """Two convolutions and two dense layers, random but sure of itself: its best probabilities are far apart."""
    wanted = kind.preprocessing
    return keras.Sequential(
        [
            keras.Input((wanted.height, wanted.width, wanted.channels)),
            layers.Rescaling(1 / 255 if wanted.scale == "0-255" else 1.0),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(24, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(48, activation="relu"),
            layers.Dense(
                kind.classes,
                activation="softmax" if kind.output == "probabilities" else None,
                kernel_initializer=keras.initializers.RandomNormal(stddev=2.0),
            ),
        ]
    )


def reference(model: Any, kind: Kind, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities in float32, written out by hand."""
    spans: Mapping[Scale, tuple[float, float]] = {"0-255": (1, 0), "0-1": (255, 0), "-1-1": (127.5, 1)}
    divisor, offset = spans[kind.preprocessing.scale]
    raw = np.asarray(model(images.astype(np.float32) / divisor - offset, training=False), np.float64)
    if kind.output == "logits":
        raw = np.exp(raw - raw.max(axis=1, keepdims=True))
        raw /= raw.sum(axis=1, keepdims=True)
    return raw.astype(np.float32)


def build(name: str, kind: Kind, folder: Path) -> None:
    """Make the version `name`@1 and its reference answers."""
    keras.utils.set_random_seed(5)
    model = network(kind)
    home = folder / name
    home.mkdir()
    model.save(home / "model.keras")
    labels = [f"class {index}" for index in range(kind.classes)]
    (home / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    manifest = Manifest(name, 1, kind.preprocessing, kind.output, kind.classes, "2026-01-01T00:00:00+00:00")
    manifest.save(home / "manifest.json")
    probe = make_probe(kind.preprocessing)
    save_probe(home / "probe.npz", probe, reference(model, kind, probe))
    convert(ModelVersion(home, manifest, tuple(labels)))
    images = make_probe(kind.preprocessing, n=64, seed=1)
    np.savez(folder / f"{name}.npz", images=images, probabilities=reference(model, kind, images))


def work(request: Mapping[str, Any], _progress: Progress) -> Mapping[str, Any]:
    for name, kind in KINDS.items():
        build(name, kind, Path(request["folder"]))
    return {}


if __name__ == "__main__":
    answer_with(work)
