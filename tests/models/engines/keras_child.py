"""A child with Keras in it: runs the conformance suite, and what else only the Keras engine has, on small models.

request: `folder` (of tests/models/small_models.py). Answers a text by "<kind>/<check>": the traceback where it failed,
nothing where it passed.
"""

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from models.children import Progress, answer_with
from models.conversion import read_version
from models.engines.keras import KerasEngine
from models.engines.loading import load_engine
from models.errors import EngineError, EngineOutOfMemory, ModelError
from models.manifest import ModelVersion
from tests.models.engines.engine_checks import CHECKS, Subject, check_engine

BATCH_SIZE = 16


def subject(version: ModelVersion, folder: Path) -> Subject:
    """The version's Keras engine, and the reference answers beside it."""
    with np.load(folder / f"{version.manifest.name}.npz") as arrays:
        images, probabilities = arrays["images"], arrays["probabilities"]
    return Subject(lambda: KerasEngine(version, BATCH_SIZE), images, probabilities)


def a_failed_batch_tells_memory_from_other_faults(version: ModelVersion) -> None:
    """TensorFlow's own errors, raised where its kernels would."""
    engine = KerasEngine(version, 4)
    batch = np.zeros((4, 32, 32, 3), np.uint8)
    faults = {
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"): EngineOutOfMemory,
        tf.errors.InternalError(None, None, "CUDA_ERROR_OUT_OF_MEMORY: out of memory"): EngineOutOfMemory,
        MemoryError(): EngineOutOfMemory,
        tf.errors.InternalError(None, None, "cuDNN launch failure"): EngineError,
        RuntimeError("broken"): EngineError,
    }
    working = engine._model.predict_on_batch
    for fault, kind in faults.items():

        def fail(_batch: object, fault: BaseException = fault) -> None:
            raise fault

        engine._model.predict_on_batch = fail
        became: type[EngineError] | None = None
        try:
            engine.predict(batch)
        except EngineError as error:
            became = type(error)
        assert became is kind, f"{fault!r} became {became}"
    engine._model.predict_on_batch = working
    engine.predict(batch)


def only_few_shapes_are_compiled(version: ModelVersion) -> None:
    """Every size of batch is padded to one of three."""
    engine = KerasEngine(version, 32)
    seen = set()
    working = engine._model.predict_on_batch

    def watch(batch: Any) -> Any:
        seen.add(len(batch))
        return working(batch)

    engine._model.predict_on_batch = watch
    for count in range(1, 33):
        engine.predict(np.zeros((count, 32, 32, 3), np.uint8))
    assert seen == {32, 8, 2}, seen


def a_version_is_loaded_and_probed(version: ModelVersion) -> None:
    """Through load_engine(), for a GPU and for "keras" on the CPU alike."""
    for engine in (load_engine(version, "keras"), load_engine(version, device="gpu")):
        assert engine.name == "keras"
        engine.close()


MORE: Mapping[str, Callable[[ModelVersion], None]] = {
    function.__name__: function
    for function in (
        a_failed_batch_tells_memory_from_other_faults,
        only_few_shapes_are_compiled,
        a_version_is_loaded_and_probed,
    )
}


def outcome(run: Callable[..., None], *arguments: Any) -> str:
    """Nothing, or the traceback: the failure of one check must not hide the others'."""
    try:
        run(*arguments)
    except (AssertionError, ModelError):
        return traceback.format_exc()
    return ""


def work(request: Mapping[str, Any], _progress: Progress) -> Mapping[str, Any]:
    folder = Path(request["folder"])
    report: dict[str, str] = {}
    for kind in ("rgb", "grey_logits", "many_classes"):
        tested = subject(read_version(folder / kind), folder)
        engine = tested.make()
        report |= {f"{kind}/{name}": outcome(check_engine, engine, tested, name) for name in CHECKS}
    version = read_version(folder / "rgb")
    return report | {f"rgb/{name}": outcome(run, version) for name, run in MORE.items()}


if __name__ == "__main__":
    answer_with(work)
