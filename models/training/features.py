"""Features of pictures by a registered model's compiled form: what its last matrix product is given.

Without Keras or TensorFlow in the process. The graph is the one that serves, in the precision that serves, so that a
head which is trained on these features finds the same ones when it answers.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.engines.base import Batch
from models.engines.batches import check_batch, is_out_of_memory
from models.engines.openvino import BATCH_SIZE, Precision, choose_precision, import_openvino
from models.errors import EngineError, EngineOutOfMemory, InvalidModel, ModelRefused
from models.manifest import ModelVersion
from models.probe import Indices, Scores, check_probe, load_probe
from models.training.backbone_graph import find_features, read_graph

Features = NDArray[np.float32]
Pixels = NDArray[np.uint8]

FEATURE_TOLERANCE = 0.1
_LEAST = 1e-12  # of features that are all zero


class Extractor(Protocol):
    """What `extract` asks: `predict` may be called from `parallel` threads at once."""

    batch_size: int
    parallel: int

    def predict(self, batch: Batch) -> Features:
        """Features float32 [N, F] of pictures uint8 [N, H, W, C], 1 ≤ N ≤ batch_size."""
        ...


class FeatureEngine:
    """A version's backbone, compiled for the CPU. `load_features` also checks that it may be trusted.

    `features`: how many numbers describe a picture. `precision`: as the serving engine's, "auto" is bfloat16 where the
    processor has it. Raises InvalidModel where the version has no compiled form, or none that can be cut.
    """

    name = "openvino"

    def __init__(
        self,
        version: ModelVersion,
        precision: Precision = "auto",
        cache_dir: Path | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        core = import_openvino().Core()
        wanted = version.manifest.preprocessing
        self._image_shape = (wanted.height, wanted.width, wanted.channels)
        self.batch_size = batch_size
        self.precision = choose_precision(core, precision)
        self._compiled = self._compile(core, version, cache_dir)
        self.features = int(self._compiled.output("features").get_partial_shape()[1].get_length())
        self.parallel = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self.parallel):
            self._requests.put(self._compiled.create_infer_request())

    def _compile(self, core: Any, version: ModelVersion, cache_dir: Path | None) -> Any:
        """The whole graph with one more output: the old head costs next to nothing, and lets the probe be checked."""
        graph = read_graph(core, version)
        features = find_features(graph, version.reference)
        features.get_tensor().set_names({"features"})
        graph.add_outputs(features)
        options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": self.precision}
        if cache_dir is not None:
            cache_dir.mkdir(parents=True, exist_ok=True)
            options["CACHE_DIR"] = str(cache_dir)
        try:
            graph.reshape([self.batch_size, *self._image_shape])
            return core.compile_model(graph, "CPU", options)
        except RuntimeError as error:
            kind = EngineOutOfMemory if is_out_of_memory(error) else InvalidModel
            raise kind(f"{version.reference}: OpenVINO cannot load its backbone: {error}") from error

    def predict(self, batch: Batch) -> Features:
        """Features float32 [N, F] of pictures uint8 [N, H, W, C], 1 ≤ N ≤ batch_size, pixels 0–255.

        More than `parallel` threads wait for one another. Raises EngineOutOfMemory, EngineError.
        """
        return np.asarray(self._run(batch, ("features",))[0], np.float32)

    def classify(self, batch: Batch) -> tuple[Indices, Scores]:
        """What the uncut model answers, as Engine.predict: to compare with its probe."""
        indices, scores = self._run(batch, ("indices", "scores"))
        return np.asarray(indices, np.int32), np.asarray(scores, np.float32)

    def _run(self, batch: Batch, outputs: tuple[str, ...]) -> list[NDArray[Any]]:
        """Copies of the named outputs, a row for each picture. OpenVINO never holds the caller's memory."""
        check_batch(batch, self.batch_size, self._image_shape)
        request = self._requests.get()
        if request is None:
            self._requests.put(None)
            raise EngineError("the engine is closed")
        try:
            images = request.get_input_tensor().data
            images[: len(batch)] = batch
            images[len(batch) :] = 0
            request.infer()
            return [request.get_tensor(name).data[: len(batch)].copy() for name in outputs]
        except (RuntimeError, MemoryError) as error:
            kind = EngineOutOfMemory if is_out_of_memory(error) else EngineError
            raise kind(f"OpenVINO failed on a batch of {len(batch)}: {error}") from error
        finally:
            self._requests.put(request)

    def close(self) -> None:
        """Give the memory back, once batches under way are done. The engine cannot be used afterwards."""
        if self._compiled is None:
            return
        for _ in range(self.parallel):
            self._requests.get()
        self._requests.put(None)
        self._compiled = None


class _Uncut:
    """The feature engine as the probe sees engines."""

    def __init__(self, engine: FeatureEngine) -> None:
        self.name, self.batch_size, self.precision = engine.name, engine.batch_size, engine.precision
        self.predict = engine.classify


def load_features(
    version: ModelVersion, precision: Precision = "auto", cache_dir: Path | None = None, batch_size: int = BATCH_SIZE
) -> FeatureEngine:
    """A version's feature engine, in the precision in which `models.engines.loading` would let it serve.

    Raises InvalidModel where the compiled form is missing or cannot be cut (then Keras has to do it), ModelRefused
    where it does not answer its probe as it did when it was registered.
    """
    engine = FeatureEngine(version, precision, cache_dir, batch_size)
    try:
        check_probe(_Uncut(engine), version)
    except ModelRefused:
        engine.close()
        if precision != "auto" or engine.precision == "f32":
            raise
        return load_features(version, "f32", cache_dir, batch_size)
    return engine


def check_features(engine: Extractor, version: ModelVersion, backbone: Callable[[Pixels], Features]) -> float:
    """How far the engine's features of the version's probe are from those of `backbone`, as a part of their size.

    `backbone`: what the head will be put on, from pictures uint8 to features float32 [N, F], by Keras. A compiled form
    may fold a layer into the next one, so that "the last product's input" is not the same there; a head that was
    trained on such features would be worthless. Raises InvalidModel above FEATURE_TOLERANCE.
    """
    images, _ = load_probe(version.path / "probe.npz")
    expected = np.asarray(backbone(images), np.float64)
    size = engine.batch_size
    got = np.concatenate([engine.predict(images[at : at + size]) for at in range(0, len(images), size)])
    if got.shape != expected.shape:
        raise InvalidModel(
            f"{version.reference}: its compiled form gives features {list(got.shape)}, Keras {list(expected.shape)}."
        )
    drift = float(np.sqrt(np.sum((got - expected) ** 2) / max(np.sum(expected**2), _LEAST)))
    if not drift <= FEATURE_TOLERANCE:
        raise InvalidModel(
            f"{version.reference}: features of its compiled form differ from Keras's by {drift:.3g} of their size, at "
            f"most {FEATURE_TOLERANCE} is accepted."
        )
    return drift


def extract(
    engine: Extractor,
    pictures: Iterable[tuple[int, Pixels]],
    out: Features,
    each: Callable[[int], None] | None = None,
) -> int:
    """Write the features of every (index, pixels) into `out[index]`; answers how many there were.

    `pictures` is read in the caller's thread, no more than a few batches ahead of the engine: memory is flat whatever
    their number. `out`: float32 [N, F], an array or a memory map. `each` hears the number done, batch by batch.
    Raises what `pictures` raises, and the engine's errors.
    """
    done = 0
    under_way: deque[Future[int]] = deque()
    pool = ThreadPoolExecutor(engine.parallel, "features")
    try:
        for batch in _batches(pictures, engine.batch_size):
            under_way.append(pool.submit(_fill, engine, batch, out))
            while len(under_way) > 2 * engine.parallel:
                done = _settle(under_way, done, each)
        while under_way:
            done = _settle(under_way, done, each)
    finally:
        # After an error nothing that still waits may run; what runs is short.
        pool.shutdown(cancel_futures=True)
    return done


def _batches(pictures: Iterable[tuple[int, Pixels]], size: int) -> Iterator[list[tuple[int, Pixels]]]:
    stream = iter(pictures)
    while batch := list(islice(stream, size)):
        yield batch


def _fill(engine: Extractor, batch: list[tuple[int, Pixels]], out: Features) -> int:
    indices = [index for index, _ in batch]
    out[indices] = engine.predict(np.stack([pixels for _, pixels in batch]))
    return len(batch)


def _settle(under_way: deque[Future[int]], done: int, each: Callable[[int], None] | None) -> int:
    done += under_way.popleft().result()
    if each is not None:
        each(done)
    return done
