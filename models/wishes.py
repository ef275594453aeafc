"""What a person may say about a model at import, and what is assumed where they say nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from models.errors import InvalidModel
from models.manifest import Crop, Interpolation, Output, Preprocessing, Scale

NO_RESCALING = "no Rescaling layer found; use --scale 0-1 if the model was trained on pixels divided by 255"

CHOICES: Mapping[str, tuple[str, ...]] = {
    "crop": get_args(Crop),
    "interpolation": get_args(Interpolation),
    "scale": get_args(Scale),
    "output": get_args(Output),
}


@dataclass(frozen=True, slots=True)
class Overrides:
    """Answers that the file cannot give, or gives wrongly; None leaves the choice to the importer.

    `size` is (width, height) in pixels. What is assumed otherwise: the model's own input size; the middle 87.5 % of
    the short side, bilinear (most published ImageNet classifiers were evaluated so; measured, squeezing the whole
    frame instead costs MobileNetV2 seven points of top-1); pixels 0–255, as Keras's own models take them.
    """

    size: tuple[int, int] | None = None
    crop: Crop | None = None
    crop_fraction: float | None = None
    interpolation: Interpolation | None = None
    scale: Scale | None = None
    output: Output | None = None

    def to_json(self) -> Mapping[str, Any]:
        """What was said, and nothing else."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Overrides:
        """Read back what `to_json` gave."""
        size = facts.get("size")
        return cls(**{**facts, "size": tuple(size) if size else None})

    def check(self) -> None:
        """Raises InvalidModel where a word or a number makes no sense."""
        for option, choices in CHOICES.items():
            said = getattr(self, option)
            if said is not None and said not in choices:
                raise InvalidModel(f"--{option}: expected {', '.join(choices)}; got {said!r}.")
        if self.size is not None and not all(1 <= side <= 4096 for side in self.size):
            raise InvalidModel(
                f"--size needs a width and height of 1 to 4096 pixels; got {self.size[0]}x{self.size[1]}."
            )
        if self.crop_fraction is not None and not 0 < self.crop_fraction <= 1:
            raise InvalidModel(
                f"the part of the frame that is used must be above 0 and at most 1; got {self.crop_fraction}."
            )

    def preprocessing(self, width: int, height: int, channels: int) -> Preprocessing:
        """The preprocessing of a model with this input, with what was said put in."""
        said = {key: value for key, value in self.to_json().items() if key not in ("size", "output")}
        return Preprocessing(width=width, height=height, channels=channels, **said)
