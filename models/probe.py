"""The probe of a model version: a few pictures and the answers it gave when it was registered.

It is checked before a compiled form may serve and again at every load, so that a changed library, a damaged cache,
other weights or another preprocessing cannot put wrong labels into the database unnoticed.
"""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import InvalidModel, ModelRefused
from models.images import load_picture
from models.manifest import ModelVersion, Preprocessing

Pictures = NDArray[np.uint8]
Probabilities = NDArray[np.float32]
Indices = NDArray[np.int32]
Scores = NDArray[np.float32]

# How far scores may drift: the largest change of a class's log-probability, in units of their standard deviation over
# the classes, as the root mean square over the pictures. Errors of rounding grow with the logits, so this one number
# fits models that are sure and models that are not. Measured in bfloat16 against Keras in float32: MobileNetV2 0.18,
# ResNet-50 and EfficientNetV2B0 0.03, small networks 0.02; faults in the pixels give 0.6 to 6, two swapped classes
# mostly more than 1.
TOLERANCE = 0.35  # for bfloat16, and for GPUs, which compute convolutions in TensorFloat-32
TOLERANCE_FLOAT32 = 0.02  # for engines that say so; measured below 0.0005

_SMALLEST = 1e-7  # probabilities below are noise
_LEAST_SPREAD = 1e-4  # of a model that knows nothing
_PIXEL_TOLERANCE = 2  # another release of Pillow may round differently; another filter or crop differs by 9 and more


class Predictor(Protocol):
    """What the probe asks of an engine; models.engines stands above this module."""

    name: str
    batch_size: int

    def predict(self, batch: Pictures) -> tuple[Indices, Scores]:
        """Best classes and their probabilities, [N, K] each."""
        ...


@dataclass(frozen=True, slots=True)
class Drift:
    """How an engine's answers to a probe differ from the stored ones, on the picture where they differ most.

    `ratio`: see TOLERANCE. `difference`: the largest of a probability. `flipped`: another best class although the
    stored margin was clear. `expected`, `got`: the best class, and its probability.
    """

    ratio: float
    difference: float
    flipped: bool
    picture: int
    expected: tuple[int, float]
    got: tuple[int, float]


def make_probe(preprocessing: Preprocessing, n: int = 8, seed: int = 0) -> Pictures:
    """Synthetic pictures, taken through load_picture(): uint8 [n, H, W, C].

    Every one is larger than the model's input and of another shape, so that crop and resize filter show in the
    pixels. They are made of integers only: the same on every machine and with every version of numpy.
    """
    return np.stack([load_picture(_source(preprocessing, k, seed), preprocessing).pixels for k in range(n)])


def _source(preprocessing: Preprocessing, k: int, seed: int) -> bytes:
    """One picture as a BMP: two colours in waves, three discs of other colours, and a fine grid."""
    numbers = list(hashlib.shake_256(f"pixmill probe {seed}/{k}".encode()).digest(64))
    width, height = preprocessing.width * (13 + k % 3) // 8 + 5, preprocessing.height * (11 + k % 2) // 8 + 3
    x, y = (np.arange(side, dtype=np.int32) * 1024 // max(width, height) for side in (width, height))
    y = y[:, None]
    colours = np.array(numbers[:18], np.int16).reshape(6, 3, 1, 1)  # no sum or product below leaves 16 bits

    # A triangle wave across the frame at its own angle and length mixes the first two colours.
    phase = (x * (numbers[18] - 128) + y * (numbers[19] - 128) >> 7) + numbers[20]
    length = 64 + 2 * numbers[21]
    wave = (np.abs(phase % (2 * length) - length) * 127 // length).astype(np.int16)
    pixels = colours[0] + ((colours[1] - colours[0]) * wave >> 7)

    for disc in range(3):
        at_x, at_y, radius = (numbers[22 + 3 * disc + part] for part in range(3))
        inside = (x - 4 * at_x) ** 2 + (y - 4 * at_y) ** 2 < (40 + radius) ** 2
        pixels = np.where(inside, pixels + 3 * colours[2 + disc] >> 2, pixels)
    every = 8 + numbers[31] % 24
    grid = (x % every < every // 4) ^ (y % every < every // 4)
    pixels += grid * (colours[5] // 8 - 16)

    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0).copy()).save(file, "BMP")
    return file.getvalue()


def save_probe(path: Path, images: Pictures, probabilities: Probabilities) -> None:
    """Write pictures uint8 [n, H, W, C] and the probabilities float32 [n, classes] that Keras gave for them."""
    with path.open("wb") as file:
        np.savez_compressed(file, images=images, probabilities=probabilities.astype(np.float32))


def load_probe(path: Path) -> tuple[Pictures, Probabilities]:
    """Read back what save_probe() wrote. Raises InvalidModel where the file is missing or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return arrays["images"], arrays["probabilities"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidModel(f"{path}: expected a probe (.npz with images and probabilities): {error}") from error


def check_probe(engine: Predictor, version: ModelVersion) -> None:
    """Raise ModelRefused, the difference shown, unless engine, labels and preprocessing are what was registered."""
    try:
        images, expected = load_probe(version.path / "probe.npz")
    except InvalidModel as error:
        raise ModelRefused(f"{version.reference} cannot be checked, so it may not serve: {error}") from error
    _check_labels(version)
    _check_preprocessing(version, images)
    drift = measure_drift(*answer(engine, images), expected)
    tolerance = TOLERANCE_FLOAT32 if getattr(engine, "precision", None) == "f32" else TOLERANCE
    if drift.flipped or not drift.ratio <= tolerance:
        raise ModelRefused(
            f"{version.reference}: the {engine.name} engine does not answer as Keras did when the model was "
            f"registered. {describe(drift, version, tolerance)} The weights, the compiled form or a library changed: "
            f"remove openvino/ in {version.path}, or import the model again."
        )


def answer(engine: Predictor, images: Pictures) -> tuple[Indices, Scores]:
    """The engine's answers, in batches that it takes."""
    parts = [engine.predict(images[at : at + engine.batch_size]) for at in range(0, len(images), engine.batch_size)]
    return np.concatenate([indices for indices, _ in parts]), np.concatenate([scores for _, scores in parts])


def measure_drift(indices: Indices, scores: Scores, expected: Probabilities) -> Drift:
    """Compare an engine's best classes [n, K] with all stored probabilities [n, classes]."""
    logs = np.log(expected.clip(_SMALLEST, 1))
    spread = logs.std(axis=1).clip(_LEAST_SPREAD)
    stored = np.take_along_axis(logs, indices, axis=1)
    ratios = np.abs(np.log(scores.clip(_SMALLEST, 1)) - stored).max(axis=1) / spread
    margin = logs.max(axis=1) - stored[:, 0]  # 0 where the best class is the same
    flips = margin > 2 * TOLERANCE * spread
    worst = int(np.where(flips, np.inf, ratios).argmax())
    best = int(expected[worst].argmax())
    return Drift(
        ratio=float(np.sqrt(np.mean(ratios**2))),
        difference=float(np.abs(scores - np.take_along_axis(expected, indices, axis=1)).max()),
        flipped=bool(flips.any()),
        picture=worst,
        expected=(best, float(expected[worst, best])),
        got=(int(indices[worst, 0]), float(scores[worst, 0])),
    )


def describe(drift: Drift, version: ModelVersion, tolerance: float) -> str:
    """A sentence with labels and numbers, for a person."""
    (expected, expected_score), (got, got_score) = drift.expected, drift.got
    return (
        f"On probe picture {drift.picture} it says {version.labels[got]!r} ({got_score:.3f}) where "
        f"{version.labels[expected]!r} ({expected_score:.3f}) was expected; a probability differs by up to "
        f"{drift.difference:.3f}, scores drift by {drift.ratio:.3g} of their spread, at most {tolerance:g} is accepted."
    )


def _check_labels(version: ModelVersion) -> None:
    """The engine sees class numbers only: that their names are the registered ones, the manifest's hash says."""
    facts = version.manifest.files.get("labels.json")
    if facts is None:  # not in the registry yet
        return
    path = version.path / "labels.json"
    if hashlib.sha256(path.read_bytes()).hexdigest() != facts["sha256"]:
        raise ModelRefused(f"{version.reference}: {path} is not the one that was registered; import the model again.")


def _check_preprocessing(version: ModelVersion, images: Pictures) -> None:
    """The stored pictures, made anew, show whether this installation crops and resizes as the registering one did."""
    made = make_probe(version.manifest.preprocessing, len(images))
    difference = int(np.abs(made.astype(np.int16) - images).max()) if made.shape == images.shape else 255
    if difference > _PIXEL_TOLERANCE:
        raise ModelRefused(
            f"{version.reference}: this installation prepares pictures differently from the one that registered the "
            f"model: a pixel of the probe differs by {difference}, at most {_PIXEL_TOLERANCE} is accepted. "
            "Import the model again."
        )
