"""The plain rows that reports are made from, and text of any origin made fit to be shown."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Protocol


class EpochLine(Protocol):
    """One finished epoch; the store's rows and the trainer's epochs are such. None: not measured (no validation)."""

    @property
    def epoch(self) -> int:
        """Its number; what is drawn and printed is this number."""

    @property
    def phase(self) -> str:
        """The phase of the training, such as "head"."""

    @property
    def loss(self) -> float | None:
        """Mean over the training images."""

    @property
    def accuracy(self) -> float | None:
        """0 to 1, on the training images as they were augmented."""

    @property
    def top5(self) -> float | None:
        """0 to 1."""

    @property
    def val_loss(self) -> float | None:
        """Mean over the validation images."""

    @property
    def val_accuracy(self) -> float | None:
        """0 to 1."""

    @property
    def val_top5(self) -> float | None:
        """0 to 1."""

    @property
    def learning_rate(self) -> float | None:
        """At the end of the epoch."""

    @property
    def images_per_s(self) -> float | None:
        """Training images per second."""

    @property
    def seconds(self) -> float | None:
        """Of the whole epoch, validation included."""

    @property
    def is_best(self) -> bool:
        """Whether the monitored value was the best so far: the last such epoch is the one that was kept."""


def best_epoch(epochs: Iterable[EpochLine]) -> EpochLine | None:
    """The epoch whose weights were kept: the last that was the best so far. None where none was marked."""
    marked = [epoch for epoch in epochs if epoch.is_best]
    return max(marked, key=lambda epoch: epoch.epoch) if marked else None


def phase_starts(epochs: Sequence[EpochLine]) -> list[tuple[int, str]]:
    """The epochs at which a later phase begins, with its name; empty for a training of one phase."""
    return [(epoch.epoch, epoch.phase) for before, epoch in pairwise(epochs) if epoch.phase != before.phase]


def clean(text: str) -> str:
    """`text` fit for a page, a drawing or a terminal: what would steer them, or is no character, becomes U+FFFD."""
    return text if text.isascii() and text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    # Control characters, halves of surrogates (file names that are no UTF-8), and what turns the writing direction.
    unfit = (
        unicodedata.category(char) in {"Cc", "Cs"} or char in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
    return "\ufffd" if unfit or ord(char) & 0xFFFE == 0xFFFE else char


def shorten(text: str, width: int) -> str:
    """`text`, cleaned, of at most `width` characters: the middle gives way, as names differ at their ends."""
    text = clean(text)
    if len(text) <= width:
        return text
    tail = max(0, (width - 1) // 3)
    return text[: width - 1 - tail] + "…" + (text[-tail:] if tail else "")
