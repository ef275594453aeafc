"""The demonstration's data: scikit-learn's handwritten digits as folders of PNGs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SIDE = 32  # pixels of a PNG; the digits come as 8×8 and are enlarged so that a person can see them
BRIGHTEST = 16  # of the original's grey levels
TEST_SHARE = 0.2
SEED = 20


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


def _picture(levels: NDArray[np.float64]) -> Image.Image:
    """An 8×8 array of grey levels 0–16 as a smooth picture of dark ink on white paper."""
    ink = np.round(255 - levels * (255 / BRIGHTEST)).astype(np.uint8)
    return Image.fromarray(ink).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
