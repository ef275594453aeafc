"""Predicts with Keras itself, on any of its backends: for GPUs, and for models without a compiled form.

Keras is imported when an engine is made, never with this module; the backend is the one that KERAS_BACKEND names.
"""

import gc
import importlib
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from models.engines.base import Batch, Indices, Scores
from models.engines.batches import check_batch, is_out_of_memory
from models.errors import EngineError, EngineOutOfMemory
from models.manifest import ModelVersion

BATCH_SIZE = 32


class KerasEngine:
    """A model version opened by Keras, its serving graph compiled by the backend (with XLA where Keras finds a GPU).

    `device`: "cpu" keeps it off a GPU that is there; anything else leaves the choice to the backend, which sees what
    CUDA_VISIBLE_DEVICES shows it. Raises InvalidModel where Keras cannot open the file.
    """

    name = "keras"

    def __init__(self, version: ModelVersion, batch_size: int = BATCH_SIZE, device: str = "cpu") -> None:
        self._keras = importlib.import_module("keras")
        serving = importlib.import_module("models.engines.serving")
        wanted = version.manifest.preprocessing
        self._image_shape = (wanted.height, wanted.width, wanted.channels)
        self._device = device
        self._lock = threading.Lock()
        self._failures = _failures(self._keras.backend.backend())
        self.labels = version.labels
        self.batch_size = batch_size
        self.parallel = 1
        self.shapes = batch_shapes(batch_size)
        with self._on_device():
            model = serving.load_keras(version)
            self._model: Any = serving.serving_model(version, model)
        # Weights, and about as much again for the activations and the backend's copies of a batch.
        self.memory_bytes = 8 * int(model.count_params()) + 64 * batch_size * int(np.prod(self._image_shape))

    def predict(self, batch: Batch) -> tuple[Indices, Scores]:
        """See Engine.predict. Padded to the next of `shapes`, so that the backend compiles no more than those."""
        check_batch(batch, self.batch_size, self._image_shape)
        count = len(batch)
        padded = np.zeros((min(shape for shape in self.shapes if shape >= count), *self._image_shape), np.uint8)
        padded[:count] = batch
        try:
            with self._lock, self._on_device():
                if self._model is None:
                    raise EngineError("the engine is closed")
                indices, scores = self._model.predict_on_batch(padded)
        except self._failures as error:
            kind = EngineOutOfMemory if is_out_of_memory(error) else EngineError
            raise kind(f"Keras failed on a batch of {count}: {error}") from error
        return np.asarray(indices[:count], np.int32), np.asarray(scores[:count], np.float32)

    def close(self) -> None:
        """See Engine.close. A Keras model is full of circles, so that only the collector gives its memory back."""
        with self._lock:
            self._model = None
        gc.collect()

    def _on_device(self) -> AbstractContextManager[Any]:
        if self._device != "cpu":
            return nullcontext()
        scope: AbstractContextManager[Any] = self._keras.device("cpu:0")
        return scope


def batch_shapes(batch_size: int) -> tuple[int, ...]:
    """The batch shapes that are compiled: the full one, a quarter, a sixteenth, …

    A smaller batch really needs less memory, so that halving after an EngineOutOfMemory helps; no batch is padded to
    more than four times its size; and a backend that compiles per shape compiles few.
    """
    return (batch_size, *batch_shapes(batch_size // 4)) if batch_size >= 4 else (batch_size,)


def _failures(backend: str) -> tuple[type[BaseException], ...]:
    """What a backend raises when a batch fails: RuntimeError in JAX and torch, a tree of its own in TensorFlow."""
    if backend == "tensorflow":
        errors = importlib.import_module("tensorflow").errors
        return (MemoryError, RuntimeError, ValueError, errors.OpError)
    return (MemoryError, RuntimeError, ValueError)


def visible_gpus() -> int:
    """How many GPUs the backend sees. Imports Keras."""
    backend = importlib.import_module("keras").backend.backend()
    if backend == "tensorflow":
        return len(importlib.import_module("tensorflow").config.list_physical_devices("GPU"))
    if backend == "torch":
        return int(importlib.import_module("torch").cuda.device_count())
    try:
        return len(importlib.import_module("jax").devices("gpu"))
    except RuntimeError:  # JAX's way to say none
        return 0
