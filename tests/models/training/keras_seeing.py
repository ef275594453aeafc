"""How the children with Keras in them look at models."""

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

RANDOM = np.random.default_rng(3)


def pixels(shape: tuple[int, ...], count: int = 4) -> Any:
    return RANDOM.integers(0, 256, (count, *shape)).astype(np.float32)


def answers(model: Any, images: Any) -> Any:
    return keras.ops.convert_to_numpy(model(images, training=False))


def refused(work: Callable[[], Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=re.escape(words)):
        work()


def head_again(model: Any, features: Any) -> Any:
    """What a model would answer for features, by the weights of its last Dense and a softmax."""
    kernel, bias = next(layer for layer in reversed(list(flat(model))) if hasattr(layer, "kernel")).get_weights()
    logits = features @ kernel.reshape(-1, kernel.shape[-1]) + bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def flat(model: Any) -> Any:
    for layer in model.layers:
        yield from flat(layer) if hasattr(layer, "layers") else (layer,)
