"""Small labelled data sets and short trainings, for tests that need a real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 16
NAMES = ("apple", "brick", "cloud")
QUICK = ("--preset", "fashion_cnn", "--set", "batch_size=16")
COLUMNS = "epoch, loss, accuracy, val_loss, val_accuracy, learning_rate"
CURVE = "SELECT " + COLUMNS + " FROM v_run_curve WHERE run_id = {} ORDER BY epoch"  # of a run


def picture(label: int, number: int, side: int = SIDE) -> Image.Image:
    """A noisy picture of a class: stripes of its own direction and colour; no two are alike."""
    noise = np.random.default_rng([label, number])
    y, x = np.mgrid[:side, :side]
    wave = np.sin((x, y, x + y)[label % 3] * (1.1 + 0.1 * label) + noise.uniform(0, 6))
    colours = np.roll(np.array([200.0, 120.0, 60.0]), label)
    pixels = 128 + 0.5 * (colours - 128) + 45 * wave[..., None] + noise.normal(0, 34, (side, side, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_classes(folder: Path, per_class: int, *, names: tuple[str, ...] = NAMES, start: int = 0) -> None:
    """`folder/<class>/<number>.png`, so many of each class."""
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(start, start + per_class):
            picture(label, number).save(folder / name / f"{number:04}.png", compress_level=1)


def write_dataset(folder: Path, train: int = 40, test: int = 12) -> Path:
    """`folder/{train,test}/<class>/<number>.png`."""
    write_classes(folder / "train", train)
    write_classes(folder / "test", test, start=10_000)
    return folder
