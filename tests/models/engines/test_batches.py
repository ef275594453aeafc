"""What is asked of batches, and what counts as too little memory."""

import numpy as np
import pytest

from models.engines.batches import is_out_of_memory
from models.engines.fake import FakeEngine
from models.engines.keras import batch_shapes
from models.errors import EngineError, EngineOutOfMemory
from models.manifest import Preprocessing
from models.probe import make_probe


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


class XlaRuntimeError(RuntimeError):
    """As JAX calls it."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA"),
        XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes."),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA_ERROR_OUT_OF_MEMORY"),
    ],
)
def test_every_framework_s_way_to_say_that_memory_ran_out_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("broken"), XlaRuntimeError("INTERNAL: cuDNN"), ValueError("memory layout")]
)
def test_other_errors_are_no_lack_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 7, 16, 32, 33, 100, 256])
def test_a_batch_is_padded_to_one_of_few_shapes_and_a_quarter_needs_a_quarter(batch_size: int) -> None:
    shapes = batch_shapes(batch_size)
    assert shapes[0] == batch_size
    assert len(shapes) <= 5
    for count in range(1, batch_size + 1):
        padded = min(shape for shape in shapes if shape >= count)
        assert padded <= max(5 * count, 3)


def test_the_fake_engine_fails_on_request() -> None:
    images = make_probe(Preprocessing(8, 8))
    engine = FakeEngine(
        ("cat", "dog"), out_of_memory_above=4, fail_on=lambda batch: bool((batch[:, 0, 0, 0] == 77).any())
    )
    with pytest.raises(EngineOutOfMemory):
        engine.predict(images[:5])
    engine.predict(images[:4])
    images[2, 0, 0, 0] = 77
    with pytest.raises(EngineError, match="told to fail"):
        engine.predict(images[:4])
    engine.predict(images[:2])


def test_the_fake_engine_answers_alike_in_every_process() -> None:
    """Jobs of tests run in several workers: the hash must not be Python's own, which differs between processes."""
    indices, scores = FakeEngine(("cat", "dog", "owl")).predict(make_probe(Preprocessing(8, 8), n=2))
    assert indices.tolist() == [[2, 0, 1], [0, 2, 1]]
    np.testing.assert_allclose(scores, [[0.7254, 0.2736, 0.001], [0.9267, 0.0662, 0.0072]], atol=1e-4)
