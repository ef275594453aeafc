"""Which engine a version gets, and that it serves only if it answers its probe."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.engines import loading
from models.engines.fake import FakeEngine
from models.engines.loading import load_engine
from models.engines.openvino import OpenVINOEngine, Precision
from models.errors import ModelRefused
from models.manifest import ModelVersion


@pytest.fixture
def keras_stand_in(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """KerasEngine as far as the choice goes, TensorFlow staying out of this process: the devices it was made for."""
    devices: list[str] = []

    def make(version: ModelVersion, device: str) -> FakeEngine:
        devices.append(device)
        return FakeEngine(version.labels)

    monkeypatch.setattr(loading, "KerasEngine", make)
    monkeypatch.setattr(loading, "check_probe", lambda *_: None)
    return devices


def test_a_compiled_version_runs_in_openvino_on_the_cpu(
    small_version: Callable[[str], ModelVersion], keras_stand_in: list[str]
) -> None:
    engine = load_engine(small_version("rgb"))
    assert engine.name == "openvino"
    assert engine.labels == small_version("rgb").labels
    engine.close()
    assert not keras_stand_in


def test_a_version_without_a_compiled_form_runs_in_keras(own_version: ModelVersion, keras_stand_in: list[str]) -> None:
    shutil.rmtree(own_version.path / "openvino")
    load_engine(own_version)
    assert keras_stand_in == ["cpu"]


def test_a_gpu_runs_keras(small_version: Callable[[str], ModelVersion], keras_stand_in: list[str]) -> None:
    load_engine(small_version("rgb"), device="gpu")
    assert keras_stand_in == ["gpu"]


def test_the_kind_can_be_said(small_version: Callable[[str], ModelVersion], keras_stand_in: list[str]) -> None:
    assert load_engine(small_version("rgb"), "fake").name == "fake"
    load_engine(small_version("rgb"), "keras")
    assert keras_stand_in == ["cpu"]
    engine = load_engine(small_version("rgb"), "openvino", device="gpu", precision="f32")
    assert engine.name == "openvino"
    engine.close()


def test_a_version_that_fails_its_probe_is_refused_and_its_engine_closed(
    own_version: ModelVersion, small_version: Callable[[str], ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(small_version("many_classes").path / "probe.npz", own_version.path / "probe.npz")
    closed: list[OpenVINOEngine] = []

    def note(engine: OpenVINOEngine) -> None:
        closed.append(engine)

    monkeypatch.setattr(OpenVINOEngine, "close", note)
    with pytest.raises(ModelRefused, match="rgb@1"):
        load_engine(own_version, precision="f32")
    assert len(closed) == 1


def test_what_bfloat16_cannot_answer_is_computed_in_float32(
    small_version: Callable[[str], ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.probe.TOLERANCE", 1e-6)  # as for a model that bfloat16 blurs
    engine = load_engine(small_version("rgb"))
    assert getattr(engine, "precision", "") == "f32"
    engine.close()
    monkeypatch.setattr("models.probe.TOLERANCE_FLOAT32", 1e-12)
    with pytest.raises(ModelRefused):
        load_engine(small_version("rgb"))


def test_a_damaged_cache_is_left_aside_before_precision_is_given_up(
    small_version: Callable[[str], ModelVersion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[str, bool]] = []

    def watch(version: ModelVersion, *, precision: Precision, cache_dir: Path | None) -> OpenVINOEngine:
        tried.append((precision, cache_dir is not None))
        return OpenVINOEngine(version, precision=precision, cache_dir=cache_dir)

    def refuse_twice(_engine: object, _version: ModelVersion) -> None:
        if len(tried) < 3:
            raise ModelRefused("it differs")

    monkeypatch.setattr(loading, "OpenVINOEngine", watch)
    monkeypatch.setattr(loading, "check_probe", refuse_twice)
    load_engine(small_version("rgb"), cache_dir=tmp_path).close()
    assert tried == [("auto", True), ("auto", False), ("f32", False)]
