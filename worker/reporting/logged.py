"""What every tracker logs of a training, and the error when there is none to log to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from worker.reporting.rows import EpochLine


class TrackingUnavailable(Exception):
    """A tracker was asked for whose package is not installed, or that cannot be reached; the text says what to do."""


def measured(epoch: EpochLine) -> Iterator[tuple[str, float]]:
    """The numbers of an epoch by their names, those that were measured."""
    for name in (
        "loss", "accuracy", "top5", "val_loss", "val_accuracy", "val_top5", "learning_rate", "images_per_s", "seconds",
    ):  # fmt: skip
        value = getattr(epoch, name)
        if value is not None:
            yield name, float(value)


def flattened(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """A recipe's choices as dotted names and text."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{before}{name}.")
        elif value is not None:
            yield f"{before}{name}", str(value)
