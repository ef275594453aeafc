"""The demonstration: scikit-learn's handwritten digits as folders of PNGs, and a small network trained on them.

`write_digits` needs no framework; `train_digits` starts `python -m models.digits_training`, where TensorFlow is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from models.children import Child, bare_environment
from models.manifest import Preprocessing
from models.wishes import Overrides

SIDE = 32  # pixels of a PNG; the digits come as 8×8 and are enlarged so that a person can see them
BRIGHTEST = 16  # of the original's grey levels
TEST_SHARE = 0.2
SEED = 20
EPOCHS = 12
TIMEOUT_S = 300.0

# What the network sees: grey, the whole frame, half the PNG's side; that keeps all that the 8×8 original knows.
PREPROCESSING = Preprocessing(width=16, height=16, channels=1, crop="squash", interpolation="area")
IMPORT_AS = Overrides(crop=PREPROCESSING.crop, interpolation=PREPROCESSING.interpolation)  # for `import_keras`


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch: losses, and accuracies as parts of one. The validation pictures are part of the training folder."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float


def write_digits(root: Path) -> tuple[Path, Path]:
    """Write `root/{train,test}/<digit>/NNNN.png`, always the same split; returns the two folders.

    1,797 digits written by 43 people (scikit-learn's copy of the UCI set); a fifth of each digit's pictures is for
    testing.
    """
    digits = load_digits()
    everything = np.arange(len(digits.target))
    chosen = train_test_split(everything, test_size=TEST_SHARE, stratify=digits.target, random_state=SEED)
    folders = root / "train", root / "test"
    for folder, indices in zip(folders, chosen, strict=True):
        for index in indices:
            file = folder / str(digits.target[index]) / f"{index:04d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            _picture(digits.images[index]).save(file)
    return folders


def train_digits(
    folder_out: Path, dataset: Path, *, epochs: int = EPOCHS, each_epoch: Callable[[Epoch], None] | None = None
) -> tuple[Path, Path]:
    """Train on `dataset/<class>/*.png` in a process of its own; returns the model file and its file of labels.

    Import it with the overrides `IMPORT_AS`. `each_epoch` is called after every epoch. Raises InvalidModel where the
    process dies.
    """
    folder_out.mkdir(parents=True, exist_ok=True)
    request = {
        "dataset": str(dataset.resolve()),
        "folder": str(folder_out.resolve()),
        "epochs": epochs,
        "preprocessing": asdict(PREPROCESSING),
    }
    with TemporaryDirectory(prefix="pixmill-digits-") as home:
        child = Child("models.digits_training", Path(home), bare_environment(Path(home)), TIMEOUT_S)
        answer = child.ask(request, lambda line: each_epoch(Epoch(**json.loads(line))) if each_epoch else None)
    return Path(answer["model"]), Path(answer["labels"])


def _picture(levels: NDArray[np.float64]) -> Image.Image:
    """An 8×8 array of grey levels 0–16 as a smooth picture of dark ink on white paper."""
    ink = np.round(255 - levels * (255 / BRIGHTEST)).astype(np.uint8)
    return Image.fromarray(ink).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
