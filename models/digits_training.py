"""The child that trains the demonstration's network: `python -m models.digits_training`, request on standard input."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from models.children import Progress, answer_with
from models.images import load_picture
from models.labels import save_labels
from models.manifest import Preprocessing

SEED = 7
BATCH = 32
LEARNING_RATE = 2e-3
VALIDATION_SHARE = 0.1


def train(request: Mapping[str, Any], progress: Progress) -> Mapping[str, str]:
    """Train on folders of pictures, save `digits.keras` and `digits_labels.json`, and tell each epoch as a JSON object.

    request: `dataset` (a folder of class folders), `folder` (where to save), `epochs`, `preprocessing` (as JSON).
    """
    keras.utils.set_random_seed(SEED)
    preprocessing = Preprocessing(**request["preprocessing"])
    labels, pictures, classes = load_folders(Path(request["dataset"]), preprocessing)
    order = np.random.default_rng(SEED).permutation(len(pictures))
    epochs = int(request["epochs"])
    model = network(preprocessing, len(labels))
    model.fit(
        pictures[order],
        classes[order],
        batch_size=BATCH,
        epochs=epochs,
        validation_split=VALIDATION_SHARE,
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: progress(_line(epoch, epochs, logs)))
        ],
    )
    folder = Path(request["folder"])
    model.save(folder / "digits.keras")
    save_labels(labels, folder / "digits_labels.json")
    return {"model": str(folder / "digits.keras"), "labels": str(folder / "digits_labels.json")}


def load_folders(
    dataset: Path, preprocessing: Preprocessing
) -> tuple[Sequence[str], NDArray[np.uint8], NDArray[np.int64]]:
    """Class names, pictures uint8 [N, H, W, C] and class indices [N] of a folder of class folders."""
    labels = sorted(entry.name for entry in dataset.iterdir() if entry.is_dir())
    files = [(file, index) for index, label in enumerate(labels) for file in sorted((dataset / label).iterdir())]
    pictures = np.stack([load_picture(file.read_bytes(), preprocessing).pixels for file, _ in files])
    return labels, pictures, np.array([index for _, index in files])


def network(preprocessing: Preprocessing, classes: int) -> Any:
    """Three convolutions, a dropout and a dense layer: 38,000 parameters are plenty for ten digits."""
    model = keras.Sequential(
        [
            keras.Input((preprocessing.height, preprocessing.width, preprocessing.channels), name="picture"),
            # Ink is one and paper zero, so that the convolutions' zero padding is more paper.
            keras.layers.Rescaling(-1 / 255, offset=1.0),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            keras.layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.4),
            keras.layers.Dense(classes, activation="softmax"),
        ],
        name="digits",
    )
    optimizer = keras.optimizers.Adam(LEARNING_RATE)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _line(epoch: int, epochs: int, logs: Mapping[str, float]) -> str:
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    return json.dumps({"epoch": epoch + 1, "epochs": epochs, **{name: float(logs[name]) for name in names}})


if __name__ == "__main__":
    answer_with(train)
