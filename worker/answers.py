"""From an engine's arrays to result rows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from models.engines.base import Indices, Scores
from models.images import Picture
from store.rows import NewResult


@dataclass(frozen=True, slots=True)
class Prepared:
    """One item whose pixels are ready for the engine."""

    idx: int
    picture: Picture
    content_hash: bytes
    file_key: bytes | None


class Answers:
    """Turns class indices and scores into rows with names."""

    def __init__(self, labels: Sequence[str], top_k: int) -> None:
        self._labels = labels
        self._top_k = top_k
        self._quoted = [json.dumps(label, ensure_ascii=False) for label in labels]

    def rows(self, prepared: Sequence[Prepared], indices: Indices, scores: Scores) -> list[NewResult]:
        """One row per image; indices and scores are [N, K], best first."""
        k = self._top_k
        pairs = zip(prepared, indices[:, :k].tolist(), scores[:, :k].tolist(), strict=True)
        return [self._row(image, classes, values) for image, classes, values in pairs]

    def _row(self, image: Prepared, classes: list[int], values: list[float]) -> NewResult:
        # Six digits: more is noise, and doubles the size of the table.
        entries = (
            f'{{"label": {self._quoted[c]}, "score": {round(v, 6)}}}' for c, v in zip(classes, values, strict=True)
        )
        return NewResult(
            image.idx,
            "ok",
            label=self._labels[classes[0]],
            score=round(values[0], 6),
            topk=f"[{', '.join(entries)}]",
            content_hash=image.content_hash,
            width=image.picture.width,
            height=image.picture.height,
            file_key=image.file_key,
        )
