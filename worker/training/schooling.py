"""One run's training from its prepared pictures to a finished model version. Needs Keras."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidModel
from models.manifest import ModelVersion
from models.training.checkpoints import Checkpoint
from models.training.cutting import assemble
from models.training.features import FeatureEngine, check_features, extract
from models.training.finishing import Trained, finish
from models.training.grafting import Graft
from models.training.history import Outcome
from models.training.loop import CheckpointPlace, Trainer
from models.training.steps import set_seed
from worker.training.crops import CROPS, read_crops
from worker.training.phases import Data, KerasFeatures, Workshop, class_numbers, head_phase, pixel_phase
from worker.training.pictures import new_rows
from worker.training.preparing import Prepared
from worker.training.request import Request, TrainingItem
from worker.training.telling import Teller

log = logging.getLogger(__name__)


class School:
    """Trains the phases of a recipe and makes a version of the best weights."""

    def __init__(
        self,
        request: Request,
        base: ModelVersion | None,
        prepared: Prepared,
        teller: Teller,
        resume: Checkpoint | None,
    ) -> None:
        set_seed(request.recipe.seed)
        self._request = request
        self._base = base
        self._prepared = prepared
        self._teller = teller
        self._recipe = request.recipe
        self._shop = Workshop(request, base, prepared.preprocessing, len(request.labels))
        numbers = class_numbers(prepared.survey.labels, request.labels)
        self._data = Data(prepared, numbers, request.recipe)
        place = CheckpointPlace(
            Path(request.attempt_folder), step_s=request.checkpoint_s, wait_for_room=teller.wait_for_room
        )
        self._trainer = Trainer(request.recipe, place, teller, resume)

    def trusts(self, engine: FeatureEngine) -> bool:
        """Whether the compiled form's features are those that Keras's backbone gives: the head will be put on that."""
        if self._base is None:
            return True

        def by_keras(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
            answers = self._shop.backbone()(pictures.astype(np.float32), training=False)
            return np.asarray(keras.ops.convert_to_numpy(answers), np.float32)

        try:
            check_features(engine, self._base, by_keras)
        except InvalidModel as error:
            log.warning("features come from Keras: %s", error)
            return False
        return True

    def add_crops(self, items: Sequence[TrainingItem], engine: FeatureEngine | None) -> None:
        """Compute the features of augmented crops, where the recipe wants some, unless an earlier attempt did."""
        path = Path(self._request.folder) / CROPS
        count = self._recipe.augmentation.feature_crops * len(self._prepared.survey.of("train"))
        if not count or self._recipe.mode not in ("head", "two_phase") or path.exists():
            return
        each = partial(self._teller.stage, "features", total=count)
        stream = read_crops(self._request, items, self._prepared)
        extractor = engine or KerasFeatures(self._shop.backbone())
        plain = self._data.batches(self._features(), "train").pictures
        with new_rows(path, count, (extractor.features,), np.float32) as rows:
            # A file that cannot be read a second time is represented by what it was the first time.
            rows[:] = np.tile(plain.take(np.arange(len(plain))), (self._recipe.augmentation.feature_crops, 1))
            extract(extractor, stream, rows, each)

    def train(self) -> Outcome:
        """Every phase, until one ends otherwise than by its last epoch or its patience."""
        self._teller.stage("training")
        if self._recipe.mode in ("full", "scratch"):
            return self._trainer.run(pixel_phase(self._shop, self._data, self._pixels, "train"))
        later = self._recipe.second_phase.epochs if self._recipe.mode == "two_phase" else 0
        outcome = self._trainer.run(head_phase(self._shop, self._data, self._features(), later))
        if self._recipe.mode == "head" or outcome.ended in ("paused", "stopped"):
            return outcome
        return self._trainer.run(self._tuning())

    def _tuning(self) -> Any:
        """The whole network, beginning with the best head of the first phase."""
        phase = pixel_phase(self._shop, self._data, self._pixels, "tune")
        head = self._shop.head(self._feature_count())
        self._trainer.load_best(head, "head")
        predictions = phase.model.get_layer("predictions")
        predictions.set_weights(head.get_layer("predictions").get_weights())
        return phase

    def finish(self, outcome: Outcome) -> Path:
        """Make the version of the best epoch's weights in the staging folder; answers where."""
        grafted = None
        if outcome.best_phase == "head":
            head = self._shop.head(self._feature_count())
            self._trainer.load_best(head, "head")
            model = assemble(self._shop.backbone(), head)
            if self._base is not None:
                kernel, bias = head.get_layer("predictions").get_weights()
                grafted = Graft(self._base, kernel, bias)
        else:
            model = self._shop.whole(outcome.best_phase or "train")
            self._trainer.load_best(model, outcome.best_phase or "train")
        folder = Path(self._request.staging) / "version"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        request = self._request
        finish(
            model, Trained(request.name, request.labels, self._prepared.preprocessing, request.lineage), folder, grafted
        )
        return folder

    @property
    def _pixels(self) -> Path:
        if self._prepared.pixels is None:
            raise ValueError("expected pixels to be kept for this recipe")
        return self._prepared.pixels

    def _features(self) -> Path:
        """The features of the frozen backbone: by its compiled form already, or by Keras now."""
        if self._prepared.features is not None:
            return self._prepared.features
        path = Path(self._request.folder) / "features.npy"
        if not path.exists():
            pixels = np.load(self._pixels, mmap_mode="r")
            extractor = KerasFeatures(self._shop.backbone())
            with new_rows(path, len(pixels), (extractor.features,), np.float32) as rows:
                extract(extractor, enumerate(pixels), rows, partial(self._teller.stage, "features", total=len(pixels)))
            self._teller.stage("training")
        return path

    def _feature_count(self) -> int:
        return self._data.width(self._features())
