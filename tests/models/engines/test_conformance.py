"""One suite for every engine: see engine_checks.py for what is asked of them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from models.children import Child, bare_environment
from models.engines.base import Engine
from models.engines.fake import FakeEngine
from models.engines.openvino import OpenVINOEngine, Precision
from models.manifest import ModelVersion
from tests.models.engines.engine_checks import CHECKS, Subject, check_engine

KINDS = ("rgb", "grey_logits", "many_classes")
KERAS_ONLY = (
    "a_failed_batch_tells_memory_from_other_faults",
    "only_few_shapes_are_compiled",
    "a_version_is_loaded_and_probed",
)


@pytest.fixture(scope="module")
def keras_report(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What every check on the Keras engine said, in a process with TensorFlow."""
    home = tmp_path_factory.mktemp("keras-child")
    child = Child("tests.models.engines.keras_child", home, bare_environment(home), 180)
    return child.ask({"folder": str(small_models)})


CASES = [(kind, precision) for kind in KINDS for precision in ("f32", "bf16")]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def openvino_subject(
    request: pytest.FixtureRequest, small_models: Path, small_version: Callable[[str], ModelVersion]
) -> tuple[Engine, Subject]:
    """The OpenVINO engine of a small model, and Keras's answers in float32."""
    kind: str
    precision: Precision
    kind, precision = request.param
    version = small_version(kind)
    with np.load(small_models / f"{kind}.npz") as arrays:
        images, probabilities = arrays["images"], arrays["probabilities"]
    tolerance = 1e-5 if precision == "f32" else 0.05
    subject = Subject(lambda: OpenVINOEngine(version, precision=precision), images, probabilities, tolerance)
    return subject.make(), subject


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("labels", [3, 10, 1000])
def test_the_fake_engine_conforms(check: str, labels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (48, 16, 20, 3), dtype=np.uint8)
    names = tuple(f"class {index}" for index in range(labels))
    subject = Subject(lambda: FakeEngine(names), images)
    check_engine(subject.make(), subject, check)


@pytest.mark.parametrize("check", CHECKS)
def test_the_openvino_engine_conforms(check: str, openvino_subject: tuple[Engine, Subject]) -> None:
    check_engine(*openvino_subject, check)


@pytest.mark.parametrize(
    "check", [*(f"{kind}/{name}" for kind in KINDS for name in CHECKS), *(f"rgb/{name}" for name in KERAS_ONLY)]
)
def test_the_keras_engine_conforms(check: str, keras_report: Mapping[str, str]) -> None:
    failure = keras_report[check]
    assert not failure, failure
