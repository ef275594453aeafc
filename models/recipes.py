"""Recipes: every choice of one training as one typed document that can be saved, changed by keys, and run again."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import InvalidRecipe
from models.manifest import Crop, Interpolation

Mode = Literal["head", "full", "two_phase", "scratch"]
Monitor = Literal["val_loss", "val_accuracy"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)


class ImageChoice(_Part):
    """How pictures are brought to the network's size; what is left out is the base's own, or found in the data."""

    width: int | None = Field(None, ge=8, le=1024, description="Pixels; the base's own, or the data's.")
    height: int | None = Field(None, ge=8, le=1024, description="Pixels; the base's own, or the data's.")
    channels: Literal[1, 3] | None = Field(None, description="1 for grey, 3 for RGB; found in the data.")
    crop: Crop | None = Field(None, description="center, squash or pad.")
    crop_fraction: float | None = Field(
        None, gt=0, le=1, description="Part of the short side that a center crop takes."
    )
    interpolation: Interpolation | None = Field(None, description="nearest, bilinear, bicubic, lanczos or area.")


class SplitChoice(_Part):
    """What is held back where the folders or the manifest do not say it. Identical pictures stay together."""

    validation: float = Field(0.15, ge=0, lt=1, description="Part of the training pictures held back for validation.")
    test: float = Field(0.0, ge=0, lt=1, description="Part held back for the test at the end.")
    seed: int = Field(20, description="Of the split alone, so that two trainings can share one.")


class OptimizerChoice(_Part):
    """How weights move."""

    name: Literal["sgd", "adam", "adamw"] = Field("adam", description="sgd, adam or adamw.")
    learning_rate: Positive = Field(1e-3, description="The highest of the schedule.")
    momentum: Share = Field(0.9, description="Of sgd.")
    nesterov: bool = Field(False, description="Of sgd.")
    weight_decay: NotNegative = Field(0.0, description="Decoupled, of each update.")


class ScheduleChoice(_Part):
    """How the learning rate goes over the epochs."""

    name: Literal["constant", "warmup_hold_cosine", "plateau"] = Field(
        "constant", description="constant, warmup_hold_cosine or plateau (lower it when the monitored value rests)."
    )
    warmup: Share = Field(0.1, description="Part of all steps with a linear rise from zero.")
    hold: Share = Field(0.3, description="Part of all steps at the highest rate, after the warm-up.")
    factor: float = Field(0.2, gt=0, lt=1, description="Of plateau: the rate is multiplied by it.")
    patience: int = Field(3, ge=1, description="Of plateau: epochs without progress before that.")
    min_delta: NotNegative = Field(1e-3, description="Of plateau: less than this is no progress.")
    min_learning_rate: NotNegative = Field(1e-6, description="Of plateau: never below.")

    @model_validator(mode="after")
    def _fits(self) -> ScheduleChoice:
        if self.warmup + self.hold > 1:
            raise ValueError(f"warmup + hold must be at most 1, got {self.warmup} + {self.hold}")
        return self


class LossChoice(_Part):
    """Categorical cross-entropy, and what is done to it."""

    label_smoothing: float = Field(0.0, ge=0, lt=1, description="0.1 takes a tenth from the true class.")
    class_weights: Literal["none", "balanced"] = Field("none", description="balanced: rare classes count more.")


class RegularizationChoice(_Part):
    """What keeps weights small."""

    dropout: float | None = Field(None, ge=0, lt=1, description="Before the last layer; the network's own by default.")
    l1: NotNegative = Field(0.0, description="On kernels of the layers that are new.")
    l2: NotNegative = Field(0.0, description="On kernels of the layers that are new.")


class AugmentationChoice(_Part):
    """Changes to training pictures, never to those that are validated or tested on."""

    flip: bool = Field(False, description="RandomFlip, left to right.")
    shift: Share = Field(0.0, description="Small shifts, as a part of the side: 0.1 for small pictures.")
    crop_and_resize: bool = Field(False, description="RandomCropAndResize.")
    rand_augment: bool = Field(False, description="RandAugment.")
    magnitude: Share = Field(0.3, description="Of RandAugment.")
    cutout: bool = Field(False, description="RandomCutout.")
    mix: Literal["none", "cutmix", "mixup", "both"] = Field("none", description="both: chosen anew for every batch.")
    feature_crops: int = Field(
        0, ge=0, le=32, description="Of frozen backbones: further, augmented crops per picture whose features are kept."
    )


class StoppingChoice(_Part):
    """Which epoch is the best, and when to stop looking. The best one's weights are what is kept."""

    monitor: Monitor = Field("val_loss", description="val_loss or val_accuracy.")
    patience: int = Field(0, ge=0, description="Stop after so many epochs without progress; 0 for never.")
    min_delta: NotNegative = Field(0.0, description="Less than this is no progress.")


class SecondPhaseChoice(_Part):
    """Of two_phase: what follows once the head is trained."""

    epochs: int = Field(5, ge=1, le=10_000)
    learning_rate: Positive = Field(1e-4, description="Lower than the first phase's, for what is already trained.")
    layers: int = Field(0, ge=0, description="Unfreeze only so many of the last layers with weights; 0 for all.")


class Recipe(_Part):
    """Every choice of one training. Exactly one of `base` (a registered model) and `preset` (an architecture)."""

    mode: Mode = Field("head", description="head, full, two_phase or scratch.")
    base: str | None = Field(None, description="A registered model, NAME@VERSION, whose backbone goes on learning.")
    preset: str | None = Field(None, description="An architecture: fashion_cnn, …, a keras-cv backbone, keras_….")
    pretrained: bool = Field(True, description="Of a preset that has weights: begin with them.")
    keep_head: bool = Field(False, description="Go on with the base's own last layer: the same classes, more pictures.")
    epochs: int = Field(10, ge=1, le=10_000, description="Of two_phase: of its first phase.")
    batch_size: int = Field(32, ge=1, le=4096)
    seed: int = Field(7, ge=0, lt=2**31, description="Of weights, order, dropout and augmentation.")
    image: ImageChoice = ImageChoice()
    split: SplitChoice = SplitChoice()
    optimizer: OptimizerChoice = OptimizerChoice()
    schedule: ScheduleChoice = ScheduleChoice()
    loss: LossChoice = LossChoice()
    regularization: RegularizationChoice = RegularizationChoice()
    augmentation: AugmentationChoice = AugmentationChoice()
    stopping: StoppingChoice = StoppingChoice()
    second_phase: SecondPhaseChoice = SecondPhaseChoice()

    @model_validator(mode="after")
    def _one_start(self) -> Recipe:
        if (self.base is None) == (self.preset is None):
            raise ValueError("name exactly one of base (a registered model) and preset (an architecture)")
        return self

    @property
    def total_epochs(self) -> int:
        """Of all phases together."""
        return self.epochs + (self.second_phase.epochs if self.mode == "two_phase" else 0)


Values = Mapping[str, Any]

MAX_TEXT = 1 << 15  # characters of a recipe; one that says everything has two thousand
MAX_KEY_PARTS = 8  # of a key; the deepest has two
SHOWN = 80  # characters of a refused value that the message repeats

_BY_MODE: Mapping[str, Values] = {
    "head": {"epochs": 10, "optimizer": {"name": "adam", "learning_rate": 1e-3}},
    "full": {
        "epochs": 10,
        "batch_size": 16,
        "optimizer": {"name": "sgd", "learning_rate": 0.01},
        "augmentation": {"flip": True},
        "stopping": {"patience": 5},
    },
    "two_phase": {
        "epochs": 5,
        "batch_size": 16,
        "optimizer": {"name": "adam", "learning_rate": 1e-3},
        "augmentation": {"flip": True},
    },
    "scratch": {
        "epochs": 60,
        "optimizer": {"name": "sgd", "learning_rate": 0.05, "weight_decay": 5e-4},
        "schedule": {"name": "warmup_hold_cosine"},
        "loss": {"label_smoothing": 0.1},
        "augmentation": {"flip": True, "crop_and_resize": True, "rand_augment": True, "cutout": True, "mix": "both"},
    },
}
_SMALL: Values = {"epochs": 15, "batch_size": 64, "optimizer": {"name": "adam", "learning_rate": 1e-3}}
_BY_PRESET: Mapping[str, Values] = {
    "fashion_cnn": _SMALL,
    "cifar_cnn": _SMALL,
    "cifar_vgg": _SMALL,
    "cifar_vgg_bn": {**_SMALL, "epochs": 30, "augmentation": {"flip": True, "shift": 0.1}},
    "cnn_l2": {**_SMALL, "regularization": {"l2": 0.001}},
}


def make_recipe(mode: Mode | None, *, base: str | None, preset: str | None, said: Values | None = None) -> Recipe:
    """The recipe of a mode and a start, its defaults chosen for them, with `said` put over them.

    Without a mode: `scratch` for a preset, `head` for a base. Raises InvalidRecipe.
    """
    chosen = mode or ("scratch" if preset is not None else "head")
    defaults = _BY_MODE.get(str(chosen), {})
    if chosen == "scratch" and preset is not None and preset in _BY_PRESET:
        defaults = _BY_PRESET[preset]
    return check_recipe(merge({**defaults, "mode": chosen, "base": base, "preset": preset}, said or {}))


def check_recipe(values: Values) -> Recipe:
    """The recipe that these values make. Raises InvalidRecipe that names the key, what was expected and what came."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise InvalidRecipe(_words(error)) from error


def read_recipe(text: str, source: str) -> Values:
    """The values of a recipe in TOML, as far as they are said there. Raises InvalidRecipe for what is no TOML."""
    if len(text) > MAX_TEXT:
        raise InvalidRecipe(f"{source}: a recipe has at most {MAX_TEXT:,} characters; this one has {len(text):,}.")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of numbers and brackets beyond what Python reads
        raise InvalidRecipe(f"{source}: this is not TOML: {error}.") from error


def write_recipe(recipe: Recipe) -> str:
    """The recipe as TOML; what is not chosen is left out."""
    values = recipe.model_dump(exclude_none=True)
    lines = [f"{key} = {_toml(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for name, part in values.items():
        if isinstance(part, dict) and part:
            lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in part.items())]
    return "\n".join(lines) + "\n"


def parse_settings(settings: Iterable[str]) -> Values:
    """`optimizer.learning_rate=0.01` and the like as nested values. Raises InvalidRecipe for what has no such form."""
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        names = [name.strip() for name in key.split(".")]
        if not equals or not all(names) or len(names) > MAX_KEY_PARTS:
            raise InvalidRecipe(f"Expected KEY=VALUE, as in optimizer.learning_rate=0.01; got {_shown(setting)}.")
        values = dict(merge(values, _nested(names, _value(text.strip()))))
    return values


def merge(below: Values, above: Values) -> Values:
    """`above` put over `below`, table by table."""
    merged = dict(below)
    for key, value in above.items():
        before = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(before, Mapping)
        merged[key] = merge(before, value) if both and before is not None else value
    return merged


def all_keys() -> list[str]:
    """Every key that a recipe knows, `optimizer.learning_rate` and the like."""
    keys = []
    for name, field in Recipe.model_fields.items():
        part = field.annotation
        if isinstance(part, type) and issubclass(part, BaseModel):
            keys += [f"{name}.{inner}" for inner in part.model_fields]
        else:
            keys.append(name)
    return keys


def _nested(names: list[str], value: Any) -> dict[str, Any]:
    return {names[0]: _nested(names[1:], value) if len(names) > 1 else value}


def _value(text: str) -> Any:
    """A value as TOML would read it; a bare word is itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _toml(value: Any) -> str:
    # Numbers, booleans and plain strings look the same in TOML and JSON.
    return json.dumps(value, ensure_ascii=False)


def _words(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = get_close_matches(key, all_keys(), n=2) or get_close_matches(
            key.split(".")[-1], all_keys(), n=2, cutoff=0.4
        )
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        return f"A recipe has no key {_shown(key)}.{hint}"
    told = first["msg"].removeprefix("Value error, ")
    if not key:
        return f"The recipe cannot be: {told}."
    return f"{key}: {told[:1].lower()}{told[1:]}, got {_shown(first['input'])}."


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested values by their whole keys, `optimizer.learning_rate` and the like."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found
