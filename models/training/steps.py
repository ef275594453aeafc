"""Steps: one update of the weights and one look at validation pictures, compiled, with exact sums of what came out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.errors import InvalidRecipe
from models.recipes import OptimizerChoice

TOP = 5


@dataclass(frozen=True, slots=True)
class Sums:
    """Over the images so far: the summed loss, and how many were right, right among the first five, and there."""

    loss: float
    correct: float
    top5: float
    images: float

    def mean(self, total: float) -> float:
        """Per image; 0 before the first."""
        return total / self.images if self.images else 0.0


def set_seed(seed: int) -> None:
    """Make what follows in this process repeatable to the last bit; call it before a network is built."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def make_optimizer(choice: OptimizerChoice) -> Any:
    """The recipe's optimizer; its rate is set anew at every step."""
    rate, decay = choice.learning_rate, choice.weight_decay or None
    if choice.name == "sgd":
        return keras.optimizers.SGD(rate, float(choice.momentum), choice.nesterov, weight_decay=decay)
    # Keras's AdamW is its Adam with a weight decay that must be there, and every decay of Keras is decoupled.
    return keras.optimizers.Adam(rate, weight_decay=decay)


class Steps:
    """The compiled steps of one model. Sums are added up on the device, so that a step does not wait for them.

    They are float64: a mean over any number of images is exact, where a mean of batch means is not.
    """

    def __init__(
        self, model: Any, optimizer: Any, label_smoothing: float, class_weights: NDArray[np.float32] | None
    ) -> None:
        if not model.trainable_variables:
            raise InvalidRecipe("No weight of this network is trainable: unfreeze a layer, or choose another mode.")
        self._model = model
        self._optimizer = optimizer
        self._smoothing = label_smoothing
        self._weights = None if class_weights is None else tf.constant(class_weights, tf.float32)
        self.classes = int(model.output_shape[-1])
        # Two of them: a validation that is broken off leaves no trace in what the checkpoint keeps of the training.
        self.trained, self.validated = (tf.Variable(tf.zeros([4], tf.float64), trainable=False) for _ in range(2))
        self._compiled: dict[tuple[str, Any], Any] = {}
        optimizer.build(model.trainable_variables)

    def train(self, x: Any, y: Any, rate: float) -> None:
        """One update at this learning rate. x: [B, ...]; y: class shares float32 [B, K]."""
        self._call(self._train, x, y, np.float32(rate))

    def validate(self, x: Any, y: Any) -> None:
        """No update, only sums."""
        self._call(self._validate, x, y)

    def sums(self, of: Any) -> Sums:
        """Those of `trained` or `validated`; waits for the steps that are under way."""
        return Sums(*(float(value) for value in of.numpy()))

    def reset(self, of: Any) -> None:
        """Begin the sums of `trained` or `validated` anew."""
        of.assign(tf.zeros([4], tf.float64))

    def _call(self, function: Callable[..., None], x: Any, y: Any, *more: Any) -> None:
        key = (function.__name__, np.dtype(x.dtype.as_numpy_dtype if tf.is_tensor(x) else x.dtype).name)
        if key not in self._compiled:
            # One form for any number of images: the last batch of an epoch is no reason to compile again.
            signature = [
                tf.TensorSpec([None, *x.shape[1:]], x.dtype),
                tf.TensorSpec([None, self.classes], tf.float32),
                *(tf.TensorSpec([], tf.float32) for _ in more),
            ]
            self._compiled[key] = tf.function(function, input_signature=signature, autograph=False)
        self._compiled[key](x, y, *more)

    def _train(self, x: Any, y: Any, rate: Any) -> None:
        with tf.GradientTape() as tape:
            answers = self._model(tf.cast(x, self._model.inputs[0].dtype), training=True)
            losses = self._losses(y, answers)
            if self._weights is not None:
                losses *= tf.linalg.matvec(y, self._weights)
            added = self._added()
            loss = self._optimizer.scale_loss(tf.reduce_mean(losses) + added)
        trainable = self._model.trainable_variables
        self._optimizer.learning_rate.assign(rate)
        self._optimizer.apply_gradients(zip(tape.gradient(loss, trainable), trainable, strict=True))
        self._count(self.trained, losses + added, y, answers)

    def _validate(self, x: Any, y: Any) -> None:
        answers = self._model(tf.cast(x, self._model.inputs[0].dtype), training=False)
        self._count(self.validated, self._losses(y, answers) + self._added(), y, answers)

    def _losses(self, y: Any, answers: Any) -> Any:
        return keras.losses.categorical_crossentropy(y, answers, label_smoothing=self._smoothing)

    def _added(self) -> Any:
        """L1 and L2 of the layers that have them."""
        return tf.add_n([tf.cast(loss, tf.float32) for loss in self._model.losses] or [tf.constant(0.0)])

    def _count(self, sums: Any, losses: Any, y: Any, answers: Any) -> None:
        truth = tf.argmax(y, axis=-1, output_type=tf.int32)
        right = tf.equal(truth, tf.argmax(answers, axis=-1, output_type=tf.int32))
        among = tf.math.in_top_k(truth, answers, min(TOP, self.classes))
        counts = [tf.math.count_nonzero(found, dtype=tf.float64) for found in (right, among, tf.ones_like(right))]
        sums.assign_add(tf.stack([tf.reduce_sum(tf.cast(losses, tf.float64)), *counts]))
