"""The networks of a run, phase by phase: what is built, what is frozen, which data each phase sees. Needs Keras."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from models.engines.serving import load_keras
from models.errors import InvalidRecipe
from models.manifest import ModelVersion, Preprocessing
from models.recipes import Recipe
from models.training.augmentation import Augmenter
from models.training.backbones import build_backbone
from models.training.batches import Batches
from models.training.catalogue import NETWORKS
from models.training.cutting import assemble, build_head, cut, freeze, with_scale
from models.training.loop import Phase
from models.training.networks import build_network
from worker.training.crops import CROPS, WithCrops
from worker.training.pictures import Rows
from worker.training.preparing import Prepared
from worker.training.request import Request

FEATURE_BATCH = 32


@dataclass(slots=True)
class Workshop:
    """Builds the models of one run. Models are built anew when asked for, always with the same weights."""

    request: Request
    base: ModelVersion | None
    preprocessing: Preprocessing
    classes: int
    _frozen: Any = None  # a backbone that no phase trains is built once

    @property
    def recipe(self) -> Recipe:
        """The run's."""
        return self.request.recipe

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one picture: height, width, channels."""
        return (self.preprocessing.height, self.preprocessing.width, self.preprocessing.channels)

    def backbone(self) -> Any:
        """Pixels 0–255 to features: the base's, or the preset's."""
        if self._frozen is None or self.recipe.mode != "head":
            self._frozen = self._make_backbone()
        return self._frozen

    def _make_backbone(self) -> Any:
        keras.utils.set_random_seed(self.recipe.seed)
        if self.base is not None:
            return with_scale(cut(load_keras(self.base)), self.base.manifest.preprocessing.scale)
        scratch = self.recipe.mode == "scratch"
        return build_backbone(
            self.recipe.preset or "",
            self.shape,
            pretrained=self.recipe.pretrained and not scratch,
            pooling="max" if scratch else "avg",
        )

    def head(self, features: int) -> Any:
        """Features to probabilities; with the base's own last layer where the recipe keeps it."""
        chosen, seed = self.recipe.regularization, self.recipe.seed
        head = build_head(features, self.classes, chosen, seed, from_scratch=self.recipe.mode == "scratch")
        if self.recipe.keep_head and self.base is not None:
            last = [layer for layer in _layers(load_keras(self.base)) if getattr(layer, "units", None) == self.classes]
            if not last:
                raise InvalidRecipe(f"{self.base.reference} ends in no dense layer that could be kept (keep_head).")
            head.get_layer("predictions").set_weights(last[-1].get_weights())
        else:
            # From zero: in directions that few pictures say nothing of, random weights would stay as they were drawn,
            # and be noise for ever; and the maxima that a fresh backbone ends in would make a loss of 17 of them where
            # knowing nothing is 3. One layer needs no symmetry broken.
            last_layer = head.get_layer("predictions")
            last_layer.set_weights([np.zeros(weight.shape, np.float32) for weight in last_layer.weights])
        return head

    def small(self) -> Any:
        """A small network as a whole."""
        keras.utils.set_random_seed(self.recipe.seed)
        return build_network(self.recipe.preset or "", self.shape, self.classes, self.recipe.regularization)

    def whole(self, phase: str) -> Any:
        """The model from picture to probabilities of a phase that trains pixels."""
        if self.recipe.preset in NETWORKS:
            return self.small()
        backbone = self.backbone()
        model = assemble(backbone, self.head(int(backbone.output.shape[-1])))
        if self.base is not None or (self.recipe.pretrained and self.recipe.mode != "scratch"):
            layers = self.recipe.second_phase.layers if phase == "tune" else 0
            freeze(model, backbone, layers)
        return model


def _layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)


@dataclass(frozen=True, slots=True)
class Data:
    """A run's pictures by split. `classes`: class numbers of the usable pictures, by place."""

    prepared: Prepared
    classes: NDArray[np.int64]
    recipe: Recipe

    def validation(self, path: Path) -> Batches | None:
        """The batches of the validation part; None where there is none."""
        return self.batches(path, "val") if len(self.prepared.survey.of("val")) else None

    def batches(self, path: Path, split: str) -> Batches:
        """The batches of one split from a file of rows."""
        places = self.prepared.survey.of(split)
        rows = Rows(path, self.prepared.survey.rows[places])
        train = split == "train"
        return Batches(rows, self.classes[places], self.recipe.batch_size, seed=self.recipe.seed, shuffle=train)

    def training_features(self, features: Path) -> Batches:
        """The training part of the features, with those of augmented crops where there are some."""
        plain = self.batches(features, "train")
        crops = features.with_name(CROPS)
        if not crops.exists():
            return plain
        rows = Rows(features, self.prepared.survey.rows[self.prepared.survey.of("train")])
        return replace(plain, pictures=WithCrops(rows, crops), variants=1 + self.recipe.augmentation.feature_crops)

    @staticmethod
    def width(path: Path) -> int:
        """How many numbers a row of a file has."""
        return int(np.load(path, mmap_mode="r").shape[-1])

    def class_weights(self, count: int) -> NDArray[np.float32] | None:
        """Rare classes count more, so that each class counts the same in the end; None where that is not wanted."""
        if self.recipe.loss.class_weights == "none":
            return None
        images = np.bincount(self.classes[self.prepared.survey.of("train")], minlength=count)
        occurring = np.count_nonzero(images)  # a base whose last layer is kept may know classes that do not occur
        return np.asarray(images.sum() / (occurring * np.maximum(images, 1)), np.float32)


def class_numbers(labels: Sequence[str], names: Sequence[str]) -> NDArray[np.int64]:
    """Each label's place among the class names."""
    places = {name: number for number, name in enumerate(names)}
    return np.array([places[label] for label in labels], np.int64)


class KerasFeatures:
    """Features by Keras, where there is no compiled form: an Extractor."""

    parallel = 1

    def __init__(self, backbone: Any) -> None:
        self._backbone = backbone
        self.batch_size = FEATURE_BATCH
        self.features = int(backbone.output.shape[-1])

    def predict(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features float32 [N, F] of pictures uint8 [N, H, W, C]."""
        answers = self._backbone(batch.astype(np.float32), training=False)
        return np.asarray(keras.ops.convert_to_numpy(answers), np.float32)


def head_phase(shop: Workshop, data: Data, features: Path, later: int) -> Phase:
    """The head on features of the frozen backbone."""
    train, val = data.training_features(features), data.validation(features)
    recipe = shop.recipe
    return Phase(
        name="head",
        model=shop.head(data.width(features)),
        train=train,
        val=val,
        epochs=recipe.epochs,
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        class_weights=data.class_weights(shop.classes),
        later_epochs=later,
    )


def pixel_phase(shop: Workshop, data: Data, pixels: Path, name: str) -> Phase:
    """The whole network on pixels: "train", or "tune" after a head."""
    recipe = shop.recipe
    optimizer, epochs = recipe.optimizer, recipe.epochs
    if name == "tune":
        optimizer = optimizer.model_copy(update={"learning_rate": recipe.second_phase.learning_rate})
        epochs = recipe.second_phase.epochs
    return Phase(
        name=name,
        model=shop.whole(name),
        train=data.batches(pixels, "train"),
        val=data.validation(pixels),
        epochs=epochs,
        optimizer=optimizer,
        schedule=recipe.schedule,
        augment=Augmenter(recipe.augmentation, shop.shape, shop.classes, recipe.seed) if _augments(recipe) else None,
        class_weights=data.class_weights(shop.classes),
    )


def _augments(recipe: Recipe) -> bool:
    chosen = recipe.augmentation
    return chosen.model_copy(update={"magnitude": 0.3, "feature_crops": 0}) != type(chosen)()
