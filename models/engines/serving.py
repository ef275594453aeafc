"""The graph that serves a Keras model: uint8 pictures in, the best classes and their probabilities out.

Imports Keras at its top, so only code that wants Keras in its process imports it: the Keras engine, and the
converter.
"""

from typing import Any

import keras
from keras import ops

from models.engines.base import MAX_TOP_K
from models.errors import InvalidModel
from models.manifest import ModelVersion, Scale


def load_keras(version: ModelVersion) -> Any:
    """The version's Keras model, without its training set-up. Raises InvalidModel with Keras's own words."""
    path = version.path / "model.keras"
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, LookupError, AttributeError, OSError, RuntimeError) as error:
        raise InvalidModel(f"{path}: Keras {keras.__version__} cannot open {version.reference}: {error}") from error


def serving_model(version: ModelVersion, model: Any) -> Any:
    """A Keras model from uint8 [N, H, W, C] to class indices int32 [N, K] and probabilities float32 [N, K], best first.

    Equal probabilities keep the order of their classes.
    """
    wanted = version.manifest.preprocessing
    images = keras.Input((wanted.height, wanted.width, wanted.channels), dtype="uint8", name="images")
    answers = ops.cast(model(_scaled(ops.cast(images, "float32"), wanted.scale), training=False), "float32")
    if version.manifest.output == "logits":
        answers = ops.softmax(answers, axis=-1)
    scores, indices = ops.top_k(answers, min(version.manifest.classes, MAX_TOP_K))
    return keras.Model(images, [indices, scores], name="serving")


def _scaled(pixels: Any, scale: Scale) -> Any:
    """Pixels of 0–255 in the range that the model was trained with."""
    if scale == "0-1":
        return pixels / 255.0
    if scale == "-1-1":
        return pixels / 127.5 - 1.0
    return pixels
