"""The probe catches what would put wrong labels into the database, and lets honest rounding pass."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from models.engines.base import Batch, Engine, Indices, Scores
from models.engines.openvino import OpenVINOEngine, Precision
from models.errors import InvalidModel, ModelRefused
from models.images import load_picture
from models.manifest import ModelVersion, Preprocessing
from models.probe import (
    TOLERANCE,
    TOLERANCE_FLOAT32,
    answer,
    check_probe,
    load_probe,
    make_probe,
    measure_drift,
    save_probe,
)

KINDS = ("rgb", "grey_logits", "many_classes")
GOLDEN = "058e043150b348dffa75bef21d7a124fc5a6be1e71920c778e4cc3a0256c8d32"


class Bent:
    """An engine between the probe and another, which changes what goes in or comes out."""

    def __init__(
        self,
        engine: Engine,
        before: Callable[[Batch], Batch] = lambda batch: batch,
        after: Callable[[Indices, Scores], tuple[Indices, Scores]] = lambda indices, scores: (indices, scores),
    ) -> None:
        self._engine = engine
        self._before = before
        self._after = after
        self.name = engine.name
        self.labels = engine.labels
        self.batch_size = engine.batch_size
        self.parallel = engine.parallel
        self.memory_bytes = engine.memory_bytes
        self.precision = getattr(engine, "precision", "")

    def predict(self, batch: Batch) -> tuple[Indices, Scores]:
        return self._after(*self._engine.predict(np.ascontiguousarray(self._before(batch))))

    def close(self) -> None:
        self._engine.close()


@pytest.fixture(scope="module", params=KINDS)
def loaded(
    request: pytest.FixtureRequest, small_version: Callable[[str], ModelVersion]
) -> Iterator[tuple[ModelVersion, Engine]]:
    version = small_version(request.param)
    engine = OpenVINOEngine(version, precision="bf16")
    yield version, engine
    engine.close()


def swapping(first: int, second: int, classes: int) -> Callable[[Indices, Scores], tuple[Indices, Scores]]:
    """Two outputs in each other's place."""
    order = np.arange(classes, dtype=np.int32)
    order[[first, second]] = second, first
    return lambda indices, scores: (order[indices], scores)


def test_the_pictures_are_the_same_on_every_machine() -> None:
    """Versions in registries depend on them: whoever changes _source() makes every registered model refuse to load."""
    digest = hashlib.sha256(make_probe(Preprocessing(48, 32, crop="squash", interpolation="nearest")).tobytes())
    assert digest.hexdigest() == GOLDEN


def test_the_pictures_differ_and_use_the_whole_range() -> None:
    images = make_probe(Preprocessing(64, 64))
    assert images.shape == (8, 64, 64, 3)
    assert len({image.tobytes() for image in images}) == 8
    assert images.min() < 30
    assert images.max() > 230


def test_a_saved_probe_is_read_back(tmp_path: Path) -> None:
    images = make_probe(Preprocessing(20, 16, channels=1), n=3)
    probabilities = np.random.default_rng(0).random((3, 5), dtype=np.float32)
    save_probe(tmp_path / "probe.npz", images, probabilities)
    found = load_probe(tmp_path / "probe.npz")
    np.testing.assert_array_equal(found[0], images)
    np.testing.assert_array_equal(found[1], probabilities)


@pytest.mark.parametrize("content", [None, b"", b"no zip", "pickle", "half"])
def test_a_missing_or_damaged_probe_is_an_invalid_model(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "probe.npz"
    if content == "pickle":
        with path.open("wb") as file:
            np.savez(file, images=np.array([{}], dtype=object), probabilities=np.zeros(1))
    elif content == "half":
        save_probe(path, make_probe(Preprocessing(8, 8)), np.zeros((8, 2), np.float32))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(InvalidModel, match="expected a probe"):
        load_probe(path)


# What must pass


@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_honest_engine_passes(kind: str, precision: Precision, small_version: Callable[[str], ModelVersion]) -> None:
    engine = OpenVINOEngine(small_version(kind), precision=precision)
    check_probe(engine, small_version(kind))
    engine.close()


def test_bfloat16_stays_far_from_the_tolerance(loaded: tuple[ModelVersion, Engine]) -> None:
    version, engine = loaded
    images, expected = load_probe(version.path / "probe.npz")
    assert measure_drift(*answer(engine, images), expected).ratio < TOLERANCE / 3


# What must not


FAULTS: dict[str, Callable[[Batch], Batch]] = {
    "colours in another order": lambda batch: batch[..., ::-1],
    "half as bright": lambda batch: batch // 2,
    "inverted": lambda batch: 255 - batch,
    "mirrored": lambda batch: batch[:, :, ::-1],
    "upside down": lambda batch: batch[:, ::-1],
    "the next picture's answer": lambda batch: np.roll(batch, 1, axis=0),
    "black": lambda batch: batch * 0,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_pixels_that_arrive_differently_are_refused(fault: str, loaded: tuple[ModelVersion, Engine]) -> None:
    version, engine = loaded
    if fault == "colours in another order" and version.manifest.preprocessing.channels == 1:
        pytest.skip("grey has no order of colours")
    with pytest.raises(ModelRefused, match="does not answer as Keras did"):
        check_probe(Bent(engine, FAULTS[fault]), version)


@pytest.mark.parametrize(("precision", "share"), [("f32", 1.0), ("bf16", 0.85)])
def test_swapped_classes_are_refused(
    precision: Precision, share: float, small_version: Callable[[str], ModelVersion]
) -> None:
    """In float32 every pair; in bfloat16 but for pairs that the pictures of the probe hardly tell apart."""
    version = small_version("rgb")
    engine = OpenVINOEngine(version, precision=precision)
    pairs = list(combinations(range(version.manifest.classes), 2))
    refused = 0
    for pair in pairs:
        with suppress(ModelRefused):
            check_probe(Bent(engine, after=swapping(*pair, version.manifest.classes)), version)
            continue
        refused += 1
    engine.close()
    assert refused >= share * len(pairs)


@pytest.mark.parametrize(("precision", "tolerance"), [("f32", TOLERANCE_FLOAT32), ("bf16", TOLERANCE)])
def test_another_model_is_refused_with_the_difference_shown(
    precision: Precision, tolerance: float, own_version: ModelVersion
) -> None:
    """The same architecture with other weights: its compiled form in this version's folder."""
    _, expected = load_probe(own_version.path / "probe.npz")
    graph = (own_version.path / "openvino" / "model.xml").read_text(encoding="utf-8")
    model = own_version.path / "openvino" / "model.bin"
    weights = np.fromfile(model, np.uint8)
    for offset, size in re.findall(r'element_type="f32" shape="[^"]*" offset="(\d+)" size="(\d{4,})"', graph):
        part = weights[int(offset) : int(offset) + int(size)].view(np.float32)
        part[:] = np.roll(part, 7)
    weights.tofile(model)
    engine = OpenVINOEngine(own_version, precision=precision)
    with pytest.raises(ModelRefused) as caught:
        check_probe(engine, own_version)
    engine.close()
    said = str(caught.value)
    assert "rgb@1" in said
    assert "'class " in said
    assert "was expected" in said
    assert f"at most {tolerance:g}" in said
    picture = int(said.partition("probe picture ")[2].partition(" ")[0])
    assert f"'class {expected[picture].argmax()}'" in said


def test_scores_that_are_no_numbers_are_refused(loaded: tuple[ModelVersion, Engine]) -> None:
    version, engine = loaded
    with pytest.raises(ModelRefused):
        check_probe(Bent(engine, after=lambda indices, scores: (indices, scores * np.float32("nan"))), version)


def test_swapped_labels_are_refused_by_the_registered_hash(own_version: ModelVersion) -> None:
    path = own_version.path / "labels.json"
    facts = {"labels.json": {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}}
    version = replace(own_version, manifest=replace(own_version.manifest, files=facts))
    engine = OpenVINOEngine(version)
    check_probe(engine, version)
    labels = json.loads(path.read_text(encoding="utf-8"))
    labels[0], labels[1] = labels[1], labels[0]
    path.write_text(json.dumps(labels), encoding="utf-8")
    with pytest.raises(ModelRefused, match=r"labels\.json is not the one that was registered"):
        check_probe(engine, version)
    engine.close()


OTHER_WAYS: list[tuple[str, object]] = [
    ("interpolation", "bicubic"),
    ("interpolation", "lanczos"),
    ("interpolation", "area"),
    ("interpolation", "nearest"),
    ("crop", "pad"),
    ("crop", "center"),
    ("crop_fraction", 0.8),
]


@pytest.mark.parametrize(("setting", "value"), OTHER_WAYS)
def test_another_crop_or_resize_filter_is_refused(
    setting: str, value: object, loaded: tuple[ModelVersion, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if another release of the code prepared pictures in another way than the manifest says."""
    version, engine = loaded
    said = version.manifest.preprocessing
    if getattr(said, setting) == value or (setting == "crop_fraction" and said.crop != "center"):
        pytest.skip("this is the model's own way")

    def otherwise(data: bytes, preprocessing: Preprocessing) -> object:
        return load_picture(data, replace(preprocessing, **{setting: value}))  # type: ignore[arg-type]  # by name

    monkeypatch.setattr("models.probe.load_picture", otherwise)
    with pytest.raises(ModelRefused, match="prepares pictures differently"):
        check_probe(engine, version)


def test_a_rounding_of_one_in_the_pixels_is_let_pass(
    loaded: tuple[ModelVersion, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    version, engine = loaded

    def rounded(data: bytes, preprocessing: Preprocessing) -> object:
        found = load_picture(data, preprocessing)
        return replace(found, pixels=found.pixels - (found.pixels > 128))

    monkeypatch.setattr("models.probe.load_picture", rounded)
    check_probe(engine, version)


def test_a_version_without_a_probe_may_not_serve(own_version: ModelVersion) -> None:
    engine = OpenVINOEngine(own_version)
    (own_version.path / "probe.npz").unlink()
    with pytest.raises(ModelRefused, match="cannot be checked"):
        check_probe(engine, own_version)
    engine.close()


def test_near_ties_may_change_places() -> None:
    """Two classes that were equal but for a hair: another order is no drift."""
    expected = np.array([[0.4001, 0.3999, 0.15, 0.05]], np.float32)
    drift = measure_drift(np.array([[1, 0, 2, 3]], np.int32), np.array([[0.4, 0.4, 0.15, 0.05]], np.float32), expected)
    assert not drift.flipped
    assert drift.ratio < 0.01


def test_a_clear_best_class_may_not_change() -> None:
    expected = np.array([[0.9, 0.05, 0.03, 0.02]], np.float32)
    drift = measure_drift(np.array([[1]], np.int32), np.array([[0.05]], np.float32), expected)
    assert drift.flipped
    assert (drift.expected[0], drift.got[0]) == (0, 1)
