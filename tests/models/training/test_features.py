"""The feature engine without Keras: what it answers, refuses, and how a stream of pictures goes through it."""

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import EngineError, InvalidModel, ModelRefused
from models.manifest import ModelVersion
from models.probe import load_probe, make_probe, save_probe
from models.training.features import FeatureEngine, check_features, extract, load_features

Versions = Callable[[str], ModelVersion]


@pytest.fixture(scope="module")
def engine(small_version: Versions) -> Iterator[FeatureEngine]:
    made = load_features(small_version("rgb"), "f32")
    yield made
    made.close()


@pytest.fixture(scope="module")
def pictures(small_version: Versions) -> NDArray[np.uint8]:
    return make_probe(small_version("rgb").manifest.preprocessing, n=21, seed=2)


@pytest.fixture(scope="module")
def alone(engine: FeatureEngine, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.concatenate([engine.predict(pictures[index : index + 1]) for index in range(len(pictures))])


@pytest.mark.parametrize("kind", ["rgb", "grey_logits", "many_classes"])
def test_features_are_what_the_last_dense_layer_takes(small_version: Versions, kind: str) -> None:
    version = small_version(kind)
    loaded = load_features(version, "f32")
    assert loaded.features == 48
    features = loaded.predict(load_probe(version.path / "probe.npz")[0])
    loaded.close()
    assert features.shape == (8, 48)
    assert features.dtype == np.float32
    assert (features >= 0).all(), "of a dense layer with relu"
    assert len(np.unique(features.round(4), axis=0)) == 8


def test_the_features_of_a_picture_do_not_depend_on_its_neighbours(
    engine: FeatureEngine, pictures: NDArray[np.uint8], alone: NDArray[np.float32]
) -> None:
    assert np.allclose(engine.predict(pictures[:8]), alone[:8], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 32, 32, 3), (9, 32, 32, 3), (1, 32, 16, 3), (1, 32, 32, 1)])
def test_a_batch_of_another_shape_is_refused(engine: FeatureEngine, shape: tuple[int, ...]) -> None:
    with pytest.raises(EngineError, match="expected a batch"):
        engine.predict(np.zeros(shape, np.uint8))


def test_a_closed_engine_says_so(small_version: Versions) -> None:
    closed = FeatureEngine(small_version("rgb"))
    closed.close()
    closed.close()
    with pytest.raises(EngineError, match="closed"):
        closed.predict(np.zeros((1, 32, 32, 3), np.uint8))


def test_a_version_without_a_compiled_form_is_left_to_keras(own_version: ModelVersion) -> None:
    shutil.rmtree(own_version.path / "openvino")
    with pytest.raises(InvalidModel, match="has no compiled form"):
        FeatureEngine(own_version)


def test_a_compiled_form_that_is_no_graph_is_refused(own_version: ModelVersion) -> None:
    (own_version.path / "openvino" / "model.xml").write_text("<net/>")
    with pytest.raises(InvalidModel, match="cannot read the compiled form of rgb@1"):
        FeatureEngine(own_version)


def test_a_base_that_does_not_answer_its_probe_gives_no_features(own_version: ModelVersion) -> None:
    images, probabilities = load_probe(own_version.path / "probe.npz")
    save_probe(own_version.path / "probe.npz", images, probabilities[:, [1, 0, *range(2, 10)]])
    with pytest.raises(ModelRefused, match="does not answer as Keras did"):
        load_features(own_version)


def test_where_bfloat16_drifts_features_are_float32_as_the_answers_will_be(
    small_version: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(engine: FeatureEngine, version: ModelVersion) -> None:
        if engine.precision != "f32":
            raise ModelRefused("drifts")

    monkeypatch.setattr("models.training.features.check_probe", check)
    monkeypatch.setattr(
        "models.training.features.choose_precision", lambda _core, said: "f32" if said == "f32" else "bf16"
    )
    loaded = load_features(small_version("rgb"))
    assert loaded.precision == "f32"
    loaded.close()
    with pytest.raises(ModelRefused):
        load_features(small_version("rgb"), "bf16")


def test_features_that_are_not_those_of_keras_are_refused(engine: FeatureEngine, small_version: Versions) -> None:
    version = small_version("rgb")
    assert check_features(engine, version, engine.predict) == 0
    assert check_features(engine, version, lambda images: engine.predict(images) * 1.05) < 0.1
    with pytest.raises(InvalidModel, match=r"differ from Keras's by 0\.5 of their size"):
        check_features(engine, version, lambda images: engine.predict(images) * 2)
    with pytest.raises(InvalidModel, match="differ from Keras's by nan"):
        check_features(engine, version, lambda images: engine.predict(images) * np.float32(np.nan))
    with pytest.raises(InvalidModel, match=r"gives features \[8, 48\], Keras \[8, 24\]"):
        check_features(engine, version, lambda images: engine.predict(images)[:, :24])


def test_every_picture_of_a_stream_gets_its_features_at_its_index(
    engine: FeatureEngine, pictures: NDArray[np.uint8], alone: NDArray[np.float32], tmp_path: Path
) -> None:
    order = np.random.default_rng(1).permutation(21)
    out = np.lib.format.open_memmap(tmp_path / "features.npy", "w+", np.float32, (30, 48))
    told: list[int] = []
    assert extract(engine, ((int(index), pictures[index]) for index in order), out, told.append) == 21
    assert np.allclose(out[:21], alone, rtol=1e-5, atol=1e-5)
    assert not out[21:].any(), "rows of pictures that did not come are left alone"
    assert told == [8, 16, 21]


def test_an_empty_stream_is_no_work(engine: FeatureEngine) -> None:
    assert extract(engine, iter(()), np.zeros((0, 48), np.float32)) == 0


class Counting:
    """Four at a time; remembers how far the stream was ahead of it."""

    batch_size = 4
    parallel = 2

    def __init__(self, fail_at: int = -1) -> None:
        self.read = self.done = self.ahead = 0
        self.fail_at = fail_at
        self.lock = threading.Lock()

    def stream(self, count: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for index in range(count):
            with self.lock:
                self.read += 1
                self.ahead = max(self.ahead, self.read - self.done)
            yield index, np.full((2, 2, 3), index % 256, np.uint8)

    def predict(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self.lock:
            self.done += len(batch)
            if 0 <= self.fail_at < self.done:
                raise EngineError("broken")
        return batch[:, 0, 0, :1].astype(np.float32)


def test_a_long_stream_is_read_only_a_few_batches_ahead() -> None:
    counting = Counting()
    out = np.zeros((1000, 1), np.float32)
    assert extract(counting, counting.stream(1000), out) == 1000
    assert np.array_equal(out[:, 0], np.arange(1000) % 256)
    assert counting.ahead <= 4 * (2 * counting.parallel + 2)


def test_what_the_engine_and_the_stream_raise_ends_the_work() -> None:
    counting = Counting(fail_at=100)
    with pytest.raises(EngineError, match="broken"):
        extract(counting, counting.stream(100_000), np.zeros((100_000, 1), np.float32))
    assert counting.read < 1000

    def broken() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        yield from Counting().stream(10)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        extract(Counting(), broken(), np.zeros((10, 1), np.float32))


def test_a_model_whose_answer_forks_cannot_be_cut(own_version: ModelVersion) -> None:
    """Two dense layers added up: there is no last one."""
    from models.engines.openvino import import_openvino

    openvino = import_openvino()
    ops = openvino.opset13
    images = ops.parameter([-1, 32, 32, 3], np.uint8, name="images")
    rows = ops.reshape(ops.convert(images, np.float32), ops.constant(np.array([0, 3072])), special_zero=True)
    kernels = [ops.constant(np.ones((3072, 10), np.float32)) for _ in range(2)]
    logits = ops.add(*(ops.matmul(rows, kernel, False, False) for kernel in kernels))
    top = ops.topk(ops.softmax(logits, -1), ops.constant(np.int32(10)), -1, "max", "value", "i32")
    top.output(0).get_tensor().set_names({"scores"})
    top.output(1).get_tensor().set_names({"indices"})
    model = openvino.Model([ops.result(top.output(1)), ops.result(top.output(0))], [images], "forked")
    folder = own_version.path.parent / "forked"
    (folder / "openvino").mkdir(parents=True)
    openvino.save_model(model, folder / "openvino" / "model.xml", compress_to_fp16=False)
    with pytest.raises(InvalidModel, match="does not end in one dense layer"):
        FeatureEngine(replace(own_version, path=folder))
