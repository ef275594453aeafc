"""What a model version says of itself: `manifest.json`, and the preprocessing that belongs to it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Crop = Literal["center", "squash", "pad"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "area"]
Output = Literal["probabilities", "logits"]
Scale = Literal["0-255", "0-1", "-1-1"]

FORMAT = 1  # of manifest.json; a reader refuses what it does not know


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image's bytes become the model's input: part of the model, never of the job.

    `crop`: "center" takes the middle of the frame, `crop_fraction` of the short side; "squash" resizes the whole frame
    and ignores its aspect ratio (what `image_dataset_from_directory` does); "pad" fits the whole frame and fills with
    black. `channels`: 3 for RGB, 1 for grey. `scale`: the range the model wants its pixels in; applied inside the
    compiled graph.
    """

    width: int = 224
    height: int = 224
    channels: int = 3
    crop: Crop = "center"
    crop_fraction: float = 0.875
    interpolation: Interpolation = "bilinear"
    scale: Scale = "0-255"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The facts of one immutable model version, as saved in `manifest.json`.

    `files` maps each file of the version to {"size": bytes, "sha256": hex}; `lineage` says where it came from
    (source file, preset, or run); `libraries` the versions it was made with.
    """

    name: str
    version: int
    preprocessing: Preprocessing
    output: Output
    classes: int
    created_at: str
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    parameters: int = 0
    format: int = FORMAT

    @property
    def reference(self) -> str:
        """The full name, `birds@3`."""
        return f"{self.name}@{self.version}"

    @property
    def digest(self) -> str:
        """SHA-256 hex over all that decides an answer: weights, labels, preprocessing, output kind."""
        facts = {
            "model": self.files["model.keras"]["sha256"],
            "labels": self.files["labels.json"]["sha256"],
            "preprocessing": asdict(self.preprocessing),
            "output": self.output,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write as JSON with sorted keys."""
        path.write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read back what `save` wrote. Raises ValueError for an unknown format."""
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts.get("format") != FORMAT:
            raise ValueError(f"{path}: expected manifest format {FORMAT}, got {facts.get('format')!r}")
        return cls(**{**facts, "preprocessing": Preprocessing(**facts["preprocessing"])})


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version in a registry: its folder, its manifest and its class names in output order."""

    path: Path
    manifest: Manifest
    labels: tuple[str, ...]

    @property
    def reference(self) -> str:
        """The full name, `birds@3`."""
        return self.manifest.reference
