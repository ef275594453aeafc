"""Predicts on the processor with OpenVINO: a version's compiled form, without Keras or TensorFlow in the process."""

import importlib
import queue
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from models.engines.base import Batch, Indices, Scores
from models.engines.batches import check_batch, is_out_of_memory
from models.errors import EngineError, EngineOutOfMemory, InvalidModel
from models.manifest import ModelVersion

Precision = Literal["auto", "f32", "bf16"]

# Measured on two cores (bench/engines.py): 8 is as fast as 16 and 32 for MobileNetV2, EfficientNetV2 and ResNet-50,
# takes less memory and keeps a single picture quick.
BATCH_SIZE = 8

_CONVERTER = "openvino.tools.ovc"


def import_openvino() -> Any:
    """Import OpenVINO so that it reports nothing to its maker, and without its converter (0.1 s instead of 0.3).

    The package reports its mere import to a web analytics service, from child processes that it forks, and keeps a
    client number in the home folder, if `openvino_telemetry` can be imported; where that module is empty it uses its
    own stub.
    """
    _stand_in("openvino_telemetry")
    if "openvino" not in sys.modules:
        _stand_in(_CONVERTER)
    return importlib.import_module("openvino")


def import_converter() -> Any:
    """OpenVINO's function `convert_model`, with the same care."""
    _stand_in("openvino_telemetry")
    if not hasattr(sys.modules.get(_CONVERTER), "convert_model"):
        sys.modules.pop(_CONVERTER, None)
    return importlib.import_module(_CONVERTER).convert_model


def _stand_in(name: str) -> None:
    """Let an empty module pass for one that is not wanted: OpenVINO is made to live without either of the two."""
    sys.modules.setdefault(name, ModuleType(name, "An empty stand-in."))


class _Slot:
    """One infer request with its own input and output memory, used by one thread at a time."""

    def __init__(self, request: Any) -> None:
        self.request = request
        self._tensors = [request.get_input_tensor(), request.get_tensor("indices"), request.get_tensor("scores")]
        self.images, self.indices, self.scores = (tensor.data for tensor in self._tensors)

    def run(self, batch: Batch) -> tuple[Indices, Scores]:
        """Infer from a copy of the batch: OpenVINO never holds the caller's memory, which may be gone by then."""
        count = len(batch)
        self.images[:count] = batch
        self.images[count:] = 0
        self.request.infer()
        return self.indices[:count].astype(np.int32), self.scores[:count].astype(np.float32)


class OpenVINOEngine:
    """A compiled model version on the CPU.

    `precision`: "auto" computes in bfloat16 where the processor has instructions for it. `cache_dir`: where OpenVINO
    keeps what it compiled, for a quicker next start. Raises InvalidModel where the version has no usable compiled
    form.
    """

    name = "openvino"

    def __init__(
        self,
        version: ModelVersion,
        batch_size: int = BATCH_SIZE,
        *,
        precision: Precision = "auto",
        cache_dir: Path | None = None,
    ) -> None:
        core = import_openvino().Core()
        wanted = version.manifest.preprocessing
        self._image_shape = (wanted.height, wanted.width, wanted.channels)
        self.labels = version.labels
        self.batch_size = batch_size
        self.precision = choose_precision(core, precision)
        self._compiled = self._compile(core, version, cache_dir)
        self.parallel = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self.memory_bytes = self._estimate_memory(version)
        self._slots: queue.SimpleQueue[_Slot | None] = queue.SimpleQueue()
        for _ in range(self.parallel):
            self._slots.put(_Slot(self._compiled.create_infer_request()))

    def _compile(self, core: Any, version: ModelVersion, cache_dir: Path | None) -> Any:
        path = version.path / "openvino" / "model.xml"
        options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": self.precision}
        if cache_dir is not None:
            cache_dir.mkdir(parents=True, exist_ok=True)
            options["CACHE_DIR"] = str(cache_dir)
        try:
            model = core.read_model(path)
            model.reshape([self.batch_size, *self._image_shape])
            return core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise EngineOutOfMemory(f"{version.reference} does not fit the memory: {error}") from error
            raise InvalidModel(
                f"{path}: OpenVINO cannot load the compiled form of {version.reference}: {error}"
            ) from error

    def _estimate_memory(self, version: ModelVersion) -> int:
        """Weights as stored and as packed for the processor, and the pictures and activations of the requests."""
        weights = (version.path / "openvino" / "model.bin").stat().st_size
        pictures = self.batch_size * self.parallel * int(np.prod(self._image_shape))
        return 2 * weights + 32 * pictures

    def predict(self, batch: Batch) -> tuple[Indices, Scores]:
        """See Engine.predict. More than `parallel` threads wait for one another."""
        check_batch(batch, self.batch_size, self._image_shape)
        slot = self._slots.get()
        if slot is None:
            self._slots.put(None)
            raise EngineError("the engine is closed")
        try:
            return slot.run(batch)
        except (RuntimeError, MemoryError) as error:
            kind = EngineOutOfMemory if is_out_of_memory(error) else EngineError
            raise kind(f"OpenVINO failed on a batch of {len(batch)}: {error}") from error
        finally:
            self._slots.put(slot)

    def close(self) -> None:
        """See Engine.close. Waits for batches under way."""
        if self._compiled is None:
            return
        for _ in range(self.parallel):
            self._slots.get()
        self._slots.put(None)
        self._compiled = None


def choose_precision(core: Any, wanted: Precision) -> str:
    """The precision to compute in: "auto" is bf16 where the processor has it, else f32."""
    if wanted != "auto":
        return wanted
    return "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
